"""Loader processes: as many as there are cores, or a line; none outlives what it loads for."""

import multiprocessing
import os
import warnings
from contextlib import closing

import pytest

from lt_train.data.workers import loaded, many_workers_note


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
        batches = list(loaded(range(4), batch_sampler=[[0, 1], [2, 3]], num_workers=2, collate_fn=list))
    assert batches == [[0, 1], [2, 3]]
    assert not [warning for warning in said if "DataLoader" in str(warning.message)]


class Failing:
    """A data set whose third sample is an error that nothing expects."""

    def __getitem__(self, row):
        if row == 2:
            raise MemoryError
        return row


def until_its_end(batches):
    list(batches)


def until_another_error(batches):
    next(batches)
    raise MemoryError


@pytest.mark.parametrize("look", [until_its_end, until_another_error])
def test_no_process_outlives_an_error(look):
    before = set(multiprocessing.active_children())
    # kept, as a notebook keeps the last one, and with it every name on the way to it
    with (
        pytest.raises(MemoryError) as error,
        closing(loaded(Failing(), batch_sampler=[[0], [1], [2]], num_workers=2)) as batches,
    ):
        look(batches)
    assert error.traceback
    assert set(multiprocessing.active_children()) == before
