"""Detectors of several stages from training to figures, as people type it."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from tests.e2e.test_lt_train_cli import lt_train
from tests.lt_train.pictures import leave_out_evaluations, leave_out_pictures

pytestmark = pytest.mark.usefixtures("narrow_detectors")

# a detector and what it needs beside the usual
DETECTORS = {
    "cascade_mask_rcnn_small": (),
    "htc_small": ("model.semantic=stuff", "data.train.stuff=stuff"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A pool of 12 images, their stuff maps, and a recipe of two steps."""
    from lt_data.synthetic.pool import write_pool

    out = tmp_path_factory.mktemp("cascades")
    write_pool(out / "pool", images=12, categories=20, size=64, instances_per_image=(2, 4), minimum_instances=1)
    (out / "stuff").mkdir()
    for path in (out / "pool/images").iterdir():
        labels = np.full((64, 64), 120, np.uint8)
        labels[:, 40:] = 255
        Image.fromarray(labels).save(out / "stuff" / f"{path.stem}.png")
    (out / "recipe.yaml").write_text(
        """\
data:
  train: {annotations: pool/annotations.json, images: pool/images}
  val: {annotations: pool/annotations.json, images: pool/images}
  groups: [2, 3]
  workers: 0
model: {min_size: 64, max_size: 64, num_detections: 10, score_threshold: 0}
optim: {batch: 2, base_batch: 2}
schedule: {iterations: 2, decay: []}
log_every: 1
trackers: []
device: cpu
"""
    )
    return out


def done(*arguments, cwd):
    run = lt_train(*arguments, cwd=cwd)
    assert run.exit_code == 0, run.output
    return run


def state(folder, run):
    return torch.load(folder / run / "checkpoints/last.pt", weights_only=True)["model"]


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    leave_out_pictures(monkeypatch)
    leave_out_evaluations(monkeypatch)


@pytest.mark.parametrize("name", ["cascade_mask_rcnn_small", pytest.param("htc_small", marks=pytest.mark.slow)])
def test_stage_one_stage_two_calibrations_and_what_is_done_with_them(name, folder):
    chosen, base = [f"model.name={name}", *DETECTORS[name]], f"runs/{name}"
    done("fit", "recipe.yaml", *chosen, "--out", base, cwd=folder)
    losses = json.loads((folder / base / "metrics.jsonl").read_text().splitlines()[0])
    assert {key.partition(".")[0] for key in losses if key.startswith("s")} >= {"s0", "s1", "s2"}
    assert ("loss_semantic" in losses) == (name == "htc_small")
    done("fit", "recipe.yaml", *chosen, "--method", "bags", "--init-from", base, "--out", f"{base}-bags", cwd=folder)
    before, after = state(folder, base), state(folder, f"{base}-bags")
    changed = {key for key in before if key in after and not torch.equal(before[key], after[key])}
    layers = [f"roi_heads.stages.{i}.box_predictor.cls_score" for i in range(3)]
    # a group without a class has no gradient; nothing beside the classifiers changes
    assert {key.rpartition(".")[0] for key in changed} == set(layers)
    for method, search in (("tau-norm-select", ("--search", "tau=0,1")), ("ncm-fc", ())):
        done("calibrate", base, "--method", method, *search, "--out", f"{base}-{method}", cwd=folder)
        found = state(folder, f"{base}-{method}")
        assert sum(key.startswith("roi_heads.calibration.stages.") for key in found) >= 6
        assert all(torch.equal(value, found[key]) for key, value in before.items())
    metrics = json.loads((folder / f"{base}-bags/eval/metrics.json").read_text())
    assert set(metrics) >= {"bbox", "segm"}
    again = done("eval", f"{base}-bags", "--out", f"{base}-eval", cwd=folder)
    assert "AP" in again.output
    assert json.loads((folder / f"{base}-eval/metrics.json").read_text())["bbox"] == metrics["bbox"]


def test_stuff_maps_of_another_kind_are_refused_before_anything_is_trained(folder, tmp_path):
    given = ("fit", "recipe.yaml", "model.name=htc_small", "model.semantic=stuff", "--out", str(tmp_path / "run"))
    path = folder / "other/1.png"
    path.parent.mkdir(exist_ok=True)
    names = [p.stem for p in (folder / "pool/images").iterdir()]

    def refused(labels, mode):
        for name in names:
            image = Image.fromarray(labels) if mode == "L" else Image.fromarray(labels).convert(mode)
            image.save(path.with_name(f"{name}.png"))
        return lt_train(*given, "data.train.stuff=other", cwd=folder)

    for labels, mode, text in [
        (np.full((64, 64), 5, np.uint8), "P", "has a palette, as the pixel maps of the COCO stuff challenge"),
        (np.full((64, 64), 5, np.uint8), "RGB", "has three channels"),
        (np.full((64, 64), 182, np.uint8), "L", "has values 182; needed is one channel of 0..181"),
        (np.full((64, 32), 5, np.uint8), "L", "is 32 x 64 pixels, its image is 64 x 64"),
    ]:
        run = refused(labels, mode)
        assert run.exit_code == 1
        assert text in run.output
        assert len(run.output.strip().splitlines()) == 1
    path.with_name(f"{names[0]}.png").unlink()
    assert "1 of 12 stuff maps are missing" in lt_train(*given, "data.train.stuff=other", cwd=folder).output
    assert not (tmp_path / "run").exists()
    assert "there are no stuff maps to train it on" in lt_train(*given, cwd=folder).output
    other = lt_train(*given, "model.name=mask_rcnn_small", "data.train.stuff=stuff", cwd=folder)
    assert "model.semantic: got stuff, and model.name=mask_rcnn_small has no such part" in other.output
    unused = lt_train(*given[:2], "data.train.stuff=stuff", "--out", str(tmp_path / "run"), cwd=folder)
    assert "model.semantic=none looks at no stuff map" in unused.output
    changed = lt_train(*given, "data.train.stuff=stuff", "data.augment.hue=0.1", cwd=folder)
    assert "stuff maps are not changed with their images" in changed.output
