"""A sound annotation file, and what a check finds in one by code."""

from pools import pool, save

from lt_data.checks.check import check


def base():
    """Three images and two categories without anything to find but information on nothing."""
    return pool({1: [1, 2], 2: [1], 3: [2]})


def codes(report):
    return {finding.code: finding for finding in report.findings}


def found(tmp_path, content, **options):
    return codes(check(save(content, tmp_path / "a.json"), **options))
