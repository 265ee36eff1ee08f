"""Training from features against training from images: the same weights, for heads of every kind of draw."""

import json

import pytest
import torch

from lt_train.engine.fit import fit
from lt_train.features import cache as making
from lt_train.features import training
from lt_train.features.cache import cache_run
from lt_train.features.training import load_features
from tests.lt_train.engine.reading_runs import losses, weights

# each image alone in its forward pass, as features are made
STEPS = ("optim.batch=1", "optim.accumulate=3", "optim.base_batch=3", "schedule.iterations=6", "schedule.decay=[4]")
SYSTEMS = {
    "bags": ("method=bags-train-cls", *STEPS),
    "softmax, repeat factors": ("method=rfs", "train=classifier", "sampler.threshold=0.5", *STEPS),
    "crt, another seed": ("method=crt", "seed=7", *STEPS),
}


def test_features_that_lie_on_the_device_give_the_same_run(softmax_run, exact, tiny_recipe, tmp_path, monkeypatch):
    """As they do on a GPU with room for them; here it is the processor, and a shard has five images."""
    monkeypatch.setattr(making, "images_per_shard", lambda size: 5)
    cache_run(softmax_run.path, tmp_path / "features", exact=True)
    monkeypatch.setattr(training, "_resident", load_features)
    recipe = tiny_recipe(*SYSTEMS["bags"], "data.val=null", "data.workers=1")
    read = fit(recipe, tmp_path / "read", init_from=softmax_run.path, from_features=exact)
    there = fit(recipe, tmp_path / "there", init_from=softmax_run.path, from_features=tmp_path / "features")
    assert "in the memory of the GPU" in there.log.read_text()
    assert losses(read) == losses(there)


@pytest.mark.parametrize("options", SYSTEMS.values(), ids=SYSTEMS)
def test_weights_are_those_of_the_direct_way(softmax_run, exact, tiny_recipe, tmp_path, options):
    recipe = tiny_recipe(*options, "data.val=null")
    direct = fit(recipe, tmp_path / "direct", init_from=softmax_run.path)
    known = fit(recipe, tmp_path / "known", init_from=softmax_run.path, from_features=exact)
    for one, other in zip(losses(direct), losses(known), strict=True):
        assert one == pytest.approx(other, rel=1e-4, abs=1e-6)
    torch.testing.assert_close(weights(known), weights(direct), rtol=1e-4, atol=1e-6)
    # steps took the classifier far further than that
    assert abs(losses(direct)[0] - losses(direct)[-1]) > 0.02
    log = known.log.read_text()
    assert f"features from {exact / 'train'}: all regions of an image in float32" in log
    assert json.loads(known.data.read_text())["features"]["path"] == str(exact)
