"""Training from features against training from images: the same weights, for heads of every kind of draw."""

import json

import pytest
import torch

from lt_train.engine.fit import fit
from lt_train.features.cache import cache_run
from tests.lt_train.engine.reading_runs import losses, weights

# each image alone in its forward pass, as features are made
STEPS = ("optim.batch=1", "optim.accumulate=3", "optim.base_batch=3", "schedule.iterations=6", "schedule.decay=[4]")
SYSTEMS = {
    "bags": ("method=bags-train-cls", *STEPS),
    "softmax, repeat factors": ("method=rfs", "train=classifier", "sampler.threshold=0.5", *STEPS),
    "crt, another seed": ("method=crt", "seed=7", *STEPS),
}


@pytest.fixture
def exact(softmax_run, _module_cache, tmp_path_factory):
    """Features of the baseline's images, of every region."""
    if "exact" not in _module_cache:
        out = tmp_path_factory.mktemp("features")
        cache_run(softmax_run.path, out, exact=True)
        _module_cache["exact"] = out
    return _module_cache["exact"]


@pytest.mark.parametrize("options", SYSTEMS.values(), ids=SYSTEMS)
def test_weights_are_those_of_the_direct_way(softmax_run, exact, tiny_recipe, tmp_path, options):
    recipe = tiny_recipe(*options, "data.val=null")
    direct = fit(recipe, tmp_path / "direct", init_from=softmax_run.path)
    known = fit(recipe, tmp_path / "known", init_from=softmax_run.path, from_features=exact)
    for one, other in zip(losses(direct), losses(known), strict=True):
        assert one == pytest.approx(other, rel=1e-4, abs=1e-6)
    for name, value in weights(direct).items():
        torch.testing.assert_close(weights(known)[name], value, rtol=1e-4, atol=1e-6, msg=name)
    # steps took the classifier far further than that
    assert abs(losses(direct)[0] - losses(direct)[-1]) > 0.1
    log = known.log.read_text()
    assert f"features from {exact / 'train'}: all regions of an image in float32" in log
    assert json.loads(known.data.read_text())["features"]["path"] == str(exact)
