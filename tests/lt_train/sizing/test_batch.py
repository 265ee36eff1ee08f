"""The batch that fits: arithmetic on what an image needs, and ``optim.batch=auto`` in a run."""

import json

import pytest
import torch
import yaml

from lt_data.errors import LtError
from lt_train.engine.fit import fit
from lt_train.runs.checkpoint import load_checkpoint
from lt_train.sizing.batch import SHARE, fitting_batch
from lt_train.sizing.step_cost import StepCost, step_cost

GIB = 2**30
COST = StepCost(weights=GIB, image=2 * GIB, seconds=0.0, width=8, height=8)


@pytest.mark.parametrize(
    ("options", "batch"),
    [
        ({"memory": 100 * GIB, "images": 10_000, "gpu": True}, 16),
        # 1 + 2 * 8 GiB are more than the share of it, 1 + 2 * 4 are not
        ({"memory": int(16 * GIB / SHARE), "images": 10_000, "gpu": True}, 4),
        ({"memory": 100 * GIB, "images": 10_000, "gpu": False}, 4),
        ({"memory": 100 * GIB, "images": 90, "gpu": True}, 4),
        ({"memory": 100 * GIB, "images": 5, "gpu": True}, 1),
        ({"memory": GIB, "images": 10_000, "gpu": True}, 1),
        ({"memory": None, "images": 10_000, "gpu": True}, 16),
        # whole micro-batches, of every process
        ({"memory": GIB, "images": 10_000, "gpu": True, "unit": 2, "world": 3}, 6),
        # each GPU has its own memory, a processor shares one
        ({"memory": int(10 * GIB / SHARE), "images": 10_000, "gpu": True, "world": 4}, 16),
        ({"memory": int(9 * GIB / SHARE), "images": 10_000, "gpu": False, "world": 2}, 2),
    ],
)
def test_the_batch_is_bounded_by_memory_and_by_the_length_of_an_epoch(options, batch):
    assert fitting_batch(COST, **options).images == batch


def test_every_kind_of_detector_is_measured(tiny_recipe):
    from lt_train.runs.data import load_run_data

    data = load_run_data(tiny_recipe())
    for name in ("faster_rcnn_small", "cascade_rcnn_small", "htc_small"):
        options = ("model.semantic=stuff", "data.train.stuff=maps") if name.startswith("htc") else ()
        recipe = tiny_recipe(f"model.name={name}", *options)
        cost = step_cost(recipe, data.train.counts, data.groups, torch.device("cpu"), timed=True)
        assert min(cost) > 0


def test_a_pass_that_takes_long_is_the_one_that_counts(tiny_recipe, monkeypatch):
    from lt_train.runs.data import load_run_data
    from lt_train.sizing import step_cost as module

    data, recipe = load_run_data(tiny_recipe()), tiny_recipe()
    for seconds, counts in ([[9.0, 2.0], 2.0], [[90.0], 90.0]):
        clock = iter([0.0, seconds[0], 100.0, 100.0 + seconds[-1]])
        monkeypatch.setattr(module.time, "perf_counter", lambda clock=clock: next(clock))
        cost = step_cost(recipe, data.train.counts, data.groups, torch.device("cpu"), timed=True)
        assert cost.seconds == counts


def test_a_batch_too_large_is_said():
    assert fitting_batch(COST, images=10_000, memory=GIB, gpu=True).why == (
        "a step of 1 needs about 3.0 of 1.0 GiB, which may be too much: it is the smallest"
    )


def test_bytes_are_counted_and_grow_with_the_image(tiny_recipe):
    from lt_train.runs.data import load_run_data

    data = load_run_data(tiny_recipe())

    def cost(*overrides):
        return step_cost(tiny_recipe(*overrides), data.train.counts, data.groups, torch.device("cpu"))

    small, large = cost(), cost("model.min_size=128", "model.max_size=256")
    assert small == cost()
    assert (small.width, small.height, large.width, large.height) == (64, 64, 171, 128)
    assert large.image > 2 * small.image
    assert large.weights == small.weights
    # no gradients and no momentum of what stays, and nothing kept for them
    classifier = cost("train=classifier")
    assert classifier.weights < small.weights / 2
    assert classifier.image < small.image / 2


def test_a_run_records_the_number_that_auto_became_and_goes_on_with_it(tiny_recipe, tmp_path, monkeypatch):
    recipe = tiny_recipe("optim.batch=auto", "data.val=null")
    assert recipe.to_plain()["optim"]["batch"] == "auto"
    monkeypatch.setattr("lt_train.sizing.batch.LEAST_STEPS", 3)
    run = fit(recipe, tmp_path / "run")
    assert yaml.safe_load(run.recipe.read_text())["optim"]["batch"] == 4
    assert load_checkpoint(run.last)["recipe"]["optim"]["batch"] == 4
    said = [line for line in run.log.read_text().splitlines() if "optim.batch=auto: 4 images (a step of 4" in line]
    assert len(said) == 1
    # a machine on which it would be another number
    monkeypatch.setattr("lt_train.sizing.batch.MOST_ON_CPU", 1)
    fit(recipe, run.path, resume=True)
    assert "note: goes on with optim.batch=4, with which the run began" in run.log.read_text()
    assert json.loads(run.metrics.read_text().splitlines()[-1])["step"] == 3


@pytest.mark.parametrize("value", ["0", "-1", "much", "1.5"])
def test_no_other_words(tiny_recipe, value):
    with pytest.raises(LtError, match="optim.batch: got"):
        tiny_recipe(f"optim.batch={value}")
