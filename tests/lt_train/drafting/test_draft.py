"""A recipe for data of one's own: it loads, it trains, and it is the same for the same data and machine."""

import json
import shutil

import pytest
import yaml
from click.testing import CliRunner
from lt_cli.train import main

from lt_data import SplitOptions, split_annotations
from lt_data.errors import LtError
from lt_train.detectors.weight_files import COCO_FILES
from lt_train.drafting.draft import Wishes, draft_recipe, write_draft
from lt_train.drafting.sources import find_sources
from lt_train.drafting.start_weights import choose_start
from lt_train.engine.fit import fit
from lt_train.recipe.load import load_recipe

SMALL = Wishes(model="mask_rcnn_small", device="cpu")


@pytest.fixture(scope="module")
def project(tiny_pool, tmp_path_factory):
    """A folder with a split and its photos."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(tiny_pool / "images", folder / "photos")
    split_annotations(tiny_pool / "annotations.json", folder / "data", options=SplitOptions(val=0.25))
    return folder


def test_the_recipe_loads_and_trains_from_anywhere(project, tmp_path, monkeypatch):
    draft = write_draft(project / "data", project / "photos", project / "my.yaml", wishes=SMALL)
    name = str(project / "my.yaml")
    again = draft_recipe(project / "data", project / "photos", folder=project, wishes=SMALL, name=name)
    assert draft.text == again.text == (project / "my.yaml").read_text()
    content = yaml.safe_load(draft.text)
    assert content["data"]["train"] == {"annotations": "data/train.json", "images": "photos"}
    assert content["data"]["val"] == {"annotations": "data/val.json", "images": "photos"}
    # a reason beside every value
    values = [line for line in draft.text.splitlines() if line and not line.startswith("#") and not line.endswith(":")]
    assert all("  # " in line for line in values)
    assert draft.notes[0].startswith("warning: model.weights=none: there are none for this detector; ")
    assert "an epoch of 9 images takes about 0:" in draft.notes[-1]
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe(project / "my.yaml", ["schedule.iterations=2", "schedule.decay=[]", "trackers=[]"])
    run = fit(recipe, tmp_path / "run")
    assert json.loads((run.evaluation / "metrics.json").read_text())["counts"]["images"] == 3


def test_what_is_chosen_for_a_processor(project):
    """The trunk's package is one of those that the suite needs."""
    content = yaml.safe_load(draft_recipe(project / "data", project / "photos", wishes=Wishes(device="cpu")).text)
    assert content["model"]["name"] == "mask_rcnn_lite0"
    assert content["model"]["weights"] == "imagenet"
    # images of 64 pixels
    assert (content["model"]["min_size"], content["model"]["max_size"]) == ([224], 224)
    assert (content["optim"]["batch"], content["data"]["workers"]) == (1, 0)
    assert content["schedule"] == {"epochs": 40, "decay": [27, 37], "warmup": "auto"}


def test_classes_without_instances_are_told(project, tmp_path):
    content = json.loads((project / "data/train.json").read_text())
    used = {record["category_id"] for record in content["annotations"]}
    content["annotations"] = [record for record in content["annotations"] if record["category_id"] != min(used)]
    (tmp_path / "train.json").write_text(json.dumps(content))
    wishes = Wishes(device="cpu", model="faster_rcnn_small")
    text = draft_recipe(tmp_path / "train.json", project / "photos", wishes=wishes).text
    assert f", {len(content['categories']) - len(used) + 1} of them without any: " in text


def test_without_masks_and_validation(project, tmp_path):
    content = json.loads((project / "data/train.json").read_text())
    for annotation in content["annotations"]:
        annotation["segmentation"] = []
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    wishes = Wishes(device="cpu", model="faster_rcnn_small")
    draft = draft_recipe(tmp_path / "boxes.json", project / "photos", wishes=wishes)
    assert yaml.safe_load(draft.text)["data"]["val"] is None
    assert draft.notes[1] == (
        f"warning: validation data is missing; lt-data split {tmp_path}/boxes.json --val 0.2 --out data makes one"
    )
    with pytest.raises(LtError, match="--model: mask_rcnn_small predicts masks, and .*boxes.json has none"):
        draft_recipe(tmp_path / "boxes.json", project / "photos", wishes=SMALL)


def test_weights_that_are_here_come_first_and_downloads_are_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()

    def start(download=False):
        return choose_start(gpu=True, masks=True, download=download)

    assert start() == (
        *("mask_rcnn_r50_fpn", "none"),
        "none are on this machine: allow a download with --download",
    )
    assert start(download=True)[:2] == ("mask_rcnn_r50_fpn", "coco")
    (tmp_path / "checkpoints" / "resnet50-0676ba61.pth").touch()
    assert start()[:2] == ("mask_rcnn_r50_fpn", "imagenet")
    (tmp_path / "checkpoints" / COCO_FILES["mask_rcnn_r50_fpn"].url.rpartition("/")[2]).touch()
    assert start()[:2] == ("mask_rcnn_r50_fpn", "coco")


def test_what_data_may_be(project, tiny_pool, tmp_path):
    assert find_sources(project / "data")[:2] == (project / "data/train.json", project / "data/val.json")
    assert find_sources(project / "data", tmp_path / "other.json").val == tmp_path / "other.json"
    assert find_sources(tiny_pool).train == tiny_pool
    split_annotations(tiny_pool / "annotations.json", tmp_path / "folds", options=SplitOptions(folds=2))
    wrong = {
        tmp_path / "folds": "holds the folds of",
        tmp_path: "holds neither train.json nor",
        tmp_path / "no": "is not there; allowed are",
    }
    for path, said in wrong.items():
        with pytest.raises(LtError, match=said):
            find_sources(path)


def test_the_command(project, tmp_path):
    options = ["init", str(project / "data"), "--images", str(project / "photos"), "--model", "mask_rcnn_small"]
    shown = CliRunner().invoke(main, [*options, "--show"])
    assert shown.exit_code == 0, shown.output
    assert yaml.safe_load(shown.stdout)["model"]["name"] == "mask_rcnn_small"
    assert "trying a step of mask_rcnn_small with one image ..." in shown.stderr.splitlines()
    assert "warning: model.weights=none: there are none" in shown.stderr
    assert not list(tmp_path.iterdir())
    written = CliRunner().invoke(main, [*options, "--out", str(tmp_path / "my.yaml")])
    assert written.stdout == f"written: {tmp_path / 'my.yaml'}\n"
    assert CliRunner().invoke(main, [*options, "--out", str(tmp_path / "my.yaml")]).exit_code == 1
    assert CliRunner().invoke(main, options).exit_code == 2
