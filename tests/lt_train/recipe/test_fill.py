"""Methods over recipe files: what somebody chose stays, the rest is filled anew; short forms; nothing lost unsaid."""

import pytest
import yaml

from lt_data.errors import RecipeError
from lt_train.recipe.load import (
    beaten_in,
    class_weight_options,
    load_noted,
    load_recipe,
    make_noted,
    make_recipe,
    read_recipe_file,
    recipe_names,
)
from lt_train.recipe.method import VARIANTS
from lt_train.recipe.methods import METHODS, REWEIGHTED, fills
from lt_train.recipe.origins import resolve
from lt_train.recipe.sections import has_masks

MINIMAL = {"data": {"train": {"annotations": "a.json", "images": "images"}}}
BASE = "faster_rcnn_r50_fpn_lvis_v0.5"
DATA_SETS = ("lvis_v0.5", "lvis_v1", "coco_lt")
# the released HTC is trained for 20 epochs, whatever a method fills
LONGER = [name for name in recipe_names() if name.startswith("htc_x101")]
BASELINES = [name for name in recipe_names() if name.endswith(DATA_SETS) and name not in LONGER]
# every method and variant with masks and without, which is all that they look at; two methods elsewhere
FILLED = [
    pytest.param(
        *(baseline, method, variant),
        marks=() if "_rcnn_r50_fpn_lvis_v0.5" in baseline or method in ("bags", "rfs-finetune") else pytest.mark.slow,
    )
    for baseline in BASELINES
    for method in METHODS
    for variant in VARIANTS
]


def regime(recipe):
    return recipe.optim.lr, recipe.schedule.epochs, recipe.schedule.decay, recipe.data.classes_below


def assert_nothing_is_dropped(method, notes):
    """All that is noted is what was a default or the old method's."""
    assert all(note.startswith(f"note: method={method} sets anew what") for note in notes)
    assert len(notes) <= 1


TUNED = (1e-4, 10, (7,))


@pytest.mark.parametrize(("baseline", "method", "variant"), FILLED)
def test_a_method_on_a_baseline_changes_what_it_fills_and_nothing_else(baseline, method, variant):
    ours, notes = load_noted(baseline, [f"method={method}", f"variant={variant}"])
    plain, filled = ours.to_plain(), fills(method, variant, masks=has_masks(ours))
    assert len(notes) <= 1
    assert beaten_in(ours) == []
    assert holds(plain, filled)
    softmax = load_recipe(baseline).to_plain()
    for key in (*METHODS["softmax"].equal, "method", "variant"):
        del softmax[key]
    others = {key: value for key, value in plain.items() if key in softmax}
    for key in {*filled} & {*softmax}:
        others[key] = {k: softmax[key][k] if k in filled[key] else v for k, v in others[key].items()}
    assert others == softmax


@pytest.mark.parametrize("baseline", LONGER)
def test_a_schedule_that_a_recipe_states_is_said_to_beat_a_methods(baseline):
    assert beaten_in(load_recipe(baseline, ["method=bags"])) == []
    told = beaten_in(load_recipe(baseline, ["method=finetune-tail"]))
    assert [line.split("=")[0] for line in told] == ["note: schedule.epochs", "note: schedule.decay"]
    given = ["schedule.epochs=12", "schedule.decay=[8,11]", "optim.lr=0.005"]
    assert regime(load_recipe(baseline, ["method=bags", *given]))[:3] == (0.005, 12, (8, 11))


def holds(recipe, filled):
    """Whether every value that is filled is that of the recipe."""
    pairs = [(recipe[key], value) for key, value in filled.items()]
    return all(holds(have, value) if isinstance(value, dict) else have == value for have, value in pairs)


PRESETS = [f"{method} {variant}" for method in METHODS for variant in VARIANTS]


def overrides_of(preset):
    method, variant = preset.split()
    return [f"method={method}", f"variant={variant}"]


@pytest.fixture(scope="module")
def fresh():
    """Every method and variant over a shipped recipe, of a detector with masks and of one without."""
    bases = (BASE, BASE.replace("faster", "mask"))
    return {(base, preset): load_recipe(base, overrides_of(preset)) for base in bases for preset in PRESETS}


@pytest.mark.parametrize("every", [24, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("first", PRESETS)
def test_from_any_method_and_variant_to_others(first, every, fresh):
    """Resolved recipes too: they hold every key, and none of it was chosen.

    Each is left for ten others, and as many lead to each; the slow test takes every one to all.
    """
    for base, second in [*fresh][PRESETS.index(first) % every :: every]:
        changed, notes = make_noted(fresh[base, first].to_plain(), overrides_of(second))
        assert changed == fresh[base, second], second
        assert not [note for note in notes if "dropped" in note], second


OF_STEPS = [
    pytest.param(first, marks=() if first == "finetune-tail code" else pytest.mark.slow)
    for first in ("softmax equal", "softmax text", "finetune-tail code", "bags-tune-all equal")
]


@pytest.mark.parametrize("first", OF_STEPS)
def test_the_same_over_a_recipe_of_so_many_steps(first):
    """Its decay counts them, and the epochs that a method fills count for nothing."""
    start = load_recipe("quickstart", overrides_of(first)).to_plain()
    for second in PRESETS:
        assert make_recipe(start, overrides_of(second)) == load_recipe("quickstart", overrides_of(second)), second
    # a decay after so many steps is the file's, though it is the default of one in epochs
    file = {**start, "schedule": {"iterations": 20, "decay": [8, 11]}}
    assert make_recipe(file, ["method=bags-tune-head"]).schedule.decay == (8, 11)


def test_a_value_of_the_file_that_its_own_preset_fills_is_not_known_to_be_chosen():
    """The exception to the rule: a resolved recipe does not say who gave a value."""
    given = read_recipe_file("quickstart")["model"]["num_detections"]
    assert fills("softmax", "code", masks=True)["model"]["num_detections"] == given == 100
    start = load_recipe("quickstart", ["variant=code"]).to_plain()
    changed, (note,) = make_noted(start, ["variant=equal"])
    assert changed.model.num_detections == 300
    assert "model.num_detections=100" in note
    assert load_recipe("quickstart").model.num_detections == 100


@pytest.mark.parametrize("first", METHODS)
@pytest.mark.parametrize("given", ["method", "variant", "model.name"])
def test_one_of_them_alone_is_renewed_as_all_are(first, given, fresh):
    """What is filled by the others stays as it is filled."""
    start = fresh[BASE, f"{first} code"].to_plain()
    if given == "method":
        for second in METHODS:
            changed = make_recipe(start, [f"method={second}"])
            assert changed == fresh[BASE, f"{second} code"]
    elif given == "variant":
        for variant in VARIANTS:
            changed = make_recipe(start, [f"variant={variant}"])
            assert changed == fresh[BASE, f"{first} {variant}"]
    else:
        changed = make_recipe(start, ["model.name=mask_rcnn_r50_fpn"])
        assert changed == fresh[BASE.replace("faster", "mask"), f"{first} code"]


def test_a_variant_keeps_what_was_chosen_and_names_what_it_sets_anew():
    chosen = ["optim.batch=2", "optim.accumulate=8", "model.score_threshold=0.3"]
    file = load_recipe(BASE, ["method=reweight-cls", *chosen]).to_plain()
    recipe, notes = make_noted(file, ["variant=code"])
    # all of a step's images and their rate, or none of them
    assert (recipe.optim.images_per_step, recipe.optim.effective_lr) == (16, 0.01)
    assert (recipe.model.score_threshold, notes) == (0.3, ())
    assert "note: optim.base_batch=16 is set explicitly and beats 32 of method reweight-cls, variant code" in beaten_in(
        recipe
    )
    _, notes = make_noted(load_recipe(BASE, ["method=rfs"]).to_plain(), ["variant=code"])
    assert notes == (
        "note: variant=code sets anew what the recipe had as a default or from variant equal: "
        "model.score_threshold=0.001, schedule.epoch=dataset",
    )
    shown = {s.key: s.origin for s in resolve(BASE, ["method=rfs", "variant=code"])[1]}
    assert shown["sampler.rounding"] == shown["model.num_detections"] == "method rfs, variant code"


@pytest.mark.parametrize("variant", ["code", "text"])
def test_the_variants_of_bags_leave_methods_that_it_does_not_compare_alone(variant):
    for method in ("seesaw", "crt", "norcal", "irfs"):
        assert fills(method, variant, masks=True) == fills(method)
    assert fills("reweight", variant) != fills("reweight")


@pytest.mark.parametrize(
    ("method", "threshold"),
    [("acsl", 0.0), *((name, 1e-4) for name in ("crt", "lws", "grw", "balanced-sigmoid", "loce", "equalization"))],
)
def test_later_methods_are_tested_as_their_authors_do(method, threshold):
    """Of the configurations of ACSL, EQLv2 (cRT, LWS), DisAlign, BALMS, LOCE and EQL for LVIS, which have 300 all."""
    model = load_recipe(BASE, [f"method={method}"]).model
    assert (model.score_threshold, model.num_detections) == (threshold, 300)


def test_a_variant_that_does_not_exist():
    with pytest.raises(RecipeError) as error:
        load_recipe(BASE, ["variant=paper"])
    assert error.value.problems == [f"{BASE}: variant: got 'paper'; allowed are 'equal', 'code' or 'text'"]


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
    assert beaten_in(recipe) == ["note: optim.lr=0.02 is set explicitly and beats 0.0001 of method finetune-tail"]
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
        assert "note: data.classes_below=null is set explicitly and beats 100 of method finetune-tail" in beaten_in(
            recipe
        )
    shown = {s.key: s for s in resolve(BASE, ["method=finetune-tail", "data.classes_below=null"])[1]}
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


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("method", REWEIGHTED)
def test_class_weights_of_a_method_are_those_of_its_recipe(method, variant):
    options = class_weight_options(method, variant)
    head = load_recipe(BASE, overrides_of(f"{method} {variant}")).head.model_dump(exclude={"name"})
    assert ({"weighting": options.pop("kind"), **options}).items() <= head.items()
    assert options["lower"] == (None if method == "grw" else 0.01 if variant == "text" else 0.1)
