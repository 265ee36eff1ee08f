"""Fixtures that every test folder shares."""

import gc
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# a machine that is busy is no reason to fail, and half of the usual examples find what there is over a few runs
settings.register_profile("untimed", deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

# workers and commands share the cores: more threads of each would only wait for each other
os.environ.setdefault("OMP_NUM_THREADS", "1")


# some disks take milliseconds to remove a folder, and the suite makes tens of thousands; memory that is plenty takes
# none. PYTEST_DEBUG_TEMPROOT or --basetemp names another place
MEMORY = Path("/dev/shm")
if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= 10 * 2**30:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


# a shell that starts the suite in the background has it ignore Ctrl-C, and so would all that tests send it to
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# what takes longest is started first: at the end, when one process has nothing left to do, the other's rest is short
FIRST = (
    "tests/test_code_quality.py",
    "tests/e2e/",
    "tests/benchmarks/",
    "tests/lt_train/engine/",
    "tests/lt_train/runs/",
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """One worker more than cores: many tests wait for processes that end, or for nothing to happen."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    from lt_train.launch import usable_cores

    return usable_cores() + 1


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Collecting makes a million objects that stay; the cycle collector need not go through them again and again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.nodeid.startswith(FIRST))


# folders whose names begin so are for tests of more than one file
SHARED = "shared-"


@pytest.fixture(autouse=True, scope="module")
def _no_folders_left(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What a file's tests have trained goes when they have passed: together it would be 14 GB."""
    folder, failed = tmp_path_factory.getbasetemp(), request.session.testsfailed
    before = set(folder.iterdir())
    yield
    if request.session.testsfailed == failed:
        for path in sorted(set(folder.iterdir()) - before):
            if not path.name.startswith(SHARED):
                shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def narrow_detectors() -> Iterator[None]:
    """The small detectors of this process are a third as dear."""
    from tests.lt_train.narrow import narrow

    with pytest.MonkeyPatch.context() as patch:
        narrow(patch)
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real annotation counts and images that are not part of the repository; tests skip without them."""
    folder = Path(os.environ.get("LT_SHARED_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("the real data beside the repository is not here (LT_SHARED_DATA names another place)")
    return folder
