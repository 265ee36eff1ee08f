"""Several processes: the same results as one, nobody waits for ever, one line for an error."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import torch
from torch.distributed import TCPStore

from lt_data.errors import DataError, RecipeError
from lt_train import processes as distributed
from lt_train.engine.fit import fit
from lt_train.evaluation import Detections
from lt_train.inference.detect import FoundById, ImageDetections, merge
from lt_train.inference.evaluate_run import evaluate_run
from lt_train.launch import new_round
from lt_train.processes import Processes, process_device, run_together
from lt_train.recipe.sections import Files
from tests.lt_train.narrow import NARROW_CODE
from tests.lt_train.several import start


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A trained model and 7 images of two sizes: 2 and 3 processes have unequal shares."""
    from lt_data.synthetic.pool import write_pool
    from lt_train.recipe.load import make_recipe

    folder = tmp_path_factory.mktemp("several")
    write_pool(folder / "pool", images=7, categories=20, size=64, instances_per_image=(3, 6), minimum_instances=0)
    files = {"annotations": str(folder / "pool/annotations.json"), "images": str(folder / "pool/images")}
    recipe = {
        "data": {"train": files, "val": files, "groups": [2, 4], "workers": 0},
        "model": {"name": "mask_rcnn_small", "min_size": [64], "max_size": 64, "num_detections": 10,
                  "score_threshold": 0.001},
        "optim": {"batch": 2, "base_batch": 2},
        "schedule": {"iterations": 2, "decay": [1], "warmup": 1},
        "eval": {"batch": 2},
        "device": "cpu",
    }  # fmt: skip
    fit(make_recipe(recipe), folder / "run")
    return folder / "run"


def evaluation(run, out, files=None):
    done = evaluate_run(run, files=files, out=out)
    return None if done is None else done[1].name


@pytest.fixture(scope="module")
def alone(run):
    assert evaluation(run, run.parent / "one") == "one"
    return run.parent / "one"


@pytest.mark.parametrize("world", [2, 3])
def test_metrics_and_predictions_are_those_of_one_process(run, alone, tmp_path, world):
    assert start(world, partial(evaluation, run, tmp_path / "several")) == ["'several'"] + ["None"] * (world - 1)
    assert json.loads((alone / "metrics.json").read_text())["counts"]["images"] == 7
    assert len(json.loads((alone / "predictions.json").read_text())) > 20
    for name in ("metrics.json", "predictions.json", "per_class.csv", "inputs.json"):
        assert (tmp_path / "several" / name).read_bytes() == (alone / name).read_bytes(), name


@pytest.mark.slow
def test_torchrun(run, alone, tmp_path):
    lt_train = tmp_path / "lt_train_narrow.py"
    lt_train.write_text(NARROW_CODE + "from lt_cli.train import main\nmain()\n")
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"),
        *(lt_train, "eval", run, "--out", tmp_path / "two"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("written:") == 1
    assert (tmp_path / "two/metrics.json").read_bytes() == (alone / "metrics.json").read_bytes()


def test_what_all_processes_refuse_is_said_once(run, alone):
    said = start(2, partial(evaluation, run, alone))
    assert sorted(text.split(":")[0] for text in said) == ["None", "error"]
    assert "--force" in "".join(said)


def test_an_image_that_cannot_be_read_ends_all_with_one_line(run, tmp_path):
    pool = tmp_path / "pool"
    shutil.copytree(run.parent / "pool", pool)
    sorted((pool / "images").iterdir())[2].write_bytes(b"no image")
    files = Files(annotations=pool / "annotations.json", images=pool / "images")
    said = start(3, partial(evaluation, run, tmp_path / "out", files))
    assert sorted(text.split(":")[0] for text in said) == ["None", "None", "error"]
    assert "not a readable image" in "".join(said)
    assert not (tmp_path / "out").exists()


def work_of(processes, fail=None, kill=None, slow=None, before=0):
    for number in range(before):
        parts = processes.gather(bytes([number]) * (processes.rank + 1))
        assert parts is None or [set(part) for part in parts] == [{number}] * processes.world
    if processes.rank == slow:
        time.sleep(1)
    if processes.rank == fail:
        raise DataError(f"process {fail} met something")
    if processes.rank == kill:
        os.kill(os.getpid(), signal.SIGKILL)
    parts = processes.gather(bytes([processes.rank]) * (processes.rank + 1))
    return parts and [len(part) for part in parts]


def together(**what):
    distributed.FAREWELL = 2
    return run_together(partial(work_of, **what))


@pytest.mark.parametrize("slow", [0, 1])
def test_gather_keeps_the_order_of_ranks(slow):
    assert start(3, partial(together, slow=slow)) == ["[1, 2, 3]", "None", "None"]


@pytest.mark.parametrize("fail", [None, 0, 2])
def test_a_later_gathering_has_turns_of_its_own(fail):
    expected = ["[1, 2, 3]", "None", "None"]
    if fail is not None:
        expected = ["None"] * 3
        expected[fail] = f"error: process {fail} met something"
    assert start(3, partial(together, fail=fail, slow=fail or 1, before=2)) == expected


@pytest.mark.parametrize("fail", [0, 1, 2])
def test_the_process_that_fails_says_so_and_no_other(fail):
    expected = ["None"] * 3
    expected[fail] = f"error: process {fail} met something"
    assert start(3, partial(together, fail=fail, slow=fail)) == expected


def test_a_process_that_is_killed_is_noticed():
    said = start(3, partial(together, kill=1))
    assert said[1:] == ["killed", "None"]
    assert "error: process 1 of 3 ended before all results were collected" in said[0]


def test_processes_that_torchrun_starts_again_see_nothing_of_those_before():
    """Its store lives on, and with it that one of them failed and where they were to be reached."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    environment = {"MASTER_PORT": str(store.port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
    failed = start(2, partial(together, fail=1), **environment, TORCHELASTIC_RESTART_COUNT="0")
    assert failed == ["None", "error: process 1 met something"]
    assert start(2, together, **environment, TORCHELASTIC_RESTART_COUNT="1") == ["[1, 2]", "None"]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE: 'two'"),
        ({"WORLD_SIZE": "2"}, "RANK: not set"),
        ({"WORLD_SIZE": "2", "RANK": "0"}, "process 0 of 2 cannot find the others"),
    ],
)
def test_an_environment_that_is_incomplete(environment, expected, monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RecipeError, match=expected):
        run_together(lambda _: None)


@pytest.mark.parametrize("world", range(1, 9))
def test_shares_cover_all_and_repeat_none(world):
    shares = [Processes(rank, world).share(range(7)) for rank in range(world)]
    assert sorted(row for share in shares for row in share) == list(range(7))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def part(*ids):
    def found(image_id):
        mask = {"size": [1, 1], "counts": "01"}
        return Detections(np.array([image_id]), np.array([4]), np.full((1, 4), 0.1), np.array([0.3]), [mask])

    return FoundById({i: ImageDetections(1, 1, found(i)) for i in ids}, {})


def test_what_a_process_found_reaches_another_bit_for_bit():
    found = part(3, 9)
    found.unreadable[4] = "image 4 is broken"
    again = FoundById.from_bytes(found.to_bytes())
    assert list(again.detections().records()) == list(found.detections().records())
    assert again.detections().boxes.dtype == np.float64
    assert [(i, image.width, image.height) for i, image in again.images.items()] == [(3, 1, 1), (9, 1, 1)]
    assert again.unreadable == found.unreadable
    assert FoundById.from_bytes(FoundById({}, {}).to_bytes()) == FoundById({}, {})


def test_merging_orders_by_image_and_refuses_what_is_twice_or_missing():
    ids = np.array([5, 3, 9])
    assert merge([part(3), part(9, 5)], ids).detections().images.tolist() == [5, 3, 9]
    unread = FoundById({}, {9: "image 9 is broken"})
    assert merge([part(3, 5), unread], ids).unreadable == {9: "image 9 is broken"}
    with pytest.raises(DataError, match="image 3 was looked at by processes 0 and 1"):
        merge([part(3, 5), part(3, 9)], ids)
    with pytest.raises(DataError, match=r"1 images .*image ids 9"):
        merge([part(3), part(5)], ids)
    with pytest.raises(DataError, match=r"1 images .*image ids 4"):
        merge([part(3, 4), part(5, 9)], ids)


def test_devices_of_processes(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    chosen = []
    monkeypatch.setattr("torch.cuda.set_device", chosen.append)
    assert process_device("auto", Processes()) == "auto"
    second = Processes(3, 4, local_rank=1)
    assert [process_device(name, second) for name in ("auto", "cuda", "cpu", "cuda:0")] == [
        "cuda:1", "cuda:1", "cpu", "cuda:0",
    ]  # fmt: skip
    assert chosen == [1, 1]
    with pytest.raises(RecipeError, match="start at most 2 processes"):
        process_device("auto", Processes(2, 4, local_rank=2))


def test_processes_that_start_again_have_a_round_of_their_own():
    """torchrun keeps one store: it still holds the words of those that are gone."""
    store = torch.distributed.HashStore()

    def meet(world):
        with ThreadPoolExecutor(world) as pool:
            return list(pool.map(lambda rank: new_round(store, rank, world, patience=60), range(world)))

    assert meet(3) == [1, 1, 1]
    # one that wrote its word and died
    store.set("lt/word/1", "gone")
    assert meet(3) == [2, 2, 2]
    assert meet(2) == [3, 3]
    with pytest.raises(RuntimeError, match="not all processes came"):
        new_round(store, 0, 2, patience=0.1)


def test_what_a_failed_process_held_is_freed_before_it_leaves(monkeypatch):
    """A model in its frames would keep the connections open at which the others wait."""

    class Model:
        pass

    def inner():
        model = Model()
        held.append(weakref.ref(model))
        raise ValueError(held)

    def work(processes):
        try:
            inner()
        except ValueError:
            raise DataError("the disk is full") from None

    held, freed = [], []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(distributed, "_join", lambda: Processes(0, 2, 0, torch.distributed.HashStore()))
    monkeypatch.setattr(distributed, "_ignore_signals", lambda: None)
    monkeypatch.setattr(distributed, "_leave", lambda _: freed.append(held[0]() is None))
    with pytest.raises(DataError, match="the disk is full"):
        run_together(work)
    assert freed == [True]
