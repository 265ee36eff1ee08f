"""Processes that a test starts, which find each other as those of a launcher do."""

import multiprocessing
import os
import socket

import pytest
import torch

from lt_data.errors import LtError
from lt_train.processes import StoppedElsewhere
from tests.lt_train.narrow import is_narrow, narrow
from tests.lt_train.pictures import leave_out_pictures


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def one_process(queue, rank, world, narrowed, environment, work):
    torch.set_num_threads(1)
    leave_out_pictures(pytest.MonkeyPatch())
    if narrowed:
        narrow(pytest.MonkeyPatch())
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world), MASTER_ADDR="127.0.0.1", **environment)
    try:
        queue.put((rank, repr(work())))
    except StoppedElsewhere as stopped:
        # it says nothing, and knows why
        queue.put((rank, "None" if not stopped.problems and str(stopped) else "stopped without a reason"))
    except LtError as error:
        queue.put((rank, f"error: {error}"))
    except KeyboardInterrupt as error:
        queue.put((rank, f"interrupted: {error}"))


def start(world, work, **environment):
    """What each process returned or raised, as text, by rank; ``killed`` for one that said nothing."""
    # children of a fresh process, which has imported everything and started no thread
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lt_train.inference.evaluate_run", "lt_train.engine.fit"])
    queue, environment = context.Queue(), {"MASTER_PORT": free_port(), **environment}
    children = [
        context.Process(target=one_process, args=(queue, rank, world, is_narrow(), environment, work))
        for rank in range(world)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(600)
    assert not any(child.is_alive() for child in children)
    said = {}
    while len(said) < sum(child.exitcode == 0 for child in children):
        rank, text = queue.get(timeout=600)
        said[rank] = text
    return [said.get(rank, "killed") for rank in range(world)]
