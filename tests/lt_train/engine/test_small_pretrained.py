"""Runs of the detectors with a ResNet-18 and a MobileNetV3: a method of each kind takes its steps and is measured."""

import json

import pytest
import torch
import torchvision

from lt_train.detectors import published
from lt_train.engine.calibrate import calibrate_run
from lt_train.engine.fit import fit
from tests.lt_train.engine.reading_runs import losses, weights

STEPS = ("schedule.iterations=2", "schedule.decay=[1]", "model.weights=imagenet", "trackers=[]")


@pytest.fixture
def made_here(monkeypatch, tmp_path):
    """Files of ImageNet with random numbers where downloads would be checked."""

    def serve(url):
        path = tmp_path / url.rpartition("/")[2]
        if not path.exists():
            torch.manual_seed(0)
            make = torchvision.models.get_model_builder(path.name.rpartition("-")[0])
            torch.save(make(weights=None).state_dict(), path)
        return path

    monkeypatch.setattr(published, "published_file", serve)


def both_stages(tiny_recipe, folder, *model):
    base = fit(tiny_recipe(*model, "method=rfs", "data.val=null"), folder / "rfs")
    return base, fit(tiny_recipe(*model, "method=bags", "data.val=null"), folder / "bags", init_from=base.path)


def test_stage_two_leaves_the_trunk(made_here, tiny_recipe, tmp_path):
    """Of the cheapest one; the slow test has the others, and other kinds of methods."""
    model = ("model.name=faster_rcnn_mobilenet_v3_large_fpn", *STEPS)
    base, bags = both_stages(tiny_recipe, tmp_path, *model)
    assert_same_trunk(base, bags)
    assert [len(losses(run)) for run in (base, bags)] == [2, 2]


def assert_same_trunk(*runs):
    first, second = (weights(run) for run in runs)
    trunk = [key for key in first if key.startswith("backbone.")]
    assert trunk
    assert all(torch.equal(first[key], second[key]) for key in trunk)
    assert all(bool(value.isfinite().all()) for value in first.values())


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [f"{kind}_rcnn_{trunk}_fpn" for trunk in ("mobilenet_v3_large", "r18") for kind in ("faster", "mask")],
)
def test_a_method_of_each_kind(name, made_here, tiny_recipe, tmp_path):
    """Sampler, head of a second stage, second head, calibration; frozen stages and the trunk of stage 2 stay."""
    model = (f"model.name={name}", *STEPS)
    base, bags = both_stages(tiny_recipe, tmp_path, *model)
    second = fit(tiny_recipe(*model, "method=simcal", "data.val=null"), tmp_path / "simcal", init_from=base.path)
    val = tiny_recipe().data.val
    measured_on = (f"data.val.annotations={val.annotations}", f"data.val.images={val.images}")
    calibrated = calibrate_run(base.path, "tau-norm-select", tmp_path / "tau", overrides=measured_on)
    assert_same_trunk(base, bags)
    assert [len(losses(run)) for run in (base, bags, second)] == [2, 2, 2]
    figures = json.loads((calibrated.evaluation / "metrics.json").read_text())
    assert ("segm" in figures) == name.startswith("mask")
