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


@pytest.mark.parametrize(
    "name",
    [
        "faster_rcnn_mobilenet_v3_large_fpn",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("mask_rcnn_mobilenet_v3_large_fpn", "faster_rcnn_r18_fpn", "mask_rcnn_r18_fpn")
        ),
    ],
)
def test_a_method_of_each_kind(name, made_here, tiny_recipe, tmp_path):
    """Sampler, head of a second stage, second head, calibration; frozen stages and the trunk of stage 2 stay."""
    model = (f"model.name={name}", *STEPS)
    base = fit(tiny_recipe(*model, "method=rfs", "data.val=null"), tmp_path / "rfs")
    bags = fit(tiny_recipe(*model, "method=bags", "data.val=null"), tmp_path / "bags", init_from=base.path)
    second = fit(tiny_recipe(*model, "method=simcal", "data.val=null"), tmp_path / "simcal", init_from=base.path)
    val = tiny_recipe().data.val
    measured_on = (f"data.val.annotations={val.annotations}", f"data.val.images={val.images}")
    calibrated = calibrate_run(base.path, "tau-norm-select", tmp_path / "tau", overrides=measured_on)
    first, stage_two = weights(base), weights(bags)
    trunk = [key for key in first if key.startswith("backbone.")]
    assert all(torch.equal(first[key], stage_two[key]) for key in trunk)
    assert all(bool(value.isfinite().all()) for value in first.values())
    for run in (base, bags, second):
        assert len(losses(run)) == 2
    figures = json.loads((calibrated.evaluation / "metrics.json").read_text())
    assert ("segm" in figures) == name.startswith("mask")
