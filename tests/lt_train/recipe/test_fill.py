"""Methods over recipe files: what somebody chose stays, the rest is filled anew; short forms; nothing lost unsaid."""

import pytest
import yaml

from lt_train.recipe.fill import beaten_keys
from lt_train.recipe.load import load_noted, load_recipe, make_noted, make_recipe, read_recipe_file, recipe_names
from lt_train.recipe.methods import METHODS
from lt_train.recipe.origins import resolve

MINIMAL = {"data": {"train": {"annotations": "a.json", "images": "images"}}}
BASE = "faster_rcnn_r50_fpn_lvis_v0.5"
BASELINES = [name for name in recipe_names() if name.endswith(("lvis_v0.5", "lvis_v1", "coco_lt"))]


def regime(recipe):
    return recipe.optim.lr, recipe.schedule.epochs, recipe.schedule.decay, recipe.data.classes_below


def assert_nothing_is_dropped(method, notes):
    """All that is noted is what was a default or the old method's."""
    assert all(note.startswith(f"note: method={method} sets anew what") for note in notes)
    assert len(notes) <= 1


TUNED = (1e-4, 10, (7,))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("baseline", BASELINES)
def test_a_method_on_a_baseline_changes_what_it_fills_and_nothing_else(baseline, method):
    ours, notes = load_noted(baseline, [f"method={method}"])
    plain, fills = ours.to_plain(), METHODS[method].fills
    assert_nothing_is_dropped(method, notes)
    assert beaten_keys(method, plain) == []
    softmax = load_recipe(baseline).to_plain()
    for key in (*METHODS["softmax"].fills, "method"):
        del softmax[key]
    others = {key: value for key, value in plain.items() if key in softmax}
    for key in {*fills} & {*softmax}:
        others[key] = {k: softmax[key][k] if k in fills[key] else v for k, v in others[key].items()}
    assert others == softmax


@pytest.mark.parametrize("first", METHODS)
@pytest.mark.parametrize("second", METHODS)
def test_from_any_method_to_any_other_and_back(first, second):
    """Resolved recipes too: they hold every key, and none of it was chosen."""
    start, wanted = (load_recipe(BASE, [f"method={method}"]) for method in (first, second))
    changed, notes = make_noted(start.to_plain(), [f"method={second}"])
    assert changed == wanted
    assert_nothing_is_dropped(second, notes)
    assert make_recipe(changed.to_plain(), [f"method={first}"]) == start


def test_a_method_brings_its_regime_over_a_complete_recipe(tmp_path):
    assert regime(load_recipe(BASE, ["method=finetune-tail"])) == (*TUNED, 100)
    assert regime(load_recipe(BASE, ["method=bags-tune-head"])) == (*TUNED, None)
    assert regime(load_recipe(BASE, ["method=bags-tune-all"])) == (*TUNED, None)
    resolved = tmp_path / "recipe.yaml"
    resolved.write_text(yaml.safe_dump(load_recipe(BASE).to_plain()))
    assert regime(load_recipe(resolved, ["method=finetune-tail"])) == (*TUNED, 100)
    assert regime(make_recipe(load_recipe(BASE, ["method=finetune-tail"]).to_plain(), ["method=softmax"])) == (
        0.01,
        12,
        (8, 11),
        None,
    )


def test_a_value_that_is_no_default_was_chosen(tmp_path):
    content = read_recipe_file(BASE)
    content["optim"] = {**content["optim"], "lr": 0.02}
    recipe = make_recipe(content, ["method=finetune-tail"])
    assert regime(recipe) == (0.02, 10, (7,), 100)
    assert beaten_keys("finetune-tail", recipe.to_plain()) == [
        "note: optim.lr=0.02 is set explicitly and beats 0.0001 of method finetune-tail"
    ]
    assert make_recipe({**content, "train": "head"}, ["method=bags"]).train == "head"


@pytest.mark.parametrize(
    ("file", "method", "section", "kept"),
    [
        (
            {"method": "rfs", "sampler": {"name": "repeat-factor", "threshold": 0.01, "rounding": "ceil"}},
            *("rfs-finetune", "sampler", {"name": "repeat-factor", "threshold": 0.01, "rounding": "ceil"}),
        ),
        ({"method": "bags", "head": {"name": "bags", "others_ratio": 3}}, "bags", "head", {"others_ratio": 3.0}),
        ({"method": "bags", "head": {"others_ratio": 3}}, "bags-train-cls", "head", {"others_ratio": 3.0}),
        ({"method": "bags-train-cls", "head": {"edges": [7]}}, "bags", "head", {"others_ratio": 8.0, "edges": (7,)}),
        ({"method": "reweight", "head": {"beta": 0.9}}, "reweight-cls", "head", {"beta": 0.9}),
        (
            {"method": "tau-norm", "calibration": {"name": "tau-norm", "tau": 0.5, "background": "normalise"}},
            *("tau-norm-select", "calibration", {"tau": 0.5, "background": "select-tail"}),
        ),
        ({"head": "focal"}, "bags", "head", {"name": "focal"}),
        ({"head": {"name": "focal", "gamma": 3}}, "focal-cls", "head", {"name": "focal", "gamma": 3.0}),
        ({"sampler": "repeat-factor"}, "bags", "sampler", {"name": "repeat-factor"}),
        ({"method": "bags", "head": "bags"}, "softmax", "head", {"name": "softmax"}),
        ({"method": "bags", "head": None}, "focal", "head", {"name": "focal"}),
    ],
)
def test_chosen_options_of_a_section_stay_where_its_name_does(file, method, section, kept):
    recipe, notes = make_noted({**MINIMAL, **file}, [f"method={method}"])
    have = getattr(recipe, section).model_dump()
    assert {key: have[key] for key in kept} == kept
    assert_nothing_is_dropped(method, notes)


def test_what_is_set_anew_is_named():
    _, notes = load_noted(BASE, ["method=finetune-tail"])
    assert notes == (
        "note: method=finetune-tail sets anew what the recipe had as a default or from method softmax: "
        "optim.lr=0.01, schedule.epochs=12, schedule.decay=[8, 11]",
    )
    assert load_noted(BASE, ["method=rfs"])[1] == ()


@pytest.mark.parametrize(
    ("was", "schedule", "method"),
    [
        ("softmax", {"epochs": 12, "decay": [8, 10]}, "finetune-tail"),
        ("finetune-tail", {"epochs": 10, "decay": [8]}, "softmax"),
        ("softmax", {"epochs": 24, "decay": [8, 11]}, "bags-tune-all"),
    ],
)
def test_epochs_and_decay_stay_together(was, schedule, method):
    """One of them alone would put the decay at another place of the run."""
    recipe = make_recipe({**MINIMAL, "method": was, "schedule": schedule}, [f"method={method}"])
    assert (recipe.schedule.epochs, list(recipe.schedule.decay)) == (schedule["epochs"], schedule["decay"])


def test_what_is_dropped_with_a_section_is_named():
    file = {"method": "bags", "head": {"name": "bags", "others_ratio": 3, "gate": False, "in_group_upper": 5.0}}
    recipe, notes = make_noted({**MINIMAL, **file}, ["method=focal"])
    assert recipe.head.name == "focal"
    assert notes == (
        "note: method=focal has head=focal; dropped from the recipe: head.others_ratio=3, head.gate=false",
    )
    # how a recipe came about is no part of it
    assert recipe == make_recipe(MINIMAL, ["method=focal"])
    assert hash(recipe) == hash(make_recipe(MINIMAL, ["method=focal"]))


def test_the_files_own_method_changes_nothing():
    file = {**MINIMAL, "method": "bags-tune-all", "optim": {"lr": 0.01}, "head": {"others_ratio": 8.0}}
    assert make_recipe(file, ["method=bags-tune-all"]) == make_recipe(file)


def test_null_on_the_command_line_is_explicit():
    for content in (MINIMAL, read_recipe_file(BASE)):
        recipe = make_recipe(content, ["method=finetune-tail", "data.classes_below=null"])
        assert recipe.data.classes_below is None
        assert "note: data.classes_below=null is set explicitly and beats 100 of method finetune-tail" in beaten_keys(
            "finetune-tail", recipe.to_plain()
        )
    shown = {s.key: s for s in resolve(BASE, ["method=finetune-tail", "data.classes_below=null"])[1]}
    assert (shown["data.classes_below"].value, shown["data.classes_below"].origin) == (None, "command line")
    assert shown["optim.lr"].origin == "method finetune-tail"


@pytest.mark.parametrize("order", [1, -1])
def test_a_short_form_comes_before_its_options(order):
    recipe = load_recipe(
        BASE, ["method=bags", "head=focal", "head.weighting=effective-number", "head.beta=0.9"][::order]
    )
    assert (recipe.head.name, recipe.head.weighting, recipe.head.beta) == ("focal", "effective-number", 0.9)
    recipe = load_recipe(BASE, ["train=none", "calibration=tau-norm", "calibration.tau=0.5"][::order])
    assert (recipe.calibration.name, recipe.calibration.tau) == ("tau-norm", 0.5)
    assert load_recipe(BASE, ["method=bags", "head=softmax"]).head.name == "softmax"
    assert make_recipe({**MINIMAL, "head": "focal"}, ["head.gamma=1"]).head.gamma == 1


def test_origins_of_a_section_that_was_replaced():
    shown = {s.key: s.origin for s in resolve(BASE, ["method=reweight", "head=focal", "head.beta=0.9"])[1]}
    assert shown["head.name"] == shown["head.beta"] == "command line"
    assert shown["head.upper"] == shown["head.gamma"] == "default"
    assert shown["train"] == "method reweight"
