"""What lt-data writes is what lt-train uses: groups and repeat factors of a dataset directory, or of files."""

import csv
import json
import shutil

import pytest

from lt_data.build.coco_lt import build_coco_lt
from lt_data.counts.group_stats import group_stats, write_groups
from lt_data.counts.repeat_factor_table import repeat_factor_table, write_repeat_factors
from lt_data.dataset.options import BuildOptions
from lt_data.errors import DataError
from lt_data.groups import PRESETS
from lt_train.engine.calibrate import calibrate_run
from lt_train.engine.fit import fit
from lt_train.evaluation.comparison.compare import compare_evaluations
from lt_train.inference.evaluate_run import evaluate_run
from lt_train.inference.predict_images import predict_images
from lt_train.recipe.origins import Setting
from lt_train.runs.checkpoint import load_checkpoint
from lt_train.runs.data import load_run_data, make_plan
from lt_train.runs.directory import RunDir
from lt_train.trials.dry_run import dry_run

OPTIONS = BuildOptions(scale="0.01", on_shortage="cap", edges=(2, 4), threshold=0.3)


@pytest.fixture(scope="module")
def pristine(tiny_pool, tmp_path_factory):
    out = tmp_path_factory.mktemp("built") / "lt"
    build_coco_lt(tiny_pool / "annotations.json", out, options=OPTIONS)
    return out


@pytest.fixture
def dataset(pristine, tmp_path):
    """A dataset directory to be edited."""
    return shutil.copytree(pristine, tmp_path / "lt")


@pytest.fixture
def recipe_on(tiny_recipe, dataset):
    """A recipe of two steps on the dataset directory, which says nothing of groups; a function of overrides."""

    def recipe(*overrides):
        on = (f"data.train.annotations={dataset}", "data.groups=null", "schedule.iterations=2", "schedule.decay=[]")
        return tiny_recipe(*on, "schedule.warmup=0", "data.val=null", *overrides)

    return recipe


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def own_groups(content):
    """Two groups that no bounds describe."""
    ids = sorted(i for group in content["groups"] for i in group["category_ids"])
    content["edges"] = None
    content["groups"] = [
        {"name": "odd ones", "category_ids": ids[::2]},
        {"name": "even ones", "category_ids": ids[1::2]},
    ]


def set_factor(path, image_id, value):
    rows = list(csv.reader(path.open()))
    path.write_text("".join(f"{i},{value if i == str(image_id) else factor}\n" for i, factor in rows))


def factor_rows(path):
    return {int(row["image_id"]): float(row["repeat_factor"]) for row in csv.DictReader(path.open())}


def seen(run):
    return {int(row["category_id"]): row for row in csv.DictReader((run.report / "seen.csv").open())}


def test_an_edited_group_and_an_edited_factor_are_trained_with(dataset, recipe_on, tmp_path):
    """Seen in the head, and in the images that are drawn."""
    asked = ("method=bags", "train=all", "sampler=repeat-factor", "sampler.rounding=ceil", "schedule.epoch=sampler")
    before = fit(recipe_on(*asked), tmp_path / "before")
    first, second, *_ = json.loads((dataset / "groups.json").read_text())["groups"]
    moved = first["category_ids"][-1]

    def move(content):
        content["groups"][0]["category_ids"].remove(moved)
        content["groups"][1]["category_ids"].append(moved)

    edit(dataset / "groups.json", move)
    images = list(factor_rows(dataset / "repeat_factors.csv"))
    set_factor(dataset / "repeat_factors.csv", images[0], 300)
    after = fit(recipe_on(*asked), tmp_path / "after")

    bins = [load_checkpoint(run.last)["model"] for run in (before, after)]
    (name,) = (key for key in bins[0] if key.endswith("label_to_bin"))
    content = json.loads((dataset / "annotations.json").read_text())
    label = 1 + sorted(category["id"] for category in content["categories"]).index(moved)
    # rows: gate, then a group each; a class is in the group in which its bin is not "others"
    assert [int(model[name][1:, label].argmax()) for model in bins] == [0, 1]
    size = len(first["category_ids"])
    assert [int((model[name][1] > 0).sum()) for model in bins] == [size, size - 1]
    assert seen(after)[moved]["group"] == second["name"]

    of_image = {a["category_id"] for a in content["annotations"] if a["image_id"] == images[0]}
    drawn = [min(int(seen(run)[i]["images_seen"]) for i in of_image) for run in (before, after)]
    # 4 images are seen, and 300 of the about 320 copies of a pass are this one
    assert drawn[0] < 3 < drawn[1]
    log = after.log.read_text()
    assert f"; from {dataset / 'groups.json'}\n" in log
    assert f"; factors from {dataset / 'repeat_factors.csv'}\n" in log
    assert f"warning: {dataset / 'groups.json'}: 1 category has an instance count outside the bounds" in log


@pytest.mark.usefixtures("pictures")
def test_any_partition_flows_through(dataset, recipe_on, tiny_pool, tmp_path):
    """Head, tables, metrics, classes, pictures; evaluation and prediction keep to what was trained with."""
    edit(dataset / "groups.json", own_groups)
    names = ["odd ones", "even ones"]
    files = "{annotations: %s, images: %s}" % (tiny_pool / "annotations.json", tiny_pool / "images")
    run = fit(recipe_on("method=bags", "train=all", f"data.val={files}"), tmp_path / "run")
    assert len(json.loads((run.evaluation / "metrics.json").read_text())["bbox"]["groups"]) == 2
    assert {row["group"] for row in csv.DictReader((run.evaluation / "per_class.csv").open())} == {*names}
    assert (run.report / "group_ap_bbox.png").stat().st_size > 1000
    assert list(json.loads(run.data.read_text())["groups"]) == names
    assert "odd ones" in run.log.read_text()

    shutil.copy(dataset / "annotations.json", tmp_path / "a.json")
    shutil.rmtree(dataset)
    measured, _ = evaluate_run(run.path)
    assert list(measured.metrics["bbox"]["groups"]) == names
    measured, _ = evaluate_run(run.path, groups="2,4")
    assert list(measured.metrics["bbox"]["groups"]) == ["(0, 2)", "[2, 4)", "[4, ~)"]
    write_groups(tmp_path / "by_images.json", group_stats(tmp_path / "a.json", by="frequency"))
    measured, _ = evaluate_run(run.path, groups=str(tmp_path / "by_images.json"))
    assert list(measured.metrics["bbox"]["groups"]) == ["rare", "common", "frequent"]
    predict_images(run.path, tiny_pool / "images", tmp_path / "found", pictures=1)
    assert any((tmp_path / "found" / "pictures").iterdir())


@pytest.mark.parametrize(
    ("asked", "sizes", "source"),
    [
        ((), None, "groups.json"),
        (("data.groups=[3]",), "(0, 3)", "data.groups=[3], which beats "),
        (("data.groups=FILE",), "rare", "by_frequency.json, which beats "),
    ],
)
def test_what_groups_come_from(dataset, recipe_on, tmp_path, asked, sizes, source):
    write_groups(tmp_path / "by_frequency.json", group_stats(dataset, by="frequency"))
    data = load_run_data(recipe_on(*(text.replace("FILE", str(tmp_path / "by_frequency.json")) for text in asked)))
    assert data.groups[0].name == (sizes or "(0, 2)")
    assert source in data.groups_source
    assert data.notes == ()


@pytest.mark.parametrize(
    ("asked", "factor", "source"),
    [
        ((), 7.0, "repeat_factors.csv"),
        (("sampler.threshold=1e-9",), 1.0, "sampler.threshold=1e-09, which beats "),
        (("sampler.factors=FILE",), 5.0, "factors.csv, which beats "),
        (
            ("sampler.threshold=1e-9", "sampler.instance_aware=true", "sampler.exponent=1"),
            1.0,
            "sampler.threshold=1e-09, sampler.instance_aware=true, sampler.exponent=1, which beats ",
        ),
    ],
)
def test_what_factors_come_from(dataset, recipe_on, tmp_path, asked, factor, source):
    table = dataset / "repeat_factors.csv"
    first, *_ = factor_rows(table)
    set_factor(table, first, 5)
    shutil.copy(table, tmp_path / "factors.csv")
    set_factor(table, first, 7)
    overrides = (text.replace("FILE", str(tmp_path / "factors.csv")) for text in asked)
    recipe = recipe_on("sampler=repeat-factor", *overrides)
    data = load_run_data(recipe)
    plan = make_plan(recipe, data)
    assert plan.factors[[data.dataset.image_id(row) for row in range(len(data.dataset))].index(first)] == factor
    assert source in data.factors.source


@pytest.mark.parametrize("asked", ["sampler.instance_aware=true", "sampler.exponent=0.7"])
def test_factors_of_a_directory_are_used_as_they_are(dataset, recipe_on, asked):
    """Which threshold would hold is not known; the answer says how to go on."""
    with pytest.raises(DataError) as error:
        load_run_data(recipe_on("sampler=repeat-factor", asked))
    (line,) = error.value.problems
    assert line.startswith(f"{asked}: {dataset / 'repeat_factors.csv'} has the factors, and is used as it is; set ")
    (fix,) = (word for word in line.split() if word.startswith("sampler.threshold="))
    assert load_run_data(recipe_on("sampler=repeat-factor", asked, fix)).factors.source.startswith(f"{fix}, {asked}")


def test_irfs_trains_with_the_factors_that_lt_data_writes(dataset, recipe_on, tmp_path):
    """On a dataset directory too, whose own factors are those of images alone."""
    options = ("sampler.threshold=0.4", "sampler.exponent=0.8", "schedule.epoch=sampler")
    computed = load_run_data(recipe_on("method=irfs", *options)).factors
    table = repeat_factor_table(dataset, 0.4, instance_aware=True, exponent=0.8)
    write_repeat_factors(tmp_path / "factors.csv", table)
    read = load_run_data(recipe_on("method=rfs", f"sampler.factors={tmp_path / 'factors.csv'}")).factors
    assert computed.sha256 == read.sha256
    assert computed.sha256 != load_run_data(recipe_on("method=rfs", "sampler.threshold=0.4")).factors.sha256
    assert computed.values.max() > 1
    run = fit(recipe_on("method=irfs", *options), tmp_path / "run")
    assert "factors from sampler.threshold=0.4, sampler.instance_aware=true, sampler.exponent=0.8, which beats" in (
        run.log.read_text()
    )


def test_of_any_other_file_they_are_computed(dataset, recipe_on):
    file = f"data.train.annotations={dataset / 'annotations.json'}"
    set_factor(dataset / "repeat_factors.csv", next(iter(factor_rows(dataset / "repeat_factors.csv"))), 7)
    edit(dataset / "groups.json", own_groups)
    data = load_run_data(recipe_on(file, "sampler=repeat-factor"))
    assert [group.name for group in data.groups] == ["(0, 10)", "[10, 100)", "[100, 1000)", "[1000, ~)"]
    assert data.groups_source == "the bounds 10, 100, 1000"
    assert data.factors.source == "the threshold 0.001"
    assert data.factors.values.max() == 1


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda d: edit(d / "groups.json", lambda c: c["groups"][0]["category_ids"].pop()), "in no group"),
        (lambda d: edit(d / "groups.json", lambda c: c["groups"][0]["category_ids"].append(999)), "(ids 999)"),
        (lambda d: edit(d / "groups.json", lambda c: c.update(annotations={"name": "a", "sha256": "0"})), "made for a"),
        (lambda d: set_factor(d / "repeat_factors.csv", next(iter(factor_rows(d / "repeat_factors.csv"))), 0.9), "0.9"),
        (lambda d: (d / "repeat_factors.csv").write_text("image_id,repeat_factor\n"), "has no factor for"),
        (lambda d: (d / "groups.json").write_text("{"), "cannot be read"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_and_nothing_is_written(dataset, recipe_on, tmp_path, damage, says):
    damage(dataset)
    with pytest.raises(DataError) as error:
        fit(recipe_on("sampler=repeat-factor"), tmp_path / "run")
    (line,) = error.value.problems
    assert says in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("key", ["data.groups", "sampler.factors"])
def test_a_file_that_is_not_there(recipe_on, key):
    with pytest.raises(DataError, match=f"^{key}: nowhere.x is no file; give one that lt-data wrote"):
        load_run_data(recipe_on("sampler=repeat-factor", f"{key}=nowhere.x"))


@pytest.mark.parametrize(("key", "name"), [("data.groups", "groups.json"), ("sampler.factors", "repeat_factors.csv")])
def test_a_directory_in_place_of_its_file(dataset, recipe_on, key, name):
    with pytest.raises(DataError) as error:
        load_run_data(recipe_on("sampler=repeat-factor", f"{key}={dataset}"))
    (line,) = error.value.problems
    assert line.endswith(f"; give its file, {key}={dataset / name}")
    load_run_data(recipe_on("sampler=repeat-factor", line.split()[-1]))


def test_presets_of_bounds(recipe_on):
    """Those that an evaluation takes, as far as they are bounds."""
    for name, edges in PRESETS.items():
        recipe = recipe_on(f"data.groups={name}")
        assert recipe.data.groups == edges
        assert load_run_data(recipe).groups_source.startswith(f"data.groups={list(edges)}")
    with pytest.raises(DataError, match=r"coco-lt-paper is no file; .*bags-8, simcal\); lists such as coco-lt"):
        load_run_data(recipe_on("data.groups=coco-lt-paper"))


def test_annotations_that_changed_since_the_build_are_named(dataset, recipe_on):
    edit(dataset / "annotations.json", lambda c: c["annotations"].pop())
    notes = load_run_data(recipe_on()).notes
    assert sum("changed since it was built" in note for note in notes) == 1


def test_resume_keeps_to_groups_and_factors(dataset, recipe_on, tmp_path):
    run = fit(recipe_on("sampler=repeat-factor"), tmp_path / "run")
    # the same ones from another place
    fit(recipe_on("sampler=repeat-factor", "sampler.threshold=0.3", "data.groups=[2,4]"), run.path, resume=True)
    edit(dataset / "groups.json", own_groups)
    set_factor(dataset / "repeat_factors.csv", next(iter(factor_rows(dataset / "repeat_factors.csv"))), 7)
    with pytest.raises(DataError) as error:
        fit(recipe_on("sampler=repeat-factor"), run.path, resume=True)
    groups, factors = error.value.problems
    assert "the groups are not those that the run was started with ((0, 2), [2, 4), [4, ~)" in groups
    assert "the repeat factors" in factors


def test_runs_of_older_versions(tiny_recipe, tiny_pool, tmp_path):
    """Their recipe has bounds and a threshold, their record the categories of the groups only."""
    asked = ("sampler=repeat-factor", "sampler.threshold=0.2", "method=bags", "train=all")
    run = fit(tiny_recipe(*asked), tmp_path / "run")

    def older(content):
        for key in ("group_bounds", "groups_source", "repeat_factors"):
            del content[key]

    edit(run.data, older)
    measured, _ = evaluate_run(run.path)
    assert list(measured.metrics["bbox"]["groups"]) == ["(0, 2)", "[2, 3)", "[3, ~)"]
    assert fit(tiny_recipe(*asked), run.path, resume=True).path == run.path
    with pytest.raises(DataError, match="the repeat factors"):
        fit(tiny_recipe(*asked, "sampler.threshold=0.9"), run.path, resume=True)


def test_a_run_goes_on_with_the_bounds_and_the_threshold_it_began_with(dataset, recipe_on, tmp_path):
    """Recipes of older versions had both where they leave them to the dataset directory now, which has others."""
    began = ("data.groups=[3]", "sampler.threshold=0.2")
    run = fit(recipe_on("sampler=repeat-factor", *began), tmp_path / "run")
    fit(recipe_on("sampler=repeat-factor"), run.path, resume=True)
    log = run.log.read_text()
    assert "note: goes on with data.groups=[3], with which the run began" in log
    assert "note: goes on with sampler.threshold=0.2, with which the run began" in log
    assert f"; from data.groups=[3], which beats {dataset / 'groups.json'}" in log
    with pytest.raises(DataError, match="the groups are not those that the run was started with"):
        fit(recipe_on("sampler=repeat-factor", "data.groups=[2]"), run.path, resume=True)


def test_a_calibration_takes_them_too(dataset, recipe_on, tmp_path):
    edit(dataset / "groups.json", own_groups)
    run = fit(recipe_on(), tmp_path / "run")
    calibrated = calibrate_run(run.path, "tau-norm", tmp_path / "tau")
    assert list(json.loads(RunDir(calibrated.path).data.read_text())["groups"]) == ["odd ones", "even ones"]
    assert f"; from {dataset / 'groups.json'}" in calibrated.log.read_text()


@pytest.mark.parametrize("method", [pytest.param("softmax", marks=pytest.mark.slow), "bags"])
def test_a_calibration_keeps_the_groups_of_the_run(dataset, recipe_on, tiny_pool, tmp_path, method):
    """The file of the groups may change after the training: what is compared with the run has the run's."""
    files = "{annotations: %s, images: %s}" % (tiny_pool / "annotations.json", tiny_pool / "images")
    run = fit(recipe_on(f"method={method}", "train=all", f"data.val={files}"), tmp_path / "run")
    trained = json.loads(run.data.read_text())["groups"]
    edit(dataset / "groups.json", own_groups)
    calibrated = calibrate_run(run.path, "ncm-fc", tmp_path / "ncm")
    assert json.loads(calibrated.data.read_text())["groups"] == trained
    assert f"groups.json, as {run.path} was trained with\n" in calibrated.log.read_text()
    assert "bbox" in compare_evaluations([run.path, calibrated.path], resamples=2)
    if method == "bags":
        with pytest.raises(DataError, match=r"cls_score does not fit head=bags.* leave out data\.groups"):
            calibrate_run(run.path, "ncm-fc", tmp_path / "other", overrides=[f"data.groups={dataset / 'groups.json'}"])
        return
    other = calibrate_run(run.path, "ncm-fc", tmp_path / "other", overrides=[f"data.groups={dataset / 'groups.json'}"])
    assert list(json.loads(other.data.read_text())["groups"]) == ["odd ones", "even ones"]
    # by a recipe that leaves the groups open
    recipe = recipe_on("method=tau-norm")
    fitted = fit(recipe, tmp_path / "tau", init_from=run.path)
    assert json.loads(fitted.data.read_text())["groups"] == trained
    said = dry_run(recipe, (Setting("method", "tau-norm", "command line"),), init_from=run.path)
    assert f"groups.json, as {run.path} was trained with" in "\n".join(said)


def test_classes_without_training_instances_are_named_and_counted(tiny_recipe, tiny_pool, tmp_path):
    content = json.loads((tiny_pool / "annotations.json").read_text())
    lost = {category["id"]: category["name"] for category in content["categories"][:2]}
    content["annotations"] = [a for a in content["annotations"] if a["category_id"] not in lost]
    (tmp_path / "train.json").write_text(json.dumps(content))
    run = fit(
        tiny_recipe(f"data.train.annotations={tmp_path / 'train.json'}", "schedule.iterations=2", "schedule.decay=[]"),
        tmp_path / "run",
    )
    log = run.log.read_text()
    assert "warning: 2 of 20 categories have no training instance" in log
    assert ": " + ", ".join(lost.values()) + "\n" in log
    assert "2 without training instances: 2 in (0, 2)\n" in log
    classes = json.loads((run.evaluation / "metrics.json").read_text())["counts"]["classes"]
    assert classes["untrained"] == {"AP": 2, "groups": {"(0, 2)": 2, "[2, 3)": 0, "[3, ~)": 0}}
    # members of the groups stay
    assert {*lost} <= {*json.loads(run.data.read_text())["groups"]["(0, 2)"]}
