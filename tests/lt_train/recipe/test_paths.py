"""What the paths of a recipe are relative to, from the file to a run that is read elsewhere."""

import json
import shutil

import pytest
import yaml

from lt_data.errors import LtError
from lt_train.recipe.load import load_noted, load_recipe
from lt_train.recipe.paths import check_paths, with_absolute_paths

DATA = {
    "train": {"annotations": "data/train.json", "images": "photos"},
    "val": {"annotations": "/far/val.json", "images": "../photos"},
    "groups": "10,100",
}


@pytest.fixture
def recipe_file(tmp_path, monkeypatch):
    """A recipe in a folder beside the working directory."""
    (tmp_path / "here").mkdir()
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    path = tmp_path / "project" / "my.yaml"
    path.write_text(yaml.safe_dump({"data": DATA, "model": {"weights": "start.pt"}}))
    return path


def test_in_a_file_they_are_relative_to_it_and_overrides_to_the_working_directory(recipe_file):
    recipe, notes = load_noted("../project/my.yaml", ["data.val.images=photos"])
    data = recipe.data
    assert [str(data.train.annotations), str(data.train.images)] == ["../project/data/train.json", "../project/photos"]
    assert [str(data.val.annotations), str(data.val.images)] == ["/far/val.json", "photos"]
    assert (data.groups, recipe.model.weights, notes) == ((10, 100), "../project/start.pt", ())
    # what was overridden is not what the file has
    assert set(recipe.written) == {"data.train.annotations", "data.train.images", "model.weights"}


@pytest.mark.parametrize("weights", ["imagenet", "coko"])
def test_names_of_weights_are_no_paths(recipe_file, weights):
    recipe_file.write_text(yaml.safe_dump({"data": DATA, "model": {"weights": weights}}))
    assert load_recipe(recipe_file).model.weights == weights


def test_a_file_that_was_written_for_the_working_directory_goes_on_working(recipe_file):
    (recipe_file.parent.parent / "here" / "photos").mkdir()
    recipe, notes = load_noted("../project/my.yaml")
    assert str(recipe.data.train.images) == "photos"
    assert notes == (
        "note: data.train.images: photos is not beside the recipe (../project/photos), so the one in the working "
        "directory is taken; write it relative to the recipe file ../project/my.yaml",
    )
    # nothing to say of a path that is overridden
    assert load_noted("../project/my.yaml", ["data.train.images=/far"])[1] == ()


def test_root_takes_the_place_of_either(recipe_file, tmp_path):
    moved = load_noted("../project/my.yaml", root=tmp_path)[0]
    assert moved.data.train.images == tmp_path / "photos"
    assert str(moved.data.val.annotations) == "/far/val.json"
    shipped = load_noted("mask_rcnn_r50_fpn_coco_lt", root=tmp_path)[0]
    assert shipped.data.train.annotations == tmp_path / "data/coco_lt"
    assert str(load_recipe("mask_rcnn_r50_fpn_coco_lt").data.train.annotations) == "data/coco_lt"
    with pytest.raises(LtError, match=r"^--root: nowhere is no folder; give the one that"):
        load_noted("mask_rcnn_r50_fpn_coco_lt", root=tmp_path.__class__("nowhere"))


def test_messages_say_what_a_path_is_relative_to(recipe_file, tmp_path):
    recipe = with_absolute_paths(load_recipe("../project/my.yaml", ["data.val.images=photos"]))
    with pytest.raises(LtError) as caught:
        check_paths(recipe)
    assert caught.value.problems[0] == (
        "data.train.annotations: data/train.json is relative to the recipe file ../project/my.yaml, and "
        f"{tmp_path}/here/../project/data/train.json is not there; mend the path, or say with --root DIR what relative "
        "paths are relative to"
    )
    assert caught.value.problems[2].startswith("data.val.images: photos is relative to the working directory, and ")


def test_a_run_is_used_from_anywhere_and_its_data_may_move(make_tiny_recipe, tiny_pool, tmp_path, monkeypatch):
    from lt_train.engine.calibrate import calibrate_run
    from lt_train.engine.fit import fit
    from lt_train.inference.evaluate_run import evaluate_run
    from lt_train.runs.directory import RunDir

    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copytree(tiny_pool, project / "pool")
    files = {"annotations": "pool/annotations.json", "images": "pool/images"}
    content = {**make_tiny_recipe().to_plain(), "data": {"train": files, "val": files, "workers": 0}}
    (project / "my.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.chdir(tmp_path)
    run = RunDir(tmp_path / "run")
    fit(load_recipe("project/my.yaml", ["schedule.iterations=2", "schedule.decay=[]"]), run.path)
    monkeypatch.chdir(elsewhere)
    record = json.loads(run.data.read_text())["paths"]["data.val.images"]
    assert record == {"written": "pool/images", "path": str(project / "pool/images")}
    assert run.load_recipe().data.val.images == project / "pool/images"
    # the recipe of the run alone, and the file, go on with it
    for source in (run.recipe, project / "my.yaml"):
        fit(load_recipe(source, ["schedule.iterations=2", "schedule.decay=[]"]), run.path, resume=True)
    evaluate_run(run.path, out=elsewhere / "first")
    shutil.move(project, tmp_path / "moved")
    with pytest.raises(
        LtError, match=rf"^data.val.annotations: pool/annotations.json is relative to where {run.path} "
    ):
        evaluate_run(run.path, out=elsewhere / "second")
    evaluate_run(run.path, out=elsewhere / "second", root=tmp_path / "moved")
    assert (elsewhere / "first/metrics.json").read_bytes() == (elsewhere / "second/metrics.json").read_bytes()
    calibrated = calibrate_run(run.path, "tau-norm", elsewhere / "tau", root=tmp_path / "moved")
    assert json.loads(calibrated.data.read_text())["paths"]["data.val.images"] == {
        "written": "pool/images",
        "path": str(tmp_path / "moved/pool/images"),
    }
    # a run of an older version has nothing but its recipe
    older = json.loads(run.data.read_text())
    del older["paths"]
    run.data.write_text(json.dumps(older))
    run.recipe.write_text(yaml.safe_dump(content))
    assert str(run.load_recipe().data.val.images) == "pool/images"
    with pytest.raises(
        LtError, match="^data.val.annotations: pool/annotations.json is relative to the working directory"
    ):
        evaluate_run(run.path, out=elsewhere / "third")
    assert run.load_recipe(tmp_path / "moved").data.val.images == tmp_path / "moved/pool/images"
