"""A sound annotation file, and what a check finds in one by code."""

from lt_data.checks.check import check_file
from tests.lt_data.pools import pool, save


def base():
    """Three images and two categories without anything to find but information on nothing."""
    return pool({1: [1, 2], 2: [1], 3: [2]})


def codes(report):
    return {finding.code: finding for finding in report.findings}


def found(tmp_path, content, **options):
    return codes(check_file(save(content, tmp_path / "a.json"), **options))
