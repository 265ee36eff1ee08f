"""Runs that start from the weights of others: stage 2, calibration, files."""

import json

import pytest
import torch

from lt_data.errors import DataError, RecipeError
from lt_train.detectors.table import DETECTORS
from lt_train.engine.fit import fit
from lt_train.inference.evaluate_run import evaluate_run
from lt_train.recipe.origins import Setting
from lt_train.trials.dry_run import dry_run
from tests.lt_train.engine.reading_runs import losses, weights

FASTER = "model.name=faster_rcnn_small"

REGRESSOR = "roi_heads.box_predictor.bbox_pred"


def test_stage_two_trains_the_classifier_alone(softmax_run, tiny_recipe, tmp_path):
    bags = fit(tiny_recipe("method=bags"), tmp_path / "bags", init_from=softmax_run.path)
    before, after = weights(softmax_run), weights(bags)
    classifier = "roi_heads.box_predictor.cls_score."
    assert after[classifier + "weight"].shape == (20 + 2 + 3, 64)
    for name, value in before.items():
        if not name.startswith((classifier, "roi_heads.head.")):
            assert torch.equal(value, after[name]), name
    lines = [json.loads(line) for line in bags.metrics.read_text().splitlines()]
    assert {k for k in lines[0] if k.startswith("loss_")} == {f"loss_group_{g}" for g in range(4)}
    log = bags.log.read_text()
    assert "trainable: 1,625 numbers in 2 tensors" in log
    assert "newly initialised: roi_heads.box_predictor.cls_score" in log


def test_weights_of_other_categories_keep_no_class_dependent_layer(softmax_run, tiny_recipe, tiny_pool, tmp_path):
    content = json.loads((tiny_pool / "annotations.json").read_text())
    content["categories"][0]["name"] = "another thing"
    (tmp_path / "other.json").write_text(json.dumps(content))
    overrides = (f"data.train.annotations={tmp_path / 'other.json'}", "data.val=null", "schedule.iterations=1")
    run = fit(tiny_recipe(*overrides), tmp_path / "run", init_from=softmax_run.path)
    log = run.log.read_text()
    for layer in ("box_predictor.cls_score", "box_predictor.bbox_pred", "mask_predictor.mask_fcn_logits"):
        assert f"roi_heads.{layer}" in log


def renamed(pool, path, *, add=False):
    """The pool's annotations with another name for a category, or with one category more."""
    content = json.loads((pool / "annotations.json").read_text())
    content["categories"][0]["name"] = "another thing"
    if add:
        content["categories"].append({"id": 1000, "name": "one more"})
    path.write_text(json.dumps(content))
    return f"data.train.annotations={path}"


@pytest.mark.parametrize(
    ("options", "add", "fix"),
    [
        (("method=bags",), False, "train=all"),
        pytest.param(("method=bags",), True, "train=all", marks=pytest.mark.slow),
        (("method=reweight-cls", "train=head+reg"), False, "train=all"),
        pytest.param(("method=bags", FASTER), False, "train=head+reg or train=all", marks=pytest.mark.slow),
        (("method=bags", "train=head", FASTER), True, "train=head+reg or train=all"),
    ],
)
def test_a_fresh_layer_that_is_never_trained_is_refused(
    softmax_run, tiny_recipe, tiny_pool, tmp_path, options, add, fix
):
    options, source = (*options, "data.val=null", "schedule.iterations=1"), softmax_run.path
    if FASTER in options:
        source = fit(tiny_recipe("data.val=null", "schedule.iterations=1", FASTER), tmp_path / "faster").path
    options = (*options, renamed(tiny_pool, tmp_path / "other.json", add=add))
    with pytest.raises(RecipeError) as error:
        fit(tiny_recipe(*options), tmp_path / "run", init_from=source)
    (line,) = error.value.problems
    assert line.startswith(f"weights from {source}: roi_heads.")
    assert " would start anew (the categories are others: label 1 was id 1 " in line
    assert "is id 1 'another thing') and stay random" in line
    assert (REGRESSOR in line) == ("train=head+reg" not in options)
    assert f"; set {fix}, or give --init-from a run with the same categories" in line
    assert not (tmp_path / "run").exists()
    with pytest.raises(RecipeError, match="stay random"):
        list(dry_run(tiny_recipe(*options), (Setting("seed", 0, "default"),), init_from=source))
    run = fit(tiny_recipe(*options, "train=all"), tmp_path / "run", init_from=source)
    # what was trained can be evaluated: its checkpoint has all layers
    measured, _ = evaluate_run(run.path, files=tiny_recipe(*options).data.train, out=tmp_path / "e")
    assert "bbox" in measured.metrics


def test_weights_of_a_file_must_not_leave_a_random_layer_either(softmax_run, tiny_recipe, tiny_pool, tmp_path):
    options = (f"model.weights={softmax_run.last}", renamed(tiny_pool, tmp_path / "other.json"), "data.val=null")
    with pytest.raises(RecipeError, match=f"model.weights={softmax_run.last}: {REGRESSOR}, .*categories are others"):
        fit(tiny_recipe(*options, "train=classifier"), tmp_path / "run")
    fit(tiny_recipe(*options, "schedule.iterations=1"), tmp_path / "run")


@pytest.mark.parametrize(
    ("options", "needs"),
    [(("method=bags",), "method bags needs --init-from RUN, a softmax"), (("train=head",), "give --init-from RUN")],
)
def test_a_part_is_not_trained_on_a_random_detector(tiny_recipe, tmp_path, options, needs):
    with pytest.raises(RecipeError, match="^model.weights=none: nothing has been trained, and train=") as caught:
        fit(tiny_recipe(*options, "data.val=null"), tmp_path / "run")
    assert needs in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_random_trunk_and_the_time_of_a_run_are_said(tiny_recipe, tmp_path, monkeypatch):
    # of a detector for which there are weights
    monkeypatch.setattr("lt_train.engine.state.named_detector", lambda _: DETECTORS["mask_rcnn_r50_fpn"])
    options = ("data.val=null", "schedule.iterations=24", "schedule.decay=[]", "model.min_size=32", "model.max_size=32")
    log = fit(tiny_recipe(*options), tmp_path / "run").log.read_text()
    assert "warning: model.weights=none: the trunk of mask_rcnn_small starts from random numbers" in log
    (line,) = [line for line in log.splitlines() if "time: about " in line]
    assert line.endswith(" for the 19 steps to come, without evaluation")


def test_a_calibration_needs_every_layer(softmax_run, tiny_recipe, tiny_pool, tmp_path):
    options = ("method=ncm-fc", renamed(tiny_pool, tmp_path / "other.json"), "data.val=null")
    with pytest.raises(DataError, match="a calibration needs trained layers"):
        fit(tiny_recipe(*options), tmp_path / "run", init_from=softmax_run.path)


@pytest.mark.parametrize("method", ["bags-tune-head", "bags-tune-all"])
def test_tuning_needs_a_trained_classifier(softmax_run, bags_run, tiny_recipe, tmp_path, method):
    def recipe(*options):
        return tiny_recipe(f"method={method}", "data.val=null", "schedule.iterations=1", *options)

    needs = f"but method {method} goes on from a trained one; it needs --init-from RUN, of bags-train-cls"
    for init_from, options, why in (
        (softmax_run.path, (), "it has 21 rows, 25 are needed"),
        (bags_run.path, ("data.groups=[2,100]",), "its logits stand for other groups"),
        (bags_run.path, ("head.edges=[2]",), "it has 25 rows, 24 are needed"),
        (None, (), "there are no weights"),
    ):
        with pytest.raises(RecipeError) as error:
            fit(recipe(*options), tmp_path / "run", init_from=init_from)
        assert f"({why}), {needs}" in str(error.value)
        assert not (tmp_path / "run").exists()
    run = fit(recipe(), tmp_path / "run", init_from=bags_run.path)
    assert "newly initialised: nothing" in run.log.read_text()
    fit(recipe(f"model.weights={bags_run.last}"), tmp_path / "from_file")


def test_weights_that_do_not_fit_name_their_file(softmax_run, tiny_recipe, tmp_path):
    with pytest.raises(DataError) as error:
        fit(tiny_recipe("model.name=faster_rcnn_small"), tmp_path / "run", init_from=softmax_run.path)
    (line,) = error.value.problems
    assert line.startswith(f"weights {softmax_run.last}: they are of a Mask R-CNN")
    assert "set model.name=mask_rcnn_small" in line


def test_stage_two_reads_no_masks(softmax_run, tiny_recipe, tiny_pool, tmp_path):
    content = json.loads((tiny_pool / "annotations.json").read_text())
    for annotation in content["annotations"]:
        del annotation["segmentation"]
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    overrides = (f"data.train.annotations={tmp_path / 'boxes.json'}", "method=bags", "data.val=null")
    run = fit(tiny_recipe(*overrides), tmp_path / "bags", init_from=softmax_run.path)
    assert len(losses(run)) == 3


def test_a_second_stage_without_a_first_is_a_warning(tiny_recipe, tmp_path):
    run = fit(tiny_recipe("method=x2", "data.val=null"), tmp_path / "run")
    assert "warning: method x2 needs --init-from RUN, a softmax baseline" in run.log.read_text()


def test_a_second_stage_on_other_annotations_is_a_warning(softmax_run, tiny_recipe, tiny_pool, tmp_path):
    content = json.loads((tiny_pool / "annotations.json").read_text())
    content["annotations"].pop()
    (tmp_path / "other.json").write_text(json.dumps(content))
    logs = []
    for name, overrides in (("same", ()), ("other", (f"data.train.annotations={tmp_path / 'other.json'}",))):
        recipe = tiny_recipe(
            "schedule.iterations=1", "schedule.decay=[]", "schedule.warmup=0", "data.val=null", *overrides
        )
        logs.append(fit(recipe, tmp_path / name, init_from=softmax_run.path).log.read_text())
    assert ["was trained on another annotation file" in log for log in logs] == [False, True]
