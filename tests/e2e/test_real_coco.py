"""The whole path on real COCO images and annotations, through the commands."""

import contextlib
import csv
import json

import pytest
from click.testing import CliRunner
from lt_cli.data import main as lt_data
from lt_cli.train import main as lt_train

from tests.lt_train.pictures import leave_out_evaluations, leave_out_pictures

pytestmark = pytest.mark.usefixtures("narrow_detectors")

COMMANDS = {"lt-data": lt_data, "lt-train": lt_train}


def command(name, *arguments, cwd):
    with contextlib.chdir(cwd):
        run = CliRunner().invoke(COMMANDS[name], [str(argument) for argument in arguments])
    assert run.exit_code == 0, run.output
    return run.stdout


@pytest.fixture(scope="module")
def coco(shared_data):
    return shared_data / "coco_real"


@pytest.fixture(scope="module")
def workplace(coco, tmp_path_factory):
    """A directory with COCO-LT built from the real annotations, whole and with images."""
    folder = tmp_path_factory.mktemp("real")
    for name, out in (("instances_train2017.json", "whole"), ("instances_train2017_with_images.json", "lt")):
        command(
            *("lt-data", "build-coco-lt", "--coco", coco / "annotations" / name, "--out", out),
            *("--scale", "0.01", "--on-shortage", "cap"),
            cwd=folder,
        )
    return folder


def test_build_drops_surplus_and_keeps_bytes(coco, workplace):
    record = json.loads((workplace / "whole/build.json").read_text())
    assert record["totals"]["categories"] == 80
    assert record["dropped"]["surplus_instances"] > 0
    assert record["dropped"]["crowds"] > 0
    rows = list(csv.DictReader((workplace / "whole/categories.csv").open()))
    for row in rows:
        assert int(row["instances"]) == min(int(row["target"]), int(row["pool_instances"]))
    short = {s["category_id"] for s in record["shortage"]}
    assert short == {int(r["category_id"]) for r in rows if int(r["pool_instances"]) < int(r["target"])}
    source = (coco / "annotations/instances_train2017.json").read_text()
    built = json.loads((workplace / "whole/annotations.json").read_text())
    whole = json.loads(source)
    by_id = {a["id"]: a for a in whole["annotations"]}
    assert all(by_id[a["id"]] == a and not a["iscrowd"] for a in built["annotations"])
    assert built["categories"] == whole["categories"]


def test_group_stats(workplace):
    content = json.loads(command("lt-data", "group-stats", "lt", "--format", "json", cwd=workplace))
    record = json.loads((workplace / "lt/build.json").read_text())
    assert content["instances"] == record["totals"]["instances"]
    assert content["images"] == record["totals"]["images"]
    assert sum(g["categories"] for g in content["groups"]) == 80


def overrides(coco, model, side, steps):
    return [
        *("data.train.annotations=lt", f"data.train.images={coco / 'train2017'}", "data.val=null"),
        *(f"model.name={model}", "model.weights=none", f"model.min_size={side}", f"model.max_size={side * 5 // 3}"),
        *("optim.batch=2", f"schedule.iterations={steps}", "schedule.decay=[]", "schedule.warmup=1"),
        *("data.workers=1", "model.num_detections=10", "log_every=1", "data.groups=[2,5,10]"),
    ]


def train_and_evaluate(coco, folder, model, side, steps):
    recipe = "mask_rcnn_r50_fpn_coco_lt"
    options = overrides(coco, model, side, steps)
    command("lt-train", "fit", recipe, *options, "--out", f"runs/{model}", cwd=folder)
    command(
        *("lt-train", "fit", recipe, *options, "method=bags"),
        *("--init-from", f"runs/{model}", "--out", f"runs/{model}-bags"),
        cwd=folder,
    )
    val = ("--annotations", coco / "annotations/instances_val2017_with_images.json", "--images", coco / "val2017")
    text = command("lt-train", "eval", f"runs/{model}-bags", *val, "--out", f"{model}-eval", cwd=folder)
    metrics = json.loads((folder / f"{model}-eval/metrics.json").read_text())
    return text, metrics, (folder / f"runs/{model}-bags/train.log").read_text()


def check(text, metrics, log, coco):
    val = json.loads((coco / "annotations/instances_val2017_with_images.json").read_text())
    assert metrics["counts"]["images"] == len(val["images"]) == 72
    assert metrics["counts"]["ground_truth"] == sum(not a["iscrowd"] for a in val["annotations"])
    assert set(metrics) == {"schema", "protocol", "engine", "max_detections", "bbox", "segm", "counts"}
    assert sum(metrics["counts"]["classes"]["groups"].values()) == metrics["counts"]["classes"]["AP"]
    assert "groups weighted by their classes = AP" in text
    assert " numbers in 2 tensors, listed in report/trainable.csv" in log


def test_fit_and_eval_with_the_small_backbone(coco, workplace, monkeypatch):
    leave_out_pictures(monkeypatch)
    leave_out_evaluations(monkeypatch)
    check(*train_and_evaluate(coco, workplace, "mask_rcnn_small", 128, 3), coco)
    rows = list(csv.DictReader((workplace / "mask_rcnn_small-eval/per_class.csv").open()))
    assert len(rows) == 80
    assert rows[0]["name"] == "person"


@pytest.mark.slow
def test_fit_and_eval_with_resnet_50_fpn(coco, workplace):
    text, metrics, log = train_and_evaluate(coco, workplace, "mask_rcnn_r50_fpn", 320, 3)
    check(text, metrics, log, coco)
    # 80 classes and 4 groups: 80 + 2 + 4 logits of 1024 features
    assert f"trainable: {86 * 1025:,} numbers in 2 tensors" in log
