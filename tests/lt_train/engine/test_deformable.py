"""A run with deformable convolutions and sizes of a range, stopped and gone on with."""

import pytest
import torch

from lt_train.engine.fit import fit
from lt_train.inference.evaluate_run import evaluate_run
from tests.lt_train.engine.reading_runs import losses, weights
from tests.lt_train.engine.stepping import interrupt_in_step

OPTIONS = (
    *("model.name=faster_rcnn_r50_fpn", "model.dcn=c3-c5", "model.min_size_range=[72,96]", "model.max_size=96"),
    *("model.test_min_size=64", "model.test_max_size=64", "trackers=[]"),
)


@pytest.mark.slow
def test_it_goes_on_as_if_never_stopped(tiny_recipe, tmp_path, monkeypatch):
    """On a CPU: the offsets have moved from zero, and all weights are the same bits; the run is measured by itself."""
    straight = fit(tiny_recipe(*OPTIONS), tmp_path / "straight")
    monkeypatch.setattr("lt_train.engine.fit._save_every", lambda _: 1)
    go_on = interrupt_in_step(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        fit(tiny_recipe(*OPTIONS), tmp_path / "run")
    go_on()
    run = fit(tiny_recipe(*OPTIONS), tmp_path / "run", resume=True)
    assert losses(run) == losses(straight)
    once, again = weights(straight), weights(run)
    assert all(torch.equal(value, again[name]) for name, value in once.items())
    offsets = [name for name in once if ".conv2.offset." in name]
    assert len(offsets) == 2 * 13
    assert all(bool(once[name].abs().sum() > 0) for name in offsets)
    before = (run.evaluation / "metrics.json").read_bytes()
    evaluate_run(run.path, force=True)
    assert (run.evaluation / "metrics.json").read_bytes() == before
