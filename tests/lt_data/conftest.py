"""Fixtures of several files on builds."""

import numpy as np
import pytest

from tests.lt_data.pools import pool, save


@pytest.fixture(scope="session")
def alignment_picture(tmp_path_factory):
    """The bytes of a picture as builds draw it."""
    from lt_data.pictures.figures import plot_alignment

    path = tmp_path_factory.mktemp("shared-alignment") / "alignment.png"
    plot_alignment(
        path,
        pool_instances=np.array([900, 400, 30]),
        reference_instances=np.array([500, 20, 1]),
        reference_positions=np.arange(3),
        targets=np.array([500, 20, 1]),
        realised=np.array([500, 20, 1]),
        pool_name="pool.json",
        reference_name="lvis-v0.5",
    )
    return path.read_bytes()


@pytest.fixture(autouse=True, scope="module")
def _drawn_once(alignment_picture):
    """Builds take most of their time to draw a picture, which tests of pictures look at; here all have the same one."""

    def write(path, **_):
        path.write_bytes(alignment_picture)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lt_data.pictures.figures.plot_alignment", write)
        yield


@pytest.fixture(scope="module")
def small_pool(tmp_path_factory):
    rng = np.random.default_rng(0)
    images = {
        int(i): [int(c) if rng.random() > 0.1 else (int(c), "crowd") for c in rng.choice([1, 1, 1, 1, 2, 2, 5, 90], 6)]
        for i in rng.choice(10**6, 60, replace=False)
    }
    folder = tmp_path_factory.mktemp("pool")
    return save(pool(images, categories=[90, 1, 2, 5, 8], names={2: 'a "b", \u00e9'}), folder / "pool.json")
