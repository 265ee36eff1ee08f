"""From an export to a second stage, as README tells it, with a small model and few steps; the run is used elsewhere."""

import contextlib
import json
import shutil

import pytest
from click.testing import CliRunner
from lt_cli.data import main as lt_data
from lt_cli.train import main as lt_train

from lt_data.synthetic.pool import write_pool
from lt_train import load
from tests.lt_train.pictures import leave_out_evaluations, leave_out_pictures

pytestmark = pytest.mark.usefixtures("narrow_detectors")

FEW = ("schedule.iterations=2", "schedule.decay=[]", "trackers=[]")


def typed(command, line, cwd, *more):
    with contextlib.chdir(cwd):
        run = CliRunner().invoke(command, [*line.split(), *more])
    assert run.exit_code == 0, run.output
    return run


@pytest.fixture
def project(tmp_path):
    """An export and its photos."""
    write_pool(tmp_path / "pool", images=16, categories=20, size=64, instances_per_image=(2, 4), minimum_instances=1)
    folder = tmp_path / "project"
    folder.mkdir()
    shutil.copy(tmp_path / "pool/annotations.json", folder / "photos.json")
    shutil.copytree(tmp_path / "pool/images", folder / "photos")
    return folder


def test_three_commands_and_the_lines_of_python(project, tmp_path, monkeypatch):
    leave_out_pictures(monkeypatch)
    leave_out_evaluations(monkeypatch)
    typed(lt_data, "split photos.json --val 0.25 --out data", project)
    init = typed(lt_train, "init data --images photos --out my.yaml --model mask_rcnn_small --device cpu", project)
    assert init.stdout == "written: my.yaml\n"
    assert "an epoch of 12 images takes about " in init.stderr
    small = (*FEW, "model.min_size=64", "model.max_size=64", "optim.batch=auto")
    typed(lt_train, "fit my.yaml --out runs/base", project, *small)
    typed(lt_train, "fit my.yaml method=bags --init-from runs/base --out runs/bags", project, *small)
    base = json.loads((project / "runs/base/eval/metrics.json").read_text())
    assert base["counts"]["images"] == 4
    # the lines of Python
    found = load(project / "runs/bags", device="cpu").predict(next((project / "photos").iterdir()))
    assert (found.width, found.height) == (64, 64)
    assert len(found.boxes) == len(found.scores) == len(found.names)
    found.draw().save(tmp_path / "seen.png")
    # from another directory
    typed(lt_train, f"eval {project}/runs/bags --out here", tmp_path)
    again = json.loads((tmp_path / "here/metrics.json").read_text())
    assert again == json.loads((project / "runs/bags/eval/metrics.json").read_text())
