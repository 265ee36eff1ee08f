"""A run that tests look at."""

import pytest

from tests.lt_train.narrow import narrow
from tests.lt_train.pictures import leave_out_pictures


@pytest.fixture(scope="session")
def run(make_tiny_recipe, tmp_path_factory):
    """A softmax run of two steps, whose five best detections an image are kept."""
    from lt_train.engine.fit import fit

    out = tmp_path_factory.mktemp("shared-predict") / "run"
    options = ("model.num_detections=5", "model.score_threshold=0.001", "schedule.iterations=2", "schedule.decay=[1]")
    with pytest.MonkeyPatch.context() as patch:
        leave_out_pictures(patch)
        narrow(patch)
        fit(make_tiny_recipe(*options, "schedule.warmup=1"), out)
    return out
