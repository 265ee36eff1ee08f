"""Training tests run on one thread: the suite shares two cores, and results do not depend on it."""

import pytest


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

    out = tmp_path_factory.mktemp("tiny") / "pool"
    write_pool(out, images=12, categories=20, size=64, instances_per_image=(2, 4), minimum_instances=1)
    return out


@pytest.fixture
def tiny_recipe(tiny_pool):
    """A recipe of a few steps on the tiny pool; a function of overrides."""
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
