"""Features of detectors of several stages: the training, calibration and evaluation that images give."""

import json
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.ops import boxes as box_ops

from lt_train.engine.calibrate import calibrate_run
from lt_train.engine.calibration_search import Search
from lt_train.engine.fit import fit
from lt_train.features import training
from lt_train.features.cache import cache_run
from lt_train.features.columns import joined, unreadable_versions
from lt_train.features.layout import columns_of, read_manifest
from lt_train.features.made_of import after_features, weights_digest
from lt_train.features.reading import Cache
from lt_train.features.systems import evaluate_from_features
from lt_train.features.training import KnownTraining, load_features
from lt_train.inference.detect import load_trained
from lt_train.inference.evaluate_run import evaluate_run
from lt_train.runs.checkpoint import load_checkpoint, save_checkpoint
from tests.lt_train.engine.reading_runs import losses, weights
from tests.lt_train.features.boxes import assert_same_boxes, predictions

CASCADE = ("model.name=cascade_rcnn_small",)
HTC = ("model.name=htc_small", "model.semantic=stuff")
# each image alone in its forward pass, as features are made
STEPS = ("optim.batch=1", "optim.accumulate=3", "optim.base_batch=3", "schedule.iterations=3", "schedule.decay=[]")
# with the options of the run, and whether its features lie on the device
SYSTEMS = {
    "bags": (CASCADE, ("method=bags-train-cls", *STEPS), False),
    "seesaw, on HTC with a semantic branch": (HTC, ("method=seesaw", "train=classifier", "seed=7", *STEPS), True),
}


@pytest.fixture(scope="module")
def trained(make_tiny_recipe, tiny_pool, tmp_path_factory):
    """A run of a detector, whose stages move boxes, and its features of every region; by its options."""
    made = {}

    def run_and_features(detector):
        if detector not in made:
            out = tmp_path_factory.mktemp("cascades")
            for number, path in enumerate(sorted((tiny_pool / "images").iterdir())):
                Image.new("L", (64, 64), number).save(out / f"{path.stem}.png")
            stuff = (f"data.train.stuff={out}",) if detector == HTC else ()
            recipe = make_tiny_recipe(*detector, *stuff, "schedule.iterations=1", "schedule.decay=[]")
            run = fit(recipe, out / "run")
            move_boxes(run)
            cache_run(run.path, out / "features", exact=True)
            cache_run(run.path, out / "features", part="val", exact=True)
            made[detector] = run, out / "features"
        return made[detector]

    return run_and_features


def move_boxes(run):
    """Gives the regressors weights as if they were trained."""
    content = load_checkpoint(run.last)
    for stage in range(3):
        weight = content["model"][regressor(stage)]
        weight.normal_(std=1.0, generator=torch.Generator().manual_seed(stage))
    save_checkpoint(run.last, content)


def regressor(stage):
    return f"roi_heads.stages.{stage}.box_predictor.bbox_pred.weight"


@pytest.mark.parametrize(("detector", "options", "resident"), SYSTEMS.values(), ids=SYSTEMS)
def test_weights_are_those_of_the_direct_way(trained, tiny_recipe, tmp_path, monkeypatch, detector, options, resident):
    start, features = trained(detector)
    recipe = tiny_recipe(*detector, *options, "data.val=null")
    direct = fit(recipe, tmp_path / "direct", init_from=start.path)
    if resident:
        monkeypatch.setattr(training, "_resident", load_features)
    known = fit(recipe, tmp_path / "known", init_from=start.path, from_features=features)
    assert losses(known) == pytest.approx(losses(direct), rel=1e-4, abs=1e-6)
    wanted, found, before = weights(direct), weights(known), weights(start)
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6, msg=name)
    changed = {name for name, value in wanted.items() if name not in before or not torch.equal(value, before[name])}
    assert {f"roi_heads.stages.{stage}.box_predictor.cls_score.bias" for stage in range(3)} <= changed


def test_evaluation_equals_that_of_the_network(trained, tmp_path):
    """With the masks of all stages."""
    run, features = trained(HTC)
    evaluate_run(run.path, out=tmp_path / "direct")
    evaluate_from_features(run.path, features, out=tmp_path / "known")
    wanted, found = (predictions(tmp_path / name) for name in ("direct", "known"))
    assert_same_boxes(found, wanted)
    assert [p["segmentation"] for p in found] == [p["segmentation"] for p in wanted]


@pytest.mark.parametrize(
    ("method", "overrides"),
    [
        ("ncm-fc", ()),
        ("ncm-fc", ("calibration.features=fc-relu", "calibration.boxes=proposals", "data.val=null")),
        ("logn", ("data.val=null",)),
    ],
)
def test_calibrations_are_those_of_the_direct_way(trained, tmp_path, method, overrides):
    """Of each stage's own regions; and of averaged logits, for which every stage looks at the same ones."""
    run, features = trained(CASCADE)
    direct = calibrate_run(run.path, method, tmp_path / "direct", overrides=overrides)
    known = calibrate_run(run.path, method, tmp_path / "known", overrides=overrides, from_features=features)
    wanted, found = weights(direct), weights(known)
    assert any(name.startswith("roi_heads.calibration.") for name in wanted)
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name], rtol=1e-4, atol=1e-5, msg=name)
    if not overrides:
        boxes = [json.loads((out.evaluation / "metrics.json").read_text())["bbox"] for out in (direct, known)]
        assert boxes[1]["AP"] == pytest.approx(boxes[0]["AP"], abs=1e-3)


def test_search_from_features(trained, tmp_path):
    run, features = trained(CASCADE)
    search = Search("tau", (0.0, 1.0), on="val")
    direct = calibrate_run(run.path, "tau-norm", tmp_path / "direct", search=search)
    known = calibrate_run(run.path, "tau-norm", tmp_path / "known", search=search, from_features=features)
    assert (known.report / "search.csv").read_text() == (direct.report / "search.csv").read_text()


def test_stages_keep_the_children_of_what_has_features(trained, tmp_path):
    """Against torchvision's own calls."""
    run, exact = trained(CASCADE)
    told = []
    done = cache_run(run.path, tmp_path, pool=70, tell=told.append)
    model = load_trained(run, "last").model
    for path in (exact / "train", done.path):
        cache = Cache(path, read_manifest(path))
        assert cache.manifest.stages == 3
        for row, flipped in ((0, False), (5, True)):
            stages = [cache.find(row, flipped=flipped, stage=stage) for stage in range(3)]
            for number, (before, found) in enumerate(pairwise(stages)):
                labels, parents, places = (np.array(found.of(name)) for name in ("labels", "parents", "places"))
                objects = int((parents == -1).sum())
                assert (places == np.arange(len(labels))).all()
                np.testing.assert_array_equal(parents[:-objects], before.of("places"))
                truth = before.of("boxes")[-objects:]
                np.testing.assert_array_equal(found.of("boxes")[-objects:], truth)
                # what was refined from the ground truth is drawn by no stage
                origin = before.of("boxes")[parents[:-objects]]
                of_truth = (origin[:, None] == truth[None]).all(axis=2).any(axis=1)
                of_truth |= before.of("labels")[parents[:-objects]] == -2
                np.testing.assert_array_equal(labels[:-objects] == -2, of_truth)
                assert of_truth.sum() == objects * (number + 1)
                overlap = (0.6, 0.7)[number]
                assert (found.of("iou")[labels > 0] >= overlap).all()
                assert (found.of("iou")[labels == 0] < overlap).all()
                heads = model.roi_heads.of_stages[number]
                seen = torch.from_numpy(np.array(before.of("features"))).float().relu()
                with torch.no_grad():
                    moved = heads.box_coder.decode_single(heads.box_predictor.bbox_pred(seen), torch.from_numpy(origin))
                moved = box_ops.clip_boxes_to_image(moved.reshape(-1, 4), (64, 64)).numpy()
                close = 1e-4 if path != done.path else 0.1
                np.testing.assert_allclose(found.of("boxes")[:-objects], moved, rtol=0, atol=close)
                assert np.abs(moved - origin).max() > 1
    size = float(told[0].rpartition("about ")[2].removesuffix(" MB")) * 1e6
    assert read_manifest(done.path).size == pytest.approx(size, rel=0.1)


def test_a_training_step_of_no_region_and_an_image_that_cannot_be_read(trained):
    run, _ = trained(CASCADE)
    model = load_trained(run, "last").model
    model.train()
    width = model.roi_heads.of_stages[0].box_predictor.cls_score.in_features
    known = KnownTraining(SimpleNamespace(manifest=SimpleNamespace(stages=3, features=width)), None, None, "cpu", None)
    found = known.losses_of(SimpleNamespace(trained=model), [], [])
    assert set(found) == {"s0.loss_classifier", "s1.loss_classifier", "s2.loss_classifier"}
    assert all(float(value.detach()) == 0 for value in found.values())
    columns = joined(unreadable_versions(7, (False, True), features=256, stages=3))
    assert set(columns) == set(columns_of("train", 3))
    assert all(columns[f"s{stage}.kept_offsets"].tolist() == [0, 0, 0] for stage in range(3))


def test_regressors_but_the_last_belong_to_the_features(trained):
    run, _ = trained(CASCADE)
    state, model = weights(run), load_trained(run, "last").model
    after = after_features(model)
    was = weights_digest(state, after)
    for name, belongs in (
        *((regressor(stage), stage < 2) for stage in range(3)),
        *((regressor(stage).replace("bbox_pred", "cls_score"), False) for stage in range(3)),
        ("roi_heads.stages.2.box_head.fc7.bias", True),
    ):
        assert (weights_digest({**state, name: state[name] + 1}, after) != was) == belongs, name
