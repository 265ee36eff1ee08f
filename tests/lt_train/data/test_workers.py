"""Loader processes: as many as there are cores, or a line."""

import os
import warnings

import pytest

from lt_train.data.workers import many_workers_note, started


@pytest.fixture
def one_core(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0})


def test_more_processes_than_cores_are_a_line(one_core):
    (line,) = many_workers_note(2)
    assert line.startswith("warning: data.workers=2 is more than the cores that may be used (1)")
    assert many_workers_note(1) == many_workers_note(0) == ()


def test_pytorch_does_not_say_it_too(one_core):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        batches = list(started(range(4), batch_sampler=[[0, 1], [2, 3]], num_workers=2, collate_fn=list))
    assert batches == [[0, 1], [2, 3]]
    assert not [warning for warning in said if "DataLoader" in str(warning.message)]
