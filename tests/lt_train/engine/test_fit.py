"""The training run: files, resume, stage 2, and what is refused."""

import csv
import json
import re
import shutil
from collections import Counter

import pytest
import torch
import yaml

from lt_data.errors import DataError, OutputError, RecipeError
from lt_train.data.plan import Step
from lt_train.engine.dry_run import dry_run
from lt_train.engine.fit import fit
from lt_train.engine.losses import TrainingStopped
from lt_train.engine.state import RunState
from lt_train.engine.step import train_step
from lt_train.evaluation.truth import columns as truth_columns
from lt_train.inference.evaluate_run import evaluate_run
from lt_train.recipe.load import make_noted
from lt_train.recipe.origins import Setting
from lt_train.recipe.sections import Files
from lt_train.runs.checkpoint import load_checkpoint, save_checkpoint
from lt_train.runs.data import load_run_data, make_plan
from lt_train.runs.directory import RunDir
from tests.lt_train.engine.stepping import interrupt_in_step


@pytest.fixture(scope="module")
def _module_cache():
    return {}


@pytest.fixture
def softmax_run(tiny_recipe, _module_cache, tmp_path_factory):
    if "run" not in _module_cache:
        _module_cache["run"] = fit(tiny_recipe(), tmp_path_factory.mktemp("runs") / "softmax")
    return _module_cache["run"]


def losses(run):
    lines = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def weights(run, which="last"):
    return load_checkpoint(run.checkpoint(which))["model"]


def test_run_directory(softmax_run):
    names = {str(p.relative_to(softmax_run.path)) for p in softmax_run.path.rglob("*") if p.is_file()}
    assert {
        "recipe.yaml", "environment.json", "data.json", "train.log", "metrics.jsonl", "checkpoints/last.pt",
        "eval/metrics.json", "eval/per_class.csv", "eval/predictions.json",
    } <= names  # fmt: skip
    assert len(losses(softmax_run)) == 3
    log = softmax_run.log.read_text()
    assert "lr 0.01 = 0.01 x 2 images per step / 2" in log
    assert "step 3/3" in log
    metrics = json.loads((softmax_run.evaluation / "metrics.json").read_text())
    assert metrics["counts"]["images"] == 12
    assert set(metrics["bbox"]["groups"]) == {"(0, 2)", "[2, 3)", "[3, ~)"}


def test_checkpoints_hold_no_code(softmax_run):
    content = torch.load(softmax_run.last, weights_only=True)
    assert content["format"] == 1
    assert content["done"] == 3
    assert content["recipe"]["method"] == "softmax"


def test_same_recipe_same_numbers(softmax_run, tiny_recipe, tmp_path):
    again = fit(tiny_recipe("data.workers=2"), tmp_path / "again")
    assert losses(again) == losses(softmax_run)
    for name, value in weights(softmax_run).items():
        assert torch.equal(value, weights(again)[name]), name


def test_another_seed_other_numbers(softmax_run, tiny_recipe, tmp_path):
    assert losses(fit(tiny_recipe("seed=1"), tmp_path / "other")) != losses(softmax_run)


def test_resume_goes_on_as_if_never_stopped(softmax_run, tiny_recipe, tmp_path, monkeypatch):
    monkeypatch.setattr("lt_train.engine.fit._save_every", lambda _: 1)
    go_on = interrupt_in_step(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        fit(tiny_recipe(), tmp_path / "run")
    go_on()
    run = fit(tiny_recipe(), tmp_path / "run", resume=True)
    assert losses(run) == losses(softmax_run)
    for name, value in weights(softmax_run).items():
        assert torch.equal(value, weights(run)[name]), name
    assert "continuing at step 2 of 3" in run.log.read_text()


def test_a_run_of_a_version_without_a_key_goes_on_with_its_default(softmax_run, tiny_recipe, tmp_path):
    run = RunDir(shutil.copytree(softmax_run.path, tmp_path / "old"))
    content = torch.load(run.last, weights_only=True)
    plain = content["recipe"]
    del plain["model"]["mask_target"], plain["compute"], plain["optim"]["ema"]
    torch.save(content, run.last)
    run.recipe.write_text(yaml.safe_dump(plain))
    assert run.load_recipe() == tiny_recipe()
    fit(tiny_recipe(), run.path, resume=True)
    with pytest.raises(RecipeError, match="model.mask_target was 'exact', is now 'polygon'"):
        fit(tiny_recipe("model.mask_target=polygon"), run.path, resume=True)


def test_a_run_goes_on_with_the_warm_up_it_began_with(tiny_recipe, tmp_path, monkeypatch):
    """The shipped recipes once had a number where they leave it open now."""
    monkeypatch.setattr("lt_train.engine.fit._save_every", lambda _: 1)
    straight = fit(tiny_recipe("schedule.warmup=2", "data.val=null"), tmp_path / "straight")
    go_on = interrupt_in_step(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        fit(tiny_recipe("schedule.warmup=2", "data.val=null"), tmp_path / "run")
    go_on()
    run = fit(tiny_recipe("data.val=null"), tmp_path / "run", resume=True)
    assert losses(run) == losses(straight)
    assert "note: goes on with schedule.warmup=2, with which the run began" in run.log.read_text()
    assert load_checkpoint(run.last)["recipe"]["schedule"]["warmup"] == 2
    with pytest.raises(RecipeError, match="schedule.warmup was 2, is now 1"):
        fit(tiny_recipe("data.val=null", "schedule.warmup=1"), run.path, resume=True)


@pytest.mark.parametrize("now", ["auto", "500"])
def test_a_run_that_began_with_a_warm_up_longer_than_itself_goes_on(tiny_recipe, tmp_path, now):
    """It is refused today."""
    options = ("data.val=null", "schedule.decay=[]")
    with pytest.raises(RecipeError, match="schedule.warmup: got 500 steps, the run has 3"):
        fit(tiny_recipe(*options, "schedule.warmup=500"), tmp_path / "new")
    assert not (tmp_path / "new").exists()
    run = fit(tiny_recipe(*options), tmp_path / "run")
    content = torch.load(run.last, weights_only=True)
    content["recipe"]["schedule"]["warmup"] = 500
    torch.save(content, run.last)
    fit(tiny_recipe(*options, f"schedule.warmup={now}"), run.path, resume=True)
    assert "warm-up: 500 of 3 steps" in run.log.read_text()


def test_epochs_that_never_reach_the_rate_are_refused(tiny_recipe, tmp_path):
    """12 images, two a step: 6 steps an epoch."""
    options = ("data.val=null", "schedule.iterations=null", "schedule.epochs=2")
    for warmup, decay, says in ((12, "[]", "schedule.warmup: got 12 steps, the run has 12"), (7, "[1]", "at step 6")):
        with pytest.raises(RecipeError, match=says):
            fit(tiny_recipe(*options, f"schedule.warmup={warmup}", f"schedule.decay={decay}"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    run = fit(tiny_recipe(*options, "schedule.decay=[1]"), tmp_path / "run")
    assert "warm-up: 1 of 12 steps (auto: a tenth of the run, at most 500)" in run.log.read_text()
    rates = [json.loads(line)["lr"] for line in run.metrics.read_text().splitlines()]
    assert rates == pytest.approx([0.01 / 3, *[0.01] * 5, *[0.001] * 6])


def test_resume_refuses_another_recipe(softmax_run, tiny_recipe):
    with pytest.raises(RecipeError) as error:
        fit(tiny_recipe("optim.lr=0.5", "log_every=7"), softmax_run.path, resume=True)
    assert "optim.lr was 0.01, is now 0.5" in error.value.problems[0]
    assert len(error.value.problems) == 2
    assert "--init-from" in error.value.problems[-1]


def test_resume_needs_a_run(tiny_recipe, tmp_path):
    with pytest.raises(DataError, match="no such checkpoint"):
        fit(tiny_recipe(), tmp_path / "none", resume=True)


def test_stage_two_trains_the_classifier_alone(softmax_run, tiny_recipe, tmp_path):
    bags = fit(tiny_recipe("method=bags"), tmp_path / "bags", init_from=softmax_run.path)
    before, after = weights(softmax_run), weights(bags)
    classifier = "roi_heads.box_predictor.cls_score."
    assert after[classifier + "weight"].shape == (20 + 2 + 3, 256)
    for name, value in before.items():
        if not name.startswith((classifier, "roi_heads.head.")):
            assert torch.equal(value, after[name]), name
    lines = [json.loads(line) for line in bags.metrics.read_text().splitlines()]
    assert {k for k in lines[0] if k.startswith("loss_")} == {f"loss_group_{g}" for g in range(4)}
    log = bags.log.read_text()
    assert "trainable: 6,425 numbers in 2 tensors" in log
    assert "newly initialised: roi_heads.box_predictor.cls_score" in log


class _OneWeight(torch.nn.Module):
    """A stand-in whose loss is its weight times the first pixel of the first image."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(1.0))

    def forward(self, images, _):
        return {"loss_a": self.weight * images[0].flatten()[0] * 255}


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


REGRESSOR = "roi_heads.box_predictor.bbox_pred"
FASTER = "model.name=faster_rcnn_small"


@pytest.mark.parametrize(
    ("options", "add", "fix"),
    [
        (("method=bags",), False, "train=all"),
        (("method=bags",), True, "train=all"),
        (("method=reweight-cls", "train=head+reg"), False, "train=all"),
        (("method=bags", FASTER), False, "train=head+reg or train=all"),
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
    measured, _ = evaluate_run(
        run.path, files=Files(**tiny_recipe(*options).data.train.model_dump()), out=tmp_path / "e"
    )
    assert "bbox" in measured.metrics


def test_weights_of_a_file_must_not_leave_a_random_layer_either(softmax_run, tiny_recipe, tiny_pool, tmp_path):
    options = (f"model.weights={softmax_run.last}", renamed(tiny_pool, tmp_path / "other.json"), "data.val=null")
    with pytest.raises(RecipeError, match=f"model.weights={softmax_run.last}: {REGRESSOR}, .*categories are others"):
        fit(tiny_recipe(*options, "train=classifier"), tmp_path / "run")
    fit(tiny_recipe(*options, "schedule.iterations=1"), tmp_path / "run")


def test_a_calibration_needs_every_layer(softmax_run, tiny_recipe, tiny_pool, tmp_path):
    options = ("method=ncm-fc", renamed(tiny_pool, tmp_path / "other.json"), "data.val=null")
    with pytest.raises(DataError, match="a calibration needs trained layers"):
        fit(tiny_recipe(*options), tmp_path / "run", init_from=softmax_run.path)


@pytest.fixture
def bags_run(softmax_run, tiny_recipe, _module_cache, tmp_path_factory):
    if "bags" not in _module_cache:
        recipe, out = tiny_recipe("method=bags-train-cls", "data.val=null"), tmp_path_factory.mktemp("runs") / "bags"
        _module_cache["bags"] = fit(recipe, out, init_from=softmax_run.path)
    return _module_cache["bags"]


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


def test_what_another_method_drops_is_in_the_log(softmax_run, tiny_recipe, tmp_path):
    content = tiny_recipe("method=bags", "head.others_ratio=3", "data.val=null", "schedule.iterations=1").to_plain()
    recipe, notes = make_noted(content, ["method=reweight-cls"])
    run = fit(recipe, tmp_path / "run", init_from=softmax_run.path, notes=notes)
    assert "note: method=reweight-cls has head=reweight; dropped from the recipe: head.others_ratio=3" in (
        run.log.read_text()
    )


def test_accumulated_gradients_are_the_mean_over_the_forward_passes():
    model = _OneWeight()
    state = RunState(model, torch.optim.SGD(model.parameters(), lr=1.0, fused=True))
    batches = iter([([torch.full((3, 1, 1), v, dtype=torch.uint8)], [{"image_id": v}]) for v in (2, 4, 9)])
    values = train_step(state, Step(0, 0, ((), (), ()), False), batches, lr=0.5)
    assert values.read()["loss_a"] == pytest.approx(5.0)
    assert model.weight.item() == pytest.approx(1 - 0.5 * 5.0)


def test_clip_limits_the_gradient():
    model = _OneWeight()
    state = RunState(model, torch.optim.SGD(model.parameters(), lr=1.0, fused=True))
    batch = ([torch.full((3, 1, 1), 200, dtype=torch.uint8)], [{"image_id": 1}])
    train_step(state, Step(0, 0, ((),), False), iter([batch]), lr=0.5, clip=3.0)
    assert model.weight.item() == pytest.approx(1 - 0.5 * 3.0, rel=1e-4)


def test_repeat_factor_sampling_says_what_it_repeats(tiny_recipe, tmp_path):
    run = fit(tiny_recipe("method=rfs", "sampler.threshold=0.5", "schedule.iterations=1"), tmp_path / "run")
    log = run.log.read_text()
    repeated, in_a_pass = map(int, re.search(r"(\d+) images are repeated, a pass has (\d+) images", log).groups())
    assert 0 < repeated <= 12 < in_a_pass
    assert "1 steps of 2 images, 2 images seen, 12 an epoch" in log


def test_several_short_sides(softmax_run, tiny_recipe, tmp_path):
    run = fit(tiny_recipe("model.min_size=[48,64]", "data.val=null"), tmp_path / "run")
    assert losses(run) != losses(softmax_run)


def test_epoch_schedule_and_best_checkpoint(tiny_recipe, tmp_path):
    overrides = (
        "schedule.iterations=null",
        "schedule.epochs=2",
        "eval.every=1",
        "optim.batch=6",
        "model.name=faster_rcnn_small",
    )
    run = fit(tiny_recipe(*overrides), tmp_path / "run")
    lines = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    evaluated = [line["eval/bbox_AP"] for line in lines if "eval/bbox_AP" in line]
    assert len(evaluated) == 2
    assert len(losses(run)) == 4
    assert load_checkpoint(run.best)["best"] == max(evaluated)
    assert "segm" not in json.loads((run.evaluation / "metrics.json").read_text())


def test_without_validation_data_there_is_only_last(tiny_recipe, tmp_path):
    run = fit(tiny_recipe("data.val=null", "schedule.iterations=1"), tmp_path / "run")
    assert run.last.is_file()
    assert not run.best.exists()
    assert not run.evaluation.exists()


def test_output_is_never_overwritten_unasked(softmax_run, tiny_recipe, tmp_path):
    before = softmax_run.last.read_bytes()
    with pytest.raises(OutputError, match="continue it with --resume, or choose another --out"):
        fit(tiny_recipe(), softmax_run.path)
    assert softmax_run.last.read_bytes() == before
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputError, match="thesis.tex.*never replaced"):
        fit(tiny_recipe(), tmp_path, force=True)
    mixed = tmp_path / "mixed"
    shutil.copytree(softmax_run.path, mixed)
    (mixed / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputError, match="thesis.tex.*never replaced"):
        fit(tiny_recipe(), mixed, force=True)
    assert (mixed / "thesis.tex").read_text() == "years of work"
    assert (mixed / "checkpoints/last.pt").is_file()


def test_force_replaces_a_run_and_nothing_else(tiny_recipe, tmp_path):
    run = fit(tiny_recipe("schedule.iterations=1", "data.val=null"), tmp_path / "run")
    (tmp_path / "beside.txt").write_text("stays")
    again = fit(tiny_recipe("schedule.iterations=2", "data.val=null"), run.path, force=True)
    assert len(losses(again)) == 2
    assert (tmp_path / "beside.txt").read_text() == "stays"


def test_validation_masks_are_checked_before_training(tiny_recipe, tiny_pool, tmp_path):
    content = json.loads((tiny_pool / "annotations.json").read_text())
    content["annotations"][3]["segmentation"] = []
    (tmp_path / "val.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="1 of 38 annotations .ids 4. have no segmentation"):
        fit(tiny_recipe(f"data.val.annotations={tmp_path / 'val.json'}"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_evaluation_that_fails_loses_no_weights(tiny_recipe, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise DataError("no")

    monkeypatch.setattr("lt_train.engine.fit.evaluate_model", fail)
    with pytest.raises(DataError, match="no"):
        fit(tiny_recipe(), tmp_path / "run")
    assert load_checkpoint(tmp_path / "run/checkpoints/last.pt")["done"] == 3


def test_resume_names_metrics_that_are_not_utf_8(tiny_recipe, tmp_path):
    recipe = tiny_recipe("data.val=null", "trackers=[]")
    run = fit(recipe, tmp_path / "run")
    whole = run.metrics.read_bytes()
    run.metrics.write_bytes(whole + b"\xff\n")
    with pytest.raises(DataError, match=r"metrics.jsonl: line 4 is not UTF-8; remove this line"):
        fit(recipe, run.path, resume=True)
    run.metrics.write_bytes(whole)
    fit(recipe, run.path, resume=True)


def test_resume_survives_a_line_that_was_cut_off(tiny_recipe, tmp_path):
    run = fit(tiny_recipe("data.val=null"), tmp_path / "run")
    before = losses(run)
    with run.metrics.open("a") as handle:
        handle.write('{"step": 4, "lo')
    fit(tiny_recipe("data.val=null"), run.path, resume=True)
    assert losses(run) == before


def test_report_pictures(softmax_run):
    names = {path.name for path in softmax_run.report.iterdir()}
    assert names == {"loss_curves.png", "group_ap_bbox.png", "group_ap_segm.png", "seen.csv", "trainable.csv"}


def test_stage_two_reads_no_masks(softmax_run, tiny_recipe, tiny_pool, tmp_path):
    content = json.loads((tiny_pool / "annotations.json").read_text())
    for annotation in content["annotations"]:
        del annotation["segmentation"]
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    overrides = (f"data.train.annotations={tmp_path / 'boxes.json'}", "method=bags", "data.val=null")
    run = fit(tiny_recipe(*overrides), tmp_path / "bags", init_from=softmax_run.path)
    assert len(losses(run)) == 3


def test_micro_batches_reach_the_head(softmax_run, tiny_recipe, tmp_path):
    options = ("method=bags", "optim.batch=4", "data.val=null", "schedule.iterations=1", "schedule.warmup=0")
    whole = fit(tiny_recipe(*options), tmp_path / "whole", init_from=softmax_run.path)
    micro = fit(tiny_recipe(*options, "optim.micro_batch=1"), tmp_path / "micro", init_from=softmax_run.path)
    assert losses(whole) != losses(micro)


def test_a_loss_that_is_not_finite_stops_the_run(tiny_recipe, tmp_path):
    with pytest.raises(TrainingStopped, match="not finite.*lower optim.lr"):
        fit(tiny_recipe("optim.lr=1e30", "schedule.iterations=20", "schedule.warmup=0"), tmp_path / "run")


def test_nothing_is_written_when_the_data_is_wrong(tiny_recipe, tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        fit(tiny_recipe("data.train.annotations=nowhere.json"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_validation_categories_must_be_those_of_training(tiny_recipe, tiny_pool, tmp_path):
    content = json.loads((tiny_pool / "annotations.json").read_text())
    content["categories"][0]["name"] = "something else"
    (tmp_path / "val.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="1 categories differ.*something else"):
        fit(tiny_recipe(f"data.val.annotations={tmp_path / 'val.json'}"), tmp_path / "run")


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_cannot_be_read_is_one_line(tiny_recipe, tiny_pool, tmp_path, workers):
    images = tmp_path / "images"
    images.mkdir()
    for path in (tiny_pool / "images").iterdir():
        (images / path.name).write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match="not a readable image") as error:
        fit(tiny_recipe(f"data.train.images={images}", f"data.workers={workers}", "data.val=null"), tmp_path / "run")
    assert len(error.value.problems) == 1
    assert "\n" not in error.value.problems[0]


def test_boxes_alone_cannot_train_masks(tiny_recipe, tiny_pool, tmp_path):
    content = json.loads((tiny_pool / "annotations.json").read_text())
    for annotation in content["annotations"]:
        del annotation["segmentation"]
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    overrides = (f"data.train.annotations={tmp_path / 'boxes.json'}", "schedule.iterations=1", "data.val=null")
    with pytest.raises(DataError, match="model.name=faster_rcnn"):
        fit(tiny_recipe(*overrides), tmp_path / "run")
    fit(tiny_recipe(*overrides, "model.name=faster_rcnn_small"), tmp_path / "run")


def test_device_that_is_not_here(tiny_recipe, tmp_path):
    with pytest.raises(RecipeError, match="cuda:99"):
        fit(tiny_recipe("device=cuda:99"), tmp_path / "run")
    with pytest.raises(RecipeError, match="allowed are auto"):
        fit(tiny_recipe("device=abacus"), tmp_path / "run")


def test_training_nothing_is_refused(tiny_recipe, tmp_path):
    with pytest.raises(RecipeError, match="nothing and there is no calibration"):
        fit(tiny_recipe("train=none"), tmp_path / "run")


def test_evaluation_of_a_run_equals_that_of_the_fit(softmax_run, monkeypatch):
    before = (softmax_run.evaluation / "metrics.json").read_bytes()
    decoded = []

    def read_masks(file, source, rows):
        decoded.append(source)
        return original(file, source, rows)

    original = truth_columns.read_masks
    monkeypatch.setattr(truth_columns, "read_masks", read_masks)
    measured, out = evaluate_run(softmax_run.path)
    assert out == softmax_run.evaluation
    # masks of the annotations take long to decode: once is enough to check and to measure
    assert decoded == ["annotations.json"]
    assert (out / "metrics.json").read_bytes() == before
    assert measured.text.startswith("protocol coco (100 detections per image and category)")
    assert measured.text.splitlines()[1].split()[:3] == ["AP", "AP50", "AP75"]
    (note,) = measured.warnings
    assert note.startswith("annotations.json is the file that the run was trained on")


def test_evaluation_elsewhere(softmax_run, tiny_pool, tmp_path):
    files = Files(annotations=tiny_pool / "annotations.json", images=tiny_pool / "images")
    _, out = evaluate_run(softmax_run.path, files=files, out=tmp_path / "eval")
    assert (out / "per_class.csv").is_file()
    with pytest.raises(OutputError, match="--force"):
        evaluate_run(softmax_run.path, files=files, out=tmp_path / "eval")
    evaluate_run(softmax_run.path, files=files, out=tmp_path / "eval", force=True)


def test_evaluation_never_replaces_files_of_others(softmax_run, tiny_pool, tmp_path):
    files = Files(annotations=tiny_pool / "annotations.json", images=tiny_pool / "images")
    (tmp_path / "predictions.json").write_text("mine")
    with pytest.raises(OutputError, match="holds predictions.json"):
        evaluate_run(softmax_run.path, files=files, out=tmp_path)
    with pytest.raises(OutputError, match="is a file"):
        evaluate_run(softmax_run.path, files=files, out=tmp_path / "predictions.json")
    assert (tmp_path / "predictions.json").read_text() == "mine"


def test_best_needs_validation_data(tiny_recipe, tmp_path, tiny_pool):
    run = fit(tiny_recipe("data.val=null", "schedule.iterations=1"), tmp_path / "run")
    files = Files(annotations=tiny_pool / "annotations.json", images=tiny_pool / "images")
    with pytest.raises(DataError, match="evaluated on validation data"):
        evaluate_run(run.path, checkpoint="best", files=files)


def test_evaluation_of_what_is_no_run(tmp_path):
    with pytest.raises(DataError, match="not a run directory"):
        evaluate_run(tmp_path)


def test_checkpoint_with_code_is_refused(tmp_path):
    import pickle

    class Evil:
        def __reduce__(self):
            return (print, ("hacked",))

    (tmp_path / "evil.pt").write_bytes(pickle.dumps(Evil()))
    torch.save({"format": 1, "model": Evil()}, tmp_path / "evil2.pt")
    for name in ("evil.pt", "evil2.pt"):
        with pytest.raises(DataError, match="read safely"):
            load_checkpoint(tmp_path / name)


def test_checkpoint_of_another_format(tmp_path):
    save_checkpoint(tmp_path / "new.pt", {"format": 99})
    with pytest.raises(DataError, match="format is 99"):
        load_checkpoint(tmp_path / "new.pt")


def test_several_processes_are_refused_not_ignored(tiny_recipe, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RecipeError, match="not built yet"):
        fit(tiny_recipe(), tmp_path / "run")


def seen(run):
    with (run.report / "seen.csv").open() as handle:
        return list(csv.DictReader(handle))


@pytest.mark.parametrize("method", ["softmax", "rfs", "class-aware", "finetune-tail"])
def test_what_was_seen_is_counted(tiny_recipe, tiny_pool, tmp_path, method, softmax_run):
    """The table equals what the samples of the run's steps held, counted one by one."""
    recipe = tiny_recipe(f"method={method}", "data.val=null", "schedule.iterations=9", "schedule.decay=[]")
    recipe = (
        recipe.model_copy(update={"data": recipe.data.model_copy(update={"classes_below": 3})})
        if (method == "finetune-tail")
        else recipe
    )
    run = fit(recipe, tmp_path / "run", init_from=softmax_run.path)
    data = load_run_data(recipe)
    plan = make_plan(recipe, data)
    instances, images = Counter(), Counter()
    for step in plan.steps():
        for draw in (draw for batch in step.batches for draw in batch):
            labels = data.dataset[draw][1]["labels"].tolist()
            instances.update(labels)
            images.update(set(labels))
    table = seen(run)
    assert [int(row["instances_seen"]) for row in table] == [instances[label] for label in range(1, 21)]
    assert [int(row["images_seen"]) for row in table] == [images[label] for label in range(1, 21)]
    assert sum(instances.values()) > 0
    assert "seen: 18 images in 9 steps" in run.log.read_text() or method == "finetune-tail"


def test_class_aware_sampling_sees_classes_alike(tiny_recipe, tmp_path):
    """After 60 images every one of 20 classes was drawn three times, whatever its count."""
    options = ("data.val=null", "schedule.iterations=30", "schedule.decay=[]", "train=classifier")
    run = fit(tiny_recipe("method=class-aware", *options), tmp_path / "run")
    assert min(int(row["images_seen"]) for row in seen(run)) >= 3
    assert "class-aware sampling: 20 classes with images take turns" in run.log.read_text()


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


def test_trainable_numbers_are_listed(softmax_run, tiny_recipe, tmp_path):
    with (softmax_run.report / "trainable.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    state = weights(softmax_run)
    assert all("x".join(map(str, state[row["name"]].shape)) == row["shape"] for row in rows)
    total = sum(int(row["numbers"]) for row in rows)
    assert f"trainable: {total:,} numbers in {len(rows)} tensors" in softmax_run.log.read_text()
