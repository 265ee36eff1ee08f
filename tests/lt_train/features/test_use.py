"""Using features: evaluation, calibrations, going on, and what is refused."""

import json
import shutil

import pytest
import torch
from click.testing import CliRunner

from cli.train import main
from lt_data.errors import DataError, RecipeError
from lt_train.engine.calibrate import calibrate_run
from lt_train.engine.calibration_search import Search
from lt_train.engine.fit import fit
from lt_train.engine.interrupts import Interrupted
from lt_train.evaluation.measure import Choices
from lt_train.features import evaluation
from lt_train.features.cache import cache_run
from lt_train.features.systems import evaluate_from_features, evaluate_systems
from lt_train.inference.evaluate_run import evaluate_run
from lt_train.recipe.load import load_recipe
from tests.lt_train.engine.reading_runs import weights
from tests.lt_train.engine.stepping import assert_same, interrupt_in_step
from tests.lt_train.features.boxes import assert_same_boxes, predictions

SHORT = ("data.val=null", "second_head.below=3", "schedule.iterations=1")


def test_evaluation_equals_that_of_the_network(softmax_run, exact, tiny_recipe, tmp_path):
    """Of the baseline, and of BAGS, whose classifier came later and whose scores are merged from groups."""
    recipe = tiny_recipe("method=bags", "schedule.iterations=2", "schedule.decay=[]")
    bags = fit(recipe, tmp_path / "bags", init_from=softmax_run.path, from_features=exact)
    known = tmp_path / "known"
    for run in (softmax_run, bags):
        direct = tmp_path / f"{run.path.name}-direct"
        evaluate_run(run.path, choices=Choices(boxes_only=True), out=direct)
        asked = ["eval", str(run.path), "--boxes-only", "--out", str(known), "--force"]
        done = CliRunner().invoke(main, [*asked, "--from-features", str(exact)])
        assert done.exit_code == 0, done.output
        assert_same_boxes(predictions(known), predictions(direct))
        first, second = (json.loads((out / "metrics.json").read_text()) for out in (direct, known))
        assert first["bbox"]["AP"] == pytest.approx(second["bbox"]["AP"])


def test_several_systems_are_evaluated_in_one_pass(softmax_run, exact, tiny_recipe, tmp_path, monkeypatch):
    """With their masks, for which the trunk sees every image once; what cannot be measured does not stop the others."""
    recipe = tiny_recipe("method=crt", "schedule.iterations=2", "schedule.decay=[]")
    crt = fit(recipe, tmp_path / "crt", init_from=softmax_run.path, from_features=exact)
    tau = calibrate_run(softmax_run.path, "tau-norm", tmp_path / "tau", from_features=exact)
    (tmp_path / "nothing").mkdir()
    original, seen = evaluation.trunk_maps, []
    monkeypatch.setattr(evaluation, "trunk_maps", lambda *given: (seen.append(1), original(*given))[1])
    alone = {}
    for run in (crt, tau):
        evaluate_from_features(run.path, exact)
        alone[run.path] = {file.name: file.read_bytes() for file in run.evaluation.glob("*.json")}
        evaluate_from_features(run.path, exact, choices=Choices(boxes_only=True), out=run.evaluation, force=True)
    assert predictions(crt.evaluation) != predictions(tau.evaluation)
    seen.clear()
    words = ["eval", str(crt.path), str(tmp_path / "nothing"), str(tau.path), "--from-features", str(exact)]
    done = CliRunner().invoke(main, words)
    assert len(seen) == 12
    assert done.exit_code == 1, done.output
    assert done.stderr.splitlines()[-1].startswith(f"error: {tmp_path / 'nothing'}: not a run directory")
    for run in (crt, tau):
        assert {name: (run.evaluation / name).read_bytes() for name in alone[run.path]} == alone[run.path]
        assert f"written: {run.evaluation}" in done.stdout
        assert not [file for file in run.path.iterdir() if file.name.startswith("tmp")]
    # the network itself finds the same
    evaluate_run(crt.path, out=tmp_path / "direct")
    wanted, found = (json.loads((out / "metrics.json").read_text()) for out in (tmp_path / "direct", crt.evaluation))
    assert found["segm"]["AP"] == pytest.approx(wanted["segm"]["AP"], abs=1e-6)
    # what is measured is left out when that is asked for, unless boxes are all that was
    evaluate_from_features(tau.path, exact, choices=Choices(boxes_only=True), out=tau.evaluation, force=True)
    seen.clear()
    done = CliRunner().invoke(main, ["eval", str(crt.path), str(tau.path), "--from-features", str(exact), "--missing"])
    assert done.exit_code == 0, done.output
    assert len(seen) == 12
    assert done.stderr.splitlines()[-1] == f"note: {crt.path}: is measured already; left out"
    assert {name: (tau.evaluation / name).read_bytes() for name in alone[tau.path]} == alone[tau.path]


def test_systems_that_do_not_go_together_are_named(softmax_run, exact, tiny_recipe, tmp_path):
    """Other frozen weights, another image folder: neither is measured with what is not its own."""
    other = fit(tiny_recipe("seed=7", "schedule.iterations=1", "schedule.decay=[]"), tmp_path / "other")
    elsewhere = shutil.copytree(softmax_run.path, tmp_path / "elsewhere")
    recipe = (elsewhere / "recipe.yaml").read_text()
    images = load_recipe(str(elsewhere / "recipe.yaml")).data.val.images
    shutil.copytree(images, tmp_path / "pixels")
    (elsewhere / "recipe.yaml").write_text(recipe.replace(f"images: {images}", f"images: {tmp_path / 'pixels'}"))
    found = evaluate_systems([softmax_run.path, other.path, elsewhere], exact, choices=Choices(boxes_only=True))
    assert [run for run, _ in found.measured] == [softmax_run.path]
    first, second = found.problems
    assert first.startswith(f"{other.path}: {exact / 'val'}: made with frozen weights sha256 ")
    assert second.startswith(f"{elsewhere}: its validation images are in {tmp_path / 'pixels'}, those of ")


def test_systems_share_what_lies_in_memory_alike(softmax_run, exact, tmp_path, monkeypatch):
    """Layers of other strides round otherwise, and each is to find what it finds alone."""
    copies = [shutil.copytree(softmax_run.path, tmp_path / name) for name in ("other", "same")]
    written = copies[0] / "recipe.yaml"
    written.write_text(written.read_text().replace("channels_last: false", "channels_last: true"))
    original, seen = evaluation.KnownValidation.predict_systems, []

    def looked_at(known, systems, *given, **how):
        seen.extend(system.model.backbone.state_dict(keep_vars=True) for system in systems)
        return original(known, systems, *given, **how)

    monkeypatch.setattr(evaluation.KnownValidation, "predict_systems", looked_at)
    evaluate_systems([softmax_run.path, *copies], exact, choices=Choices(boxes_only=True), force=True)
    first, other, same = seen
    assert all(same[name].data_ptr() == first[name].data_ptr() for name in first)
    wide = [name for name, weight in first.items() if weight.ndim == 4 and min(weight.shape[1:]) > 1]
    assert wide
    assert all(other[name].is_contiguous(memory_format=torch.channels_last) for name in wide)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("a", "b"), "Several RUNs, and --missing, need --from-features"),
        (("a", "b", "--from-features", "f", "--out", "o"), "--out is for one RUN"),
        (("a", "--from-features", "f", "--missing", "--out", "o"), "--missing looks at RUN/eval"),
        (("a", "--from-features", "f", "--scores", "dual"), "--scores is for a second head"),
    ],
)
def test_options_that_several_systems_do_not_have(words, says):
    done = CliRunner().invoke(main, ["eval", *words])
    assert done.exit_code == 2
    assert says in done.stderr


@pytest.mark.parametrize(
    ("method", "overrides"),
    [
        ("ncm-fc", ()),
        ("ncm-fc", ("calibration.features=fc-relu", "calibration.boxes=proposals", "data.val=null")),
        ("logn", ("data.val=null",)),
    ],
)
def test_calibrations_are_those_of_the_direct_way(softmax_run, exact, tmp_path, method, overrides):
    direct = calibrate_run(softmax_run.path, method, tmp_path / "direct", overrides=overrides)
    known = calibrate_run(softmax_run.path, method, tmp_path / "known", overrides=overrides, from_features=exact)
    wanted, found = weights(direct), weights(known)
    assert any(name.startswith("roi_heads.calibration.") for name in wanted)
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name], rtol=1e-4, atol=1e-5, msg=name)
    if not overrides:
        # scores are close to each other, so that their order hangs on rounding
        boxes = [json.loads((run.evaluation / "metrics.json").read_text())["bbox"] for run in (direct, known)]
        assert boxes[1]["AP"] == pytest.approx(boxes[0]["AP"], abs=1e-3)


def test_search_from_features(softmax_run, exact, tmp_path):
    search = Search("tau", (0.0, 1.0))
    direct = calibrate_run(softmax_run.path, "tau-norm", tmp_path / "direct", search=search)
    known = calibrate_run(softmax_run.path, "tau-norm", tmp_path / "known", search=search, from_features=exact)
    assert (known.report / "search.csv").read_text() == (direct.report / "search.csv").read_text()


def test_a_run_goes_on_from_the_same_features_alone(softmax_run, exact, tiny_recipe, tmp_path, monkeypatch):
    recipe = tiny_recipe("method=crt", "schedule.iterations=4", "schedule.decay=[]", "eval.every=2")
    whole = fit(recipe, tmp_path / "whole", init_from=softmax_run.path, from_features=exact)
    assert f"evaluation from {exact / 'val'}: of boxes" in whole.log.read_text()
    metrics = json.loads((whole.evaluation / "metrics.json").read_text())
    assert "segm" not in metrics
    run = tmp_path / "stopped"
    restore = interrupt_in_step(monkeypatch, 3)
    with pytest.raises(Interrupted):
        fit(recipe, run, init_from=softmax_run.path, from_features=exact)
    restore()
    with pytest.raises(DataError, match=f"begun with features; give --from-features {exact}"):
        fit(recipe, run, resume=True)
    again = fit(recipe, run, resume=True, from_features=exact)
    assert_same(weights(again), weights(whole))


def test_a_best_checkpoint_is_chosen_by_one_figure_from_start_to_end(
    softmax_run, exact, tiny_recipe, tmp_path, monkeypatch
):
    """Of boxes where the validation images have features, else of masks: both in one run would be compared."""
    recipe = tiny_recipe("method=crt", "schedule.iterations=4", "schedule.decay=[]", "eval.every=2")
    features, run = tmp_path / "features", tmp_path / "run"
    shutil.copytree(exact / "train", features / "train")
    restore = interrupt_in_step(monkeypatch, 3)
    with pytest.raises(Interrupted):
        fit(recipe, run, init_from=softmax_run.path, from_features=features)
    shutil.copytree(exact / "val", features / "val")
    with pytest.raises(Interrupted):
        fit(recipe, tmp_path / "by boxes", init_from=softmax_run.path, from_features=features)
    restore()
    again = fit(recipe, run, resume=True, from_features=features)
    assert "evaluation from" not in again.log.read_text()
    assert "segm" in json.loads((again.evaluation / "metrics.json").read_text())
    shutil.rmtree(features / "val")
    with pytest.raises(DataError, match=r"^--resume: the features \(val\) are not those that the run was begun with"):
        fit(recipe, tmp_path / "by boxes", resume=True, from_features=features)


def test_what_features_do_not_fit_is_one_line(softmax_run, exact, tiny_recipe, tmp_path):
    other = fit(tiny_recipe("seed=3", "data.val=null", "schedule.iterations=1"), tmp_path / "other")
    options = ("method=crt", "data.val=null")
    larger = (*options, "model.max_size=80", "model.min_size=80")
    cases = (
        (RecipeError, ("method=softmax",), softmax_run, "train=all trains what the features come from"),
        (RecipeError, ("train=head", "method=softmax"), softmax_run, "train=head trains what"),
        (DataError, options, other, "made with frozen weights sha256"),
        (DataError, larger, softmax_run, "made with size of images short side 64, at most 64, the run has"),
        (RecipeError, (*options, "data.augment.hue=0.1"), softmax_run, "data.augment: training would change images"),
        (RecipeError, (*options, "model.min_size=[48,64]"), softmax_run, "kept in one size, set for example"),
        (
            DataError,
            (*options, "data.classes_below=3"),
            softmax_run,
            "made with images .*; set data.hold_out, data",
        ),
        (DataError, (*options, "data.exif=apply"), softmax_run, "made with image reading"),
    )
    for kind, overrides, start, says in cases:
        with pytest.raises(kind, match=says) as refused:
            fit(tiny_recipe(*overrides), tmp_path / "run", init_from=start.path, from_features=exact)
        assert len(refused.value.problems) == 1
        assert not (tmp_path / "run").exists()
    simcal = fit(tiny_recipe("method=simcal", *SHORT), tmp_path / "simcal", init_from=softmax_run.path)
    with pytest.raises(RecipeError, match="method simcal: its second head looks at the pooled feature maps, which are"):
        fit(tiny_recipe("method=simcal", *SHORT), tmp_path / "run", init_from=softmax_run.path, from_features=exact)
    with pytest.raises(RecipeError, match="method simcal: its second head looks at the pooled feature maps, which are"):
        cache_run(simcal.path, tmp_path / "run")
    with pytest.raises(RecipeError, match="calibration.features=conv looks at pooled feature maps"):
        calibrate_run(softmax_run.path, "ncm-conv", tmp_path / "run", from_features=exact)
    # a method that looks at no training image needs none, but not a folder that is not there
    with pytest.raises(DataError, match=f"^{tmp_path / 'no' / 'val'}: holds no features"):
        calibrate_run(softmax_run.path, "norcal", tmp_path / "run", from_features=tmp_path / "no")
    assert not (tmp_path / "run").exists()


def test_flips_that_are_not_kept_and_damage_are_named(softmax_run, tiny_recipe, tmp_path):
    upright = fit(tiny_recipe("data.flip=0", "data.val=null", "schedule.iterations=1"), tmp_path / "upright")
    features = tmp_path / "features"
    made = CliRunner().invoke(main, ["cache", str(upright.path), "--out", str(features), "--pool", "80"])
    assert made.exit_code == 0, made.output
    assert made.output.splitlines()[-1] == f"written: {features / 'train'}"
    path = features / "train"
    recipe = tiny_recipe("method=crt", "data.val=null")
    with pytest.raises(DataError, match=r"holds no mirrored images, and data.flip=0.5 wants them; set data.flip=0"):
        fit(recipe, tmp_path / "run", init_from=upright.path, from_features=features)
    with pytest.raises(DataError, match="holds no features"):
        evaluate_from_features(softmax_run.path, features, choices=Choices(boxes_only=True), out=tmp_path / "eval")
    asked = [
        "fit",
        str(upright.recipe),
        "--method",
        "crt",
        "--init-from",
        str(upright.path),
        "--out",
        str(tmp_path / "run"),
    ]
    done = CliRunner().invoke(main, [*asked, "--from-features", str(features)])
    assert done.exit_code == 0, done.output
    recipe = tiny_recipe("method=crt", "data.val=null", "data.flip=0")
    damaged = path / "shard-00000" / "s0.labels.npy"
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    with pytest.raises(DataError, match="shard-00000 of 1 shards are damaged .* --for train --pool 80 --repair$"):
        fit(recipe, tmp_path / "again", init_from=upright.path, from_features=features)
