"""Where the values of a recipe come from."""

from pathlib import Path

import pytest
import yaml

from lt_data.errors import RecipeError
from lt_train.recipe.load import load_recipe, make_recipe, recipe_names
from lt_train.recipe.origins import format_settings, format_yaml, resolve

BASE = "mask_rcnn_r50_fpn_coco_lt"


def origins(source, *overrides):
    return {setting.key: setting.origin for setting in resolve(source, overrides)[1]}


def test_origins_of_a_file_that_says_little(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("method: bags\nhead: bags\noptim: {lr: 0.02}\ndata: {train: {annotations: a.json, images: i}}\n")
    found = origins(path, "seed=3", "data.val={annotations: b.json, images: j}")
    assert found["seed"] == found["data.val.images"] == "command line"
    assert found["optim.lr"] == found["head.name"] == found["method"] == found["data.train.images"] == "recipe"
    assert found["train"] == found["sampler.name"] == "method bags"
    assert found["optim.momentum"] == found["head.merge"] == "default"


def test_a_method_on_the_command_line_takes_the_place_of_the_files_method():
    found = origins(BASE, "method=reweight-cls", "head.beta=0.9")
    assert found["method"] == found["head.beta"] == "command line"
    assert found["head.weighting"] == found["train"] == "method reweight-cls"
    assert found["optim.lr"] == "recipe"


def test_origins_inside_a_section_that_the_file_leaves_out(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("optim: {lr: 0.02}\ndata: {val: null, train: {annotations: a.json, images: i}}\n")
    found = origins(path, "data.val.annotations=b.json", "data.val.images=j", "optim={momentum: 0.5}", "seed=1")
    assert found["data.val.images"] == found["optim.momentum"] == found["seed"] == "command line"
    # a whole section takes the place of the file's
    assert found["optim.lr"] == "default"
    assert found["data.train.images"] == "recipe"


@pytest.mark.parametrize("name", recipe_names())
def test_a_shipped_recipe_printed_whole_is_the_same_recipe_and_leaves_nothing_to_defaults(name, tmp_path, monkeypatch):
    # beside the data, as its relative paths are
    monkeypatch.chdir(tmp_path)
    printed = Path("printed.yaml")
    printed.write_text(format_yaml(load_recipe(name, ["method=bags"])))
    assert set(origins(printed).values()) == {"recipe"}
    assert load_recipe(printed) == load_recipe(name, ["method=bags"])


def test_values_are_those_of_the_run_and_are_spelled_as_in_a_recipe():
    recipe, settings, _ = resolve(BASE, ["method=bags", "head.others_ratio=.inf"])
    assert recipe == load_recipe(BASE, ["method=bags", "head.others_ratio=.inf"])
    lines = format_settings(settings).splitlines()
    assert len(lines) == len(settings)
    content = {}
    for line, setting in zip(lines, settings, strict=True):
        key, rest = line.split(maxsplit=1)
        assert rest.endswith(setting.origin)
        content[key] = yaml.safe_load(rest.removesuffix(setting.origin).strip())
    again = make_recipe({"data": {"train": {}}}, [f"{key}={yaml.safe_dump(v)}" for key, v in content.items()])
    assert again == recipe


def test_a_mistake_is_a_mistake_here_too():
    with pytest.raises(RecipeError, match="did you mean 'optim.lr'"):
        resolve(BASE, ["optim.lrr=1"])
