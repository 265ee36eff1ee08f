"""Calibrating a trained run: other scores, nothing trained, a run directory like any other."""

import csv
import json
import re
import shutil
from functools import partial

import numpy as np
import pytest
import torch
import yaml

from lt_data.errors import DataError, OutputError, RecipeError
from lt_train.engine.calibrate import calibrate_run
from lt_train.engine.calibration_search import Search, parse_search
from lt_train.engine.fit import fit
from lt_train.evaluation.measure import measure
from lt_train.inference.evaluate_run import evaluate_run
from lt_train.inference.predict_images import predict_images
from lt_train.recipe.sections import Files
from lt_train.runs.checkpoint import load_checkpoint, save_checkpoint
from lt_train.runs.directory import RunDir
from tests.lt_train.several import start


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def softmax_run(runs, tiny_recipe):
    if not (runs / "softmax").is_dir():
        options = ("schedule.iterations=12", "schedule.decay=[10]", "schedule.warmup=2", "optim.lr=0.05")
        fit(tiny_recipe(*options), runs / "softmax")
    return runs / "softmax"


@pytest.fixture
def decided_run(runs, softmax_run):
    """The same run, but so that many regions have a class as their best: a run this short calls all background."""
    run = runs / "decided"
    if not run.is_dir():
        shutil.copytree(softmax_run, run)
        content = load_checkpoint(run / "checkpoints" / "last.pt")
        weight = content["model"]["roi_heads.box_predictor.cls_score.weight"]
        weight.normal_(std=0.3, generator=torch.Generator().manual_seed(0))
        # rows as long as those of frequent and of rare classes
        weight *= torch.linspace(0.5, 2, len(weight))[:, None]
        save_checkpoint(run / "checkpoints" / "last.pt", content)
    return run


def weights_of(run):
    content = load_checkpoint(run / "checkpoints" / "last.pt")["model"]
    return {key: value for key, value in content.items() if not key.startswith("roi_heads.calibration.")}


def predictions_of(run):
    return json.loads((run / "eval" / "predictions.json").read_text())


@pytest.mark.parametrize("method", ["tau-norm", "tau-norm-select", "ncm-fc", "ncm-conv"])
def test_scores_change_and_weights_do_not(softmax_run, method, tmp_path):
    run = calibrate_run(
        softmax_run, method, tmp_path / "run", overrides=["calibration.tail_below=3"] * ("tau" in method)
    )
    before, after = weights_of(softmax_run), weights_of(run.path)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    scores = [sorted(p["score"] for p in predictions_of(path)) for path in (softmax_run, run.path)]
    # a run this short calls every region background, and a selection leaves those as they were
    assert (scores[0] != scores[1]) == (method != "tau-norm-select")
    log = run.log.read_text()
    assert "trainable: 0 numbers" in log
    assert f"weights from {softmax_run}" in log
    assert not list(csv.DictReader((run.report / "trainable.csv").open()))
    # it can be used like any run, and gives the same again
    bytes_before = (run.evaluation / "metrics.json").read_bytes()
    evaluate_run(run.path)
    assert (run.evaluation / "metrics.json").read_bytes() == bytes_before


def test_tau_zero_changes_nothing(softmax_run, tmp_path):
    run = calibrate_run(softmax_run, "tau-norm", tmp_path / "run", overrides=["calibration.tau=0"])
    ours, before = predictions_of(run.path), predictions_of(softmax_run)
    assert len(ours) == len(before)
    np.testing.assert_allclose([p["score"] for p in ours], [p["score"] for p in before], atol=1e-6)


@pytest.mark.parametrize("boxes", ["ground-truth", "proposals"])
def test_class_means_are_those_of_the_training_objects(softmax_run, tiny_recipe, boxes, tmp_path):
    """Every object is seen once; proposals hold each object's own box and what lies on it."""
    options = [f"calibration.boxes={boxes}", "data.val=null"]
    run = calibrate_run(softmax_run, "ncm-fc", tmp_path / "run", overrides=options)
    content = load_checkpoint(run.last)
    instances = torch.tensor(content["categories"]["instances"])
    seen = content["model"]["roi_heads.calibration.seen"]
    assert torch.equal(seen, instances) if boxes == "ground-truth" else bool((seen >= instances).all())
    assert "no validation data" in run.log.read_text()
    again = calibrate_run(softmax_run, "ncm-fc", tmp_path / "again", overrides=[*options, "optim.batch=5"])
    sums = [load_checkpoint(r.last)["model"]["roi_heads.calibration.sums"] for r in (run, again)]
    if boxes == "ground-truth":
        torch.testing.assert_close(*sums, rtol=1e-4, atol=1e-4)


def test_the_run_may_have_another_head(softmax_run, tiny_recipe, tmp_path):
    """A calibration keeps the head of the run: nearest class means work on top of BAGS."""
    bags = fit(tiny_recipe("method=bags", "data.val=null"), tmp_path / "bags", init_from=softmax_run)
    run = calibrate_run(bags.path, "ncm-fc", tmp_path / "run", overrides=["data.val=null"])
    assert run.load_recipe().head.name == "bags"
    log = run.log.read_text()
    assert "method ncm-fc: head=bags calibration=ncm" in log
    # nobody did
    assert "set explicitly" not in log
    with pytest.raises(RecipeError, match="this one is BagsHead"):
        calibrate_run(bags.path, "tau-norm", tmp_path / "other")


def test_a_calibration_draws_nothing(dataset_run, tmp_path):
    """So sampler and factors of the run are no matter, and nobody is told that they beat those of the method."""
    run, factors = dataset_run
    factors.write_text("no factors any more")
    calibrated = calibrate_run(run.path, "tau-norm", tmp_path / "tau")
    assert calibrated.load_recipe().sampler.name == "shuffle"
    assert "set explicitly" not in calibrated.log.read_text()


@pytest.fixture
def dataset_run(tiny_recipe, tiny_pool, tmp_path):
    """A run with repeat factors of a file, and the file."""
    factors = tmp_path / "factors.csv"
    ids = [image["id"] for image in json.loads((tiny_pool / "annotations.json").read_text())["images"]]
    factors.write_text("image_id,repeat_factor\n" + "".join(f"{i},1.5\n" for i in ids))
    recipe = tiny_recipe("method=rfs", f"sampler.factors={factors}", "data.val=null")
    return fit(recipe, tmp_path / "rfs"), factors


def test_fit_with_a_calibration_recipe(softmax_run, tiny_recipe, tmp_path):
    recipe = tiny_recipe("method=tau-norm-select", "data.val=null")
    run = fit(recipe, tmp_path / "run", init_from=softmax_run)
    assert run.load_recipe().calibration.background == "select-tail"
    with pytest.raises(RecipeError, match="--init-from RUN"):
        fit(recipe, tmp_path / "other")
    with pytest.raises(RecipeError, match="nothing to continue"):
        fit(recipe, tmp_path / "run", resume=True)
    with pytest.raises(OutputError, match="--force"):
        fit(recipe, tmp_path / "run", init_from=softmax_run)
    with pytest.raises(DataError, match=r"cls_score does not fit head=bags"):
        fit(tiny_recipe("method=ncm-fc", "head.name=bags"), tmp_path / "other", init_from=softmax_run)


def test_a_run_is_never_written_over_itself(softmax_run):
    with pytest.raises(RecipeError, match="is the run that is calibrated"):
        calibrate_run(softmax_run, "tau-norm", softmax_run, force=True)
    assert (softmax_run / "checkpoints" / "last.pt").is_file()


SEARCHES = {
    "tau": ("tau-norm", "tau", (0.0, 0.5, 1.0), ()),
    "tail_below": ("tau-norm-select", "tail_below", (1, 2, 1000), ()),
    "temperature": ("ncm-fc", "temperature", (0.02, 1.0), ()),
    "temperature in half precision": ("ncm-conv", "temperature", (0.02, 1.0), ("compute.precision=bf16",)),
}


# one of weights and one of class means; the commands' tests search for a tau
IN_SLOW = ("tau", "temperature")


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.slow if case in IN_SLOW else ()) for case in SEARCHES]
)
def test_search(decided_run, case, tmp_path, monkeypatch):
    """Each value finds what a run with that value does; the best one is kept, in recipe, state and detections."""
    method, option, values, overrides = SEARCHES[case]
    found = measured_detections(monkeypatch)
    search = Search(option, values, on="val")
    run = calibrate_run(decided_run, method, tmp_path / "run", overrides=overrides, search=search)
    rows = list(csv.DictReader((run.report / "search.csv").open()))
    assert [float(row[option]) for row in rows] == list(values)
    assert (run.report / "search.png").stat().st_size > 1000
    alone = {}
    for value in values:
        options = [*overrides, f"calibration.{option}={value}"]
        alone[value] = calibrate_run(decided_run, method, tmp_path / f"{value}", overrides=options)
    for row, detections, one in zip(rows, found, alone.values(), strict=True):
        wanted = predictions_of(one.path)
        assert detections.categories.tolist() == [p["category_id"] for p in wanted]
        np.testing.assert_allclose(detections.scores, [p["score"] for p in wanted], rtol=0, atol=1e-6)
        metrics = json.loads((one.evaluation / "metrics.json").read_text())["bbox"]
        assert float(row["AP"]) == pytest.approx(metrics["AP"], abs=1e-12)
        assert [float(row[g]) for g in metrics["groups"]] == pytest.approx([*metrics["groups"].values()], abs=1e-12)
    # neighbouring values may find the same; all of them would mean that the value reaches nothing
    assert len({detections.scores.tobytes() for detections in found}) > 1
    best = values[int(np.argmax([float(row["AP"]) for row in rows]))]
    assert getattr(run.load_recipe().calibration, option) == best
    ours, wanted = load_checkpoint(run.last), load_checkpoint(alone[best].last)
    assert ours["recipe"] == wanted["recipe"]
    assert all(torch.equal(value, wanted["model"][key]) for key, value in ours["model"].items())
    assert predictions_of(run.path) == predictions_of(alone[best].path)


def measured_detections(monkeypatch):
    """What a search measures from now on, in the order of the values."""
    seen = []

    def spy(file, detections, **options):
        seen.append(detections)
        return measure(file, detections, **options)

    monkeypatch.setattr("lt_train.engine.calibration_search.measure", spy)
    return seen


def test_a_run_with_a_search_can_be_used_to_predict(softmax_run, tiny_pool, tmp_path):
    run = calibrate_run(softmax_run, "ncm-fc", tmp_path / "run", search=Search("temperature", (0.05, 1.0)))
    assert predict_images(run.path, tiny_pool / "images", tmp_path / "predicted", pictures=0).images == 12


def test_what_a_search_measured_on_is_said_however_it_is_named(softmax_run, tiny_pool, tmp_path):
    """The training file, the validation data, a copy of either, or another file."""
    annotations, images = tiny_pool / "annotations.json", tiny_pool / "images"
    copy, val, other = (tmp_path / name for name in ("copy.json", "val.json", "other.json"))
    copy.write_bytes(annotations.read_bytes())
    for path in (val, other):
        path.write_text(json.dumps(json.loads(annotations.read_text()) | {"info": {"description": path.name}}))
    validation = [f"data.val.annotations={val}"]
    kinds = []
    for path in (copy, val, other):
        search = Search("tau", (1.0,), Files(annotations=path, images=images))
        run = calibrate_run(softmax_run, "tau-norm", tmp_path / path.stem, overrides=validation, search=search)
        kinds.append(json.loads(run.data.read_text())["search"]["measured_on"])
    assert kinds == ["seen", "val", "file"]
    assert "tuned on other.json" in run.log.read_text()


@pytest.mark.parametrize("place", ["annotations", "images"])
def test_a_split_that_cannot_be_used_costs_nothing(softmax_run, tiny_pool, tmp_path, monkeypatch, place):
    """It is found before the training images are looked at, an older run is there as it was, and no new one begun."""
    monkeypatch.setattr("lt_train.engine.calibrate._fit", lambda *_, **__: pytest.fail("fitted already"))
    files = {"annotations": tiny_pool / "annotations.json", "images": tiny_pool / "images", place: tmp_path / "nope"}
    search = Search("tau", (1.0,), Files(**files))
    old = tmp_path / "old"
    shutil.copytree(softmax_run, old)
    for out, force in ((old, True), (tmp_path / "new", False)):
        with pytest.raises(DataError, match="nope"):
            calibrate_run(softmax_run, "tau-norm", out, search=search, force=force)
    before, after = (sorted(p.relative_to(r) for p in r.rglob("*")) for r in (softmax_run, old))
    assert before == after
    assert (old / "checkpoints" / "last.pt").read_bytes() == (softmax_run / "checkpoints" / "last.pt").read_bytes()
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("images", [0, 12])
def test_a_split_without_objects_decides_nothing(softmax_run, tiny_pool, tmp_path, images):
    content = json.loads((tiny_pool / "annotations.json").read_text())
    content |= {"annotations": [], "images": content["images"][:images]}
    (tmp_path / "empty.json").write_text(json.dumps(content))
    files = Files(annotations=tmp_path / "empty.json", images=tiny_pool / "images")
    with pytest.raises(DataError, match=r"empty.json: no object to measure an AP on.*; give another split"):
        calibrate_run(softmax_run, "tau-norm", tmp_path / "run", search=Search("tau", (0.0, 1.0), files))
    assert not (tmp_path / "run").exists()


def calibrated(source, method, out, search=None):
    done = calibrate_run(source, method, out, search=search)
    return done and done.path.name


@pytest.mark.parametrize("method", ["ncm-fc", "tau-norm"])
def test_several_processes_fit_and_search_what_one_does(softmax_run, tmp_path, method):
    search = Search("tau", (0.0, 0.5, 1.0)) if method == "tau-norm" else None
    calibrated(softmax_run, method, tmp_path / "one", search)
    said = start(2, partial(calibrated, softmax_run, method, tmp_path / "two", search))
    assert said == ["'two'", "None"]
    one, two = (load_checkpoint(RunDir(tmp_path / name).last)["model"] for name in ("one", "two"))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-12, atol=0, msg=name)
    for name in ("report/search.csv", "eval/predictions.json") if search else ("eval/per_class.csv",):
        assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("tau=0:1:0.1", ("tau", tuple(i / 10 for i in range(11)))),
        ("tau=0.5", ("tau", (0.5,))),
        ("temperature=1,0.1,1", ("temperature", (0.1, 1.0))),
        ("tau=0:1:0.4", ("tau", (0.0, 0.4, 0.8))),
    ],
)
def test_search_texts(text, wanted):
    assert parse_search(text) == wanted


NOTHING = ["tau", "=1", "tau=", "tau=a", "tau=0:1", "tau=1:0:0.1", "tau=0:1:0", "tau=0:1e9:1", "tau=nan"]


@pytest.mark.parametrize("text", NOTHING)
def test_search_texts_that_say_nothing(text):
    with pytest.raises(RecipeError, match="write OPTION=FIRST:LAST:STEP"):
        parse_search(text)


@pytest.mark.parametrize(
    ("method", "option", "allowed"),
    [
        ("tau-norm", "taw", "tau, tail_below; write for example --search tau=0.5,1"),
        ("tau-norm", "name", "tau, tail_below; write for example --search tau=0.5,1"),
        ("tau-norm-select", "background", "tau, tail_below; write for example --search tau=0.5,1"),
        ("ncm-fc", "features", "temperature; write for example --search temperature=0.5,1"),
        ("ncm-conv", "boxes", "temperature; write for example --search temperature=0.5,1"),
    ],
)
def test_search_of_what_is_no_number(softmax_run, tmp_path, method, option, allowed):
    with pytest.raises(RecipeError) as error:
        calibrate_run(softmax_run, method, tmp_path / "run", search=Search(option, (0.0, 1.0)))
    name = "ncm" if "ncm" in method else "tau-norm"
    assert error.value.problems == [
        f"--search: got '{option}'; options of calibration {name} that can be searched are {allowed}"
    ]
    assert not (tmp_path / "run").exists()


def test_search_of_values_that_are_not_allowed(softmax_run, tmp_path):
    with pytest.raises(RecipeError, match="calibration.tau: got -1"):
        calibrate_run(softmax_run, "tau-norm", tmp_path / "run", search=Search("tau", (-1.0,)))
    with pytest.raises(RecipeError, match="calibration.tail_below: got 1.5"):
        calibrate_run(softmax_run, "tau-norm", tmp_path / "run", search=Search("tail_below", (1.5,)))
    search = Search("tau", (1.0,), on="val")
    with pytest.raises(DataError, match="--on val: the recipe has no data.val; give the split"):
        calibrate_run(softmax_run, "tau-norm", tmp_path / "run", overrides=["data.val=null"], search=search)
    assert not (tmp_path / "run").exists()


FEW = r"warning: 0 of ([\d,]+) foreground regions in 12 images keep a class above model.score_threshold=0.3, .*; set "


def test_a_calibration_is_tested_as_its_method_is(decided_run, tmp_path):
    """Nearest class means keep every score: over many classes they are all small. Other methods keep the run's."""
    run = calibrate_run(decided_run, "ncm-fc", tmp_path / "ncm")
    assert run.load_recipe().model.score_threshold == 0
    log = run.log.read_text()
    assert "note: method=ncm-fc sets anew what the recipe had as a default or from method softmax: model.score" in log
    assert "foreground regions" not in log
    assert min(p["score"] for p in predictions_of(run.path)) > 0
    run = calibrate_run(decided_run, "tau-norm", tmp_path / "tau", overrides=["data.val=null"])
    assert run.load_recipe().model.score_threshold == 0.001


def test_a_threshold_that_drops_nearly_every_region_is_said(decided_run, tmp_path):
    """20 classes share what the background leaves: about 0.05 each."""
    run = calibrate_run(decided_run, "ncm-fc", tmp_path / "run", overrides=["model.score_threshold=0.3"])
    (regions,) = re.findall(FEW, run.log.read_text())
    assert int(regions.replace(",", "")) > 20
    assert "note: model.score_threshold=0.3 is set explicitly and beats 0.0 of method ncm-fc" in run.log.read_text()
    # an evaluation of its own says it too
    measured, _ = evaluate_run(run.path)
    assert re.match(FEW, measured.text)
    assert "foreground regions" not in evaluate_run(decided_run)[0].text


@pytest.mark.parametrize(
    ("method", "variant", "wanted"),
    [
        ("ncm-fc", "text", {"features": "fc-relu", "boxes": "proposals"}),
        ("ncm-fc", "code", {"features": "fc", "boxes": "ground-truth"}),
        ("tau-norm-select", "text", {"background": "select-normalised"}),
        ("tau-norm-select", "equal", {"background": "select-tail"}),
    ],
)
def test_a_calibration_obeys_its_variant(decided_run, method, variant, wanted, tmp_path):
    """Given when it is calibrated, or that of the run; its test settings come along, its head stays."""
    run = calibrate_run(decided_run, method, tmp_path / "a", overrides=[f"variant={variant}", "data.val=null"])
    recipe = run.load_recipe()
    assert wanted.items() <= recipe.calibration.model_dump().items()
    assert (recipe.variant, recipe.head.name) == (variant, "softmax")
    of_run = tmp_path / "of_run"
    shutil.copytree(decided_run, of_run)
    content = yaml.safe_load((of_run / "recipe.yaml").read_text())
    (of_run / "recipe.yaml").write_text(yaml.safe_dump({**content, "variant": variant}))
    assert calibrate_run(of_run, method, tmp_path / "b", overrides=["data.val=null"]).load_recipe() == recipe
