"""Several processes: the bytes of one, and its steps."""

import json
from functools import partial

import pytest
import torch

from lt_train.engine.fit import fit_together
from lt_train.features import cache as making
from lt_train.features.cache import cache_run, cache_together
from lt_train.features.systems import evaluate_systems
from lt_train.processes import run_together
from lt_train.runs.checkpoint import load_checkpoint
from lt_train.runs.directory import RunDir
from tests.lt_train.several import start

# of 12 images the second step of an epoch has two: one micro-batch, and a process without any image
OPTIONS = (
    *("method=bags-train-cls", "optim.batch=10", "optim.base_batch=10", "optim.micro_batch=5"),
    *("schedule.iterations=4", "schedule.decay=[]"),
)


def five_a_shard(size):
    return 5


def make_and_train(run, out, recipe):
    """Features, a classifier trained from them, and its masks, in a process among others."""
    making.images_per_shard = five_a_shard

    def work(processes):
        for part in ("train", "val"):
            cache_together(run, out / "features", processes, part=part, device="cpu")
        fit_together(recipe, out / "run", processes, init_from=run, from_features=out / "features")
        found = evaluate_systems([run, out / "nothing", out / "run"], out / "features", processes=processes)
        assert (found is None) != processes.is_first
        assert found is None or len(found.problems) == 1
        return "done"

    return run_together(work)


def files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.glob("*/shard-*/*"))}


def test_two_processes_go_on_to_the_bytes_of_one_and_take_its_steps(softmax_run, tiny_recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(making, "images_per_shard", five_a_shard)
    recipe = tiny_recipe(*OPTIONS)
    # one that ends after its first shard; two go on with what it leaves
    with monkeypatch.context() as patch:
        write, kept = making.write_shard, []

        def ended(folder, columns):
            if kept:
                raise KeyboardInterrupt
            kept.append(write(folder, columns))

        patch.setattr(making, "write_shard", ended)
        with pytest.raises(KeyboardInterrupt):
            cache_run(softmax_run.path, tmp_path / "2" / "features", device="cpu")
    (first,) = tmp_path.glob("2/features/train/shard-*")
    before = (first / "s0.features.npy").stat().st_mtime_ns
    make_and_train(softmax_run.path, tmp_path / "1", recipe)
    assert start(2, partial(make_and_train, softmax_run.path, tmp_path / "2", recipe)) == ["'done'", "None"]
    assert len(list(tmp_path.glob("2/features/train/shard-*"))) == 3
    assert (first / "s0.features.npy").stat().st_mtime_ns == before
    assert files(tmp_path / "2" / "features") == files(tmp_path / "1" / "features")
    first, second = (json.loads((tmp_path / world / "run/eval/metrics.json").read_text()) for world in ("1", "2"))
    for kind in ("bbox", "segm"):
        assert second[kind]["AP"] == pytest.approx(first[kind]["AP"], abs=1e-3)
    one, two = (load_checkpoint(RunDir(tmp_path / world / "run").last)["model"] for world in ("1", "2"))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-4, atol=1e-6, msg=name)
