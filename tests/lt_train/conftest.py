"""Training tests run on one thread: the suite shares two cores, and results do not depend on it."""

import pytest

from tests.lt_train.pictures import leave_out_evaluations, leave_out_pictures


@pytest.fixture(autouse=True, scope="module")
def _no_pictures():
    """Runs are drawn in tests that look at it, which ask for ``pictures``."""
    with pytest.MonkeyPatch.context() as patch:
        leave_out_pictures(patch)
        leave_out_evaluations(patch)
        yield


@pytest.fixture(autouse=True, scope="module")
def _narrow_detectors(narrow_detectors):
    """A module whose tests need the small detector as it is has a fixture of this name that does nothing."""


@pytest.fixture
def pictures(monkeypatch):
    """Runs of this test are drawn."""
    from lt_train.report.run_report import draw_run_report

    monkeypatch.setattr("lt_train.engine.fit.draw_run_report", draw_run_report)


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_pool(tmp_path_factory):
    """A procedural pool of 12 images and 20 categories."""
    from lt_data.synthetic.pool import write_pool

    out = tmp_path_factory.mktemp("shared-tiny") / "pool"
    write_pool(out, images=12, categories=20, size=64, instances_per_image=(2, 4), minimum_instances=1)
    return out


@pytest.fixture
def tiny_recipe(make_tiny_recipe):
    """A recipe of a few steps on the tiny pool; a function of overrides."""
    return make_tiny_recipe


@pytest.fixture(scope="session")
def make_tiny_recipe(tiny_pool):
    """The same for fixtures that tests share."""
    from lt_train.recipe.load import make_recipe

    files = {"annotations": str(tiny_pool / "annotations.json"), "images": str(tiny_pool / "images")}
    content = {
        "data": {"train": files, "val": files, "groups": [2, 3], "workers": 0},
        "model": {"name": "mask_rcnn_small", "min_size": [64], "max_size": 64, "num_detections": 10},
        "optim": {"batch": 2, "base_batch": 2},
        "schedule": {"iterations": 3, "decay": [2]},
        "log_every": 1,
        "device": "cpu",
    }
    return lambda *overrides: make_recipe(content, overrides)


@pytest.fixture(scope="module")
def _module_cache():
    """Runs that the tests of a module share."""
    return {}


@pytest.fixture
def softmax_run(tiny_recipe, _module_cache, tmp_path_factory):
    """A baseline run of the tiny recipe."""
    from lt_train.engine.fit import fit

    if "run" not in _module_cache:
        _module_cache["run"] = fit(tiny_recipe(), tmp_path_factory.mktemp("runs") / "softmax")
    return _module_cache["run"]


@pytest.fixture
def bags_run(softmax_run, tiny_recipe, _module_cache, tmp_path_factory):
    """Stage 2 of BAGS from it."""
    from lt_train.engine.fit import fit

    if "bags" not in _module_cache:
        recipe, out = tiny_recipe("method=bags-train-cls", "data.val=null"), tmp_path_factory.mktemp("runs") / "bags"
        _module_cache["bags"] = fit(recipe, out, init_from=softmax_run.path)
    return _module_cache["bags"]
