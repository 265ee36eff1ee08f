"""Both commands from a checkout of which nothing is installed, and from a wheel that is installed elsewhere."""

import os
import shutil
import site
import subprocess
import sys
from pathlib import Path

import pytest

import lt_data

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the code, and a folder with every installed package but this one."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    for name in ("cli", "lt_data", "lt_train"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    packages = folder / "packages"
    packages.mkdir()
    for place in site.getsitepackages():
        for entry in Path(place).iterdir():
            if "lt_detection" not in entry.name and not (packages / entry.name).exists():
                (packages / entry.name).symlink_to(entry)
    return folder


def run(checkout, *arguments):
    """``python``; -S leaves the environment's own folder of packages, and its .pth files, out."""
    return subprocess.run(
        [sys.executable, "-S", *map(str, arguments)],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout / "packages")},
        capture_output=True,
        text=True,
        check=False,
    )


def test_this_package_is_hidden(checkout):
    code = "from importlib import metadata; metadata.version('lt-detection')"
    assert "PackageNotFoundError" in run(checkout, "-c", code).stderr


@pytest.mark.parametrize(("module", "command"), [("cli.data", "lt-data"), ("cli.train", "lt-train")])
def test_a_command_answers(checkout, module, command):
    done = run(checkout, "-m", module, "--version")
    assert (done.returncode, done.stdout) == (0, f"{command}, version {lt_data.__version__}\n"), done.stderr
    done = run(checkout, "-m", module, "--help")
    assert done.stdout.startswith(f"Usage: python -m {module} [OPTIONS] COMMAND"), done.stderr
    assert run(checkout, "-m", module, "no-such-command").returncode == 2


def test_data_is_built_and_verified(checkout):
    assert run(checkout, "-m", "cli.data", "demo-pool", "--out", "pool", "--images", 60).returncode == 0
    built = run(checkout, "-m", "cli.data", "build-coco-lt", "--coco", "pool", "--out", "lt", "--scale", "0.005")
    assert built.returncode == 0, built.stderr
    verified = run(checkout, "-m", "cli.data", "verify", "lt", "--pool", "pool")
    assert verified.returncode == 0, verified.stdout + verified.stderr


@pytest.mark.slow
def test_a_detector_is_trained(checkout):
    assert run(checkout, "-m", "cli.data", "demo-pool", "--out", "small", "--images", 30, "--size", 64).returncode == 0
    files = ("annotations=small/annotations.json", "images=small/images")
    data = [f"data.{part}.{name}" for part in ("train", "val") for name in files]
    short = ("schedule.iterations=2", "schedule.decay=[]", "schedule.warmup=0", "model.num_detections=5")
    fitted = run(checkout, "-m", "cli.train", "fit", "quickstart", *data, *short, "--out", "run")
    assert (fitted.returncode, fitted.stdout) == (0, "written: run\n"), fitted.stderr


def test_a_wheel_holds_everything_and_runs_elsewhere(checkout, tmp_path):
    """No file of the checkout is in reach: packages, figures and recipes come from the wheel."""
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, checkout]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    site_packages = tmp_path / "site"
    subprocess.run([*pip, "install", "--no-deps", "--target", site_packages, wheel], check=True, capture_output=True)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site_packages), str(checkout / "packages")])}

    def answer(command, *arguments):
        script = [sys.executable, "-S", site_packages / "bin" / command, *arguments]
        done = subprocess.run(script, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert answer("lt-data", "--version") == f"lt-data, version {lt_data.__version__}\n"
    assert len(answer("lt-train", "recipes").split()) == len([*(ROOT / "lt_train" / "recipes").glob("*.yaml")])
    assert "bags-tune-all" in answer("lt-train", "methods")
    (tmp_path / "b.json").write_text('{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}]}')
    assert "categories" in answer("lt-data", "group-stats", "b.json")
    code = "import lt_data.counts.categories as c; print(len(c.embedded_reference('lvis-v1').instances), c.__file__)"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path, env=environment
    )
    assert done.stdout.split() == ["1203", str(site_packages / "lt_data/counts/categories.py")]
