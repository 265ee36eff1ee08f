"""Features that the tests of a module share."""

import pytest

from lt_train.features.cache import cache_run


@pytest.fixture
def exact(softmax_run, _module_cache, tmp_path_factory):
    """Features of the baseline's training and validation images, of every region."""
    if "exact" not in _module_cache:
        out = tmp_path_factory.mktemp("features")
        cache_run(softmax_run.path, out, exact=True)
        cache_run(softmax_run.path, out, part="val", exact=True)
        _module_cache["exact"] = out
    return _module_cache["exact"]
