"""The training run: files, order, samplers, and what is refused."""

import csv
import json
import multiprocessing
import re
import shutil
from collections import Counter

import pytest
import torch

from lt_data.errors import DataError, OutputError, RecipeError
from lt_train.data.plan import Step
from lt_train.engine.fit import fit
from lt_train.engine.losses import TrainingStopped
from lt_train.engine.state import RunState
from lt_train.engine.step import train_step
from lt_train.heads import make_head
from lt_train.recipe.load import make_noted
from lt_train.runs.checkpoint import load_checkpoint
from lt_train.runs.data import load_run_data, make_plan
from tests.lt_train.engine.reading_runs import losses, weights
from tests.lt_train.engine.stepping import assert_same


def seen(run):
    with (run.report / "seen.csv").open() as handle:
        return list(csv.DictReader(handle))


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
    assert_same(weights(again), weights(softmax_run))


def test_another_seed_other_numbers(softmax_run, tiny_recipe, tmp_path):
    assert losses(fit(tiny_recipe("seed=1"), tmp_path / "other")) != losses(softmax_run)


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


def test_what_another_method_drops_is_in_the_log(softmax_run, tiny_recipe, tmp_path):
    content = tiny_recipe("method=bags", "head.others_ratio=3", "data.val=null", "schedule.iterations=1").to_plain()
    recipe, notes = make_noted(content, ["method=reweight-cls"])
    run = fit(recipe, tmp_path / "run", init_from=softmax_run.path, notes=notes)
    assert "note: method=reweight-cls has head=reweight; dropped from the recipe: head.others_ratio=3" in (
        run.log.read_text()
    )


class _OneWeight(torch.nn.Module):
    """A stand-in whose loss is its weight times the first pixel of the first image."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(1.0))
        self.head = make_head("softmax", instance_counts=[1])

    def forward(self, images, _):
        return {"loss_a": self.weight * images[0].flatten()[0] * 255}


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
    other = fit(tiny_recipe("model.min_size_range=[48,80]", "model.max_size=96", "data.val=null"), tmp_path / "other")
    assert losses(other) not in (losses(run), losses(softmax_run))


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
    log = run.log.read_text()
    assert log.count("protocol coco") == log.count("groups weighted by their classes") == 2
    # what is the same for every evaluation is said once
    assert log.count("(0, 2) holds categories of") == 1
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


@pytest.mark.usefixtures("pictures")
def test_report_pictures(tiny_recipe, tmp_path):
    run = fit(tiny_recipe("schedule.iterations=2"), tmp_path / "run")
    names = {path.name for path in run.report.iterdir()}
    assert names == {"loss_curves.png", "group_ap_bbox.png", "group_ap_segm.png", "seen.csv", "trainable.csv"}


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
        fit(tiny_recipe("data.train.annotations=/nowhere.json"), tmp_path / "run")
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
    before = set(multiprocessing.active_children())
    with pytest.raises(DataError, match="not a readable image") as error:
        fit(tiny_recipe(f"data.train.images={images}", f"data.workers={workers}", "data.val=null"), tmp_path / "run")
    assert len(error.value.problems) == 1
    assert "\n" not in error.value.problems[0]
    assert set(multiprocessing.active_children()) == before


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


def test_class_aware_sampling_sees_classes_alike(softmax_run, tiny_recipe, tmp_path):
    """After 60 images every one of 20 classes was drawn three times, whatever its count."""
    options = ("data.val=null", "schedule.iterations=30", "schedule.decay=[]", "train=classifier")
    run = fit(tiny_recipe("method=class-aware", *options), tmp_path / "run", init_from=softmax_run.path)
    assert min(int(row["images_seen"]) for row in seen(run)) >= 3
    assert "class-aware sampling: 20 classes with images take turns" in run.log.read_text()


def test_trainable_numbers_are_listed(softmax_run, tiny_recipe, tmp_path):
    with (softmax_run.report / "trainable.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    state = weights(softmax_run)
    assert all("x".join(map(str, state[row["name"]].shape)) == row["shape"] for row in rows)
    total = sum(int(row["numbers"]) for row in rows)
    assert f"trainable: {total:,} numbers in {len(rows)} tensors" in softmax_run.log.read_text()
