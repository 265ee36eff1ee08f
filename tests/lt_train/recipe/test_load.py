"""Recipes: overrides, presets, and one line for each mistake."""

from pathlib import Path

import pytest

from lt_data.errors import RecipeError
from lt_train.calibration import CALIBRATIONS, CalibrationOptions
from lt_train.heads import HEADS, HeadOptions
from lt_train.options.section import sections_of
from lt_train.recipe.load import beaten_in, load_recipe, make_recipe, read_recipe_file
from lt_train.recipe.methods import METHODS

MINIMAL = {"data": {"train": {"annotations": "a.json", "images": "images"}}}


def test_method_fills_and_explicit_keys_win():
    assert make_recipe(MINIMAL).head.name == "softmax"
    bags = make_recipe(MINIMAL, ["method=bags"])
    assert (bags.head.name, bags.train, bags.sampler.name) == ("bags", "classifier", "shuffle")
    mixed = make_recipe(MINIMAL, ["method=bags", "train=head", "sampler.name=repeat-factor", "head.others_ratio=1"])
    assert (mixed.head.name, mixed.train, mixed.sampler.name) == ("bags", "head", "repeat-factor")
    assert mixed.head_options["others_ratio"] == 1.0
    assert (mixed.head_options["edges"], mixed.head_options["groups"]) == (None, None)
    assert make_recipe(MINIMAL, ["method=rfs"]).sampler.name == "repeat-factor"


@pytest.mark.parametrize(
    ("value", "groups", "plain"),
    [("[5,50]", (5, 50), [5, 50]), ("mine.json", Path("mine.json"), "mine.json"), ("null", None, None)],
)
def test_groups_are_bounds_or_a_file_or_left_to_the_data(value, groups, plain):
    recipe = make_recipe(MINIMAL, [f"data.groups={value}"])
    assert recipe.data.groups == groups
    assert recipe.to_plain()["data"]["groups"] == plain
    assert make_recipe(recipe.to_plain()) == recipe


def test_overrides_are_yaml_and_1e_4_is_a_number():
    recipe = make_recipe(
        MINIMAL, ["optim.lr=1e-4", "model.min_size=[640,800]", "data.keep_empty=true", "optim.clip=null"]
    )
    assert recipe.optim.lr == 1e-4
    assert recipe.model.min_size == (640, 800)
    assert recipe.data.keep_empty is True
    assert recipe.optim.clip is None
    assert make_recipe(MINIMAL, ["model.min_size=640"]).model.min_size == (640,)
    model = make_recipe(MINIMAL, ["model.min_size_range=[400,1400]", "model.max_size=1600"]).model
    assert (*model.short_sides,) == (*range(400, 1401),)
    assert model.test_short_side == 800
    assert make_recipe(MINIMAL, ["model.min_size=[640,800]"]).model.short_sides == (640, 800)


def test_linear_scaling_rule():
    optim = make_recipe(MINIMAL, ["optim.batch=2", "optim.accumulate=4", "optim.lr=0.01"]).optim
    assert optim.images_per_step == 8
    assert optim.effective_lr == pytest.approx(0.005)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("optim.lrr=1", "unknown key 'optim.lrr'; did you mean 'optim.lr'?"),
        ("model.weigths=none", "did you mean 'model.weights'?"),
        ("head.others=1", "unknown key 'head.others'"),
        ("method=foo", "method: got 'foo'; allowed are softmax, x2, finetune-tail, rfs"),
        ("optim.lr=-1", "optim.lr: got -1; input should be greater than 0"),
        ("data.groups=[10,5]", "ascending order"),
        ("head.name=zzz", "head: got 'zzz'; allowed are 'softmax', 'reweight', 'balanced-softmax', 'seesaw'"),
        ("optim=3", "optim: got 3"),
        ("optim.lr.x=3", "'lr' is not a section"),
        ("schedule.epochs=1.5", "valid integer"),
        ("train=everything", "'all', 'head', 'head+reg', 'classifier', 'scale', 'calibrated' or 'none'"),
        ("seed", "write it as key=value"),
        ("seed=[", "not YAML"),
    ],
)
def test_mistakes_are_one_line_each(override, says):
    content = {**MINIMAL, "optim": {"lr": 0.01}}
    with pytest.raises(RecipeError) as error:
        make_recipe(content, [override])
    assert says in str(error.value)
    assert len(error.value.problems) == 1
    assert "\n" not in error.value.problems[0]


def test_bare_names_and_methods_over_resolved_recipes():
    assert make_recipe(MINIMAL, ["head=bags"]).head.name == "bags"
    resolved = make_recipe(MINIMAL).to_plain()
    bags = make_recipe(resolved, ["method=bags"])
    assert (bags.head.name, bags.train) == ("bags", "classifier")
    kept = make_recipe({**resolved, "train": "head"}, ["method=bags"])
    assert kept.train == "head"


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("model.min_size=0", "model.min_size.0: got 0"),
        ("optim.lr=.inf", "finite number"),
        ("seed=true", "seed: got True"),
        ("schedule.iterations=5000", "decay counts steps when iterations is set"),
    ],
)
def test_values_that_make_no_sense(override, says):
    with pytest.raises(RecipeError) as error:
        make_recipe(MINIMAL, [override])
    assert says in str(error.value)
    assert make_recipe(MINIMAL, ["method=bags", "head.others_ratio=.inf"]).head.others_ratio == float("inf")


@pytest.mark.parametrize("source", ["faster_rcnn_r50_fpn_lvis_v0.5", None])
@pytest.mark.parametrize("iterations", [50, 5000])
def test_a_length_in_steps_needs_a_decay_in_steps(source, iterations):
    """However the shipped decay compares with the warm-up; the step that is offered can be typed."""
    content = read_recipe_file(source) if source else {**MINIMAL, "schedule": {"iterations": iterations}}
    for file in (content, make_recipe(MINIMAL).to_plain()):
        with pytest.raises(RecipeError, match=r"decay counts steps when .* got \[8, 11\]") as error:
            make_recipe(file, [f"schedule.iterations={iterations}"])
        (line,) = error.value.problems
        offered = line.split()[-1]
        assert offered == f"schedule.decay=[{iterations * 4 // 5}]"
        for decay in (offered, "schedule.decay=[]"):
            assert make_recipe(file, [f"schedule.iterations={iterations}", decay]).schedule.iterations == iterations
    chosen = {**MINIMAL, "schedule": {"iterations": 300, "decay": [200]}}
    assert make_recipe(chosen, ["schedule.iterations=400"]).schedule.decay == (200,)


@pytest.mark.parametrize(("warmup", "offered"), [(50, "80"), (90, "90"), (99, "99")])
def test_a_decay_inside_the_warm_up_is_told_where_it_may_lie(warmup, offered):
    options = ["schedule.iterations=100", f"schedule.warmup={warmup}"]
    says = rf"got \[95, 8\], of which 8 is inside the warm-up of {warmup} steps; allowed are steps from {warmup} on"
    with pytest.raises(RecipeError, match=says if warmup < 95 else "of which 95 is inside") as error:
        make_recipe(MINIMAL, [*options, "schedule.decay=[95,8]"])
    (line,) = error.value.problems
    assert line.split()[-1] == f"schedule.decay=[{offered}]"
    assert make_recipe(MINIMAL, [*options, line.split()[-1]]).schedule.decay == (int(offered),)


@pytest.mark.parametrize("warmup", [100, 1000])
def test_a_warm_up_as_long_as_the_run_is_the_mistake(warmup):
    """Not the decay, which lies in the run."""
    options = ["schedule.iterations=100", "schedule.decay=[80]"]
    with pytest.raises(RecipeError, match=rf"schedule: warmup: got {warmup} steps, the run has 100; .*warmup=auto"):
        make_recipe(MINIMAL, [*options, f"schedule.warmup={warmup}"])
    assert make_recipe(MINIMAL, [*options, "schedule.warmup=auto"]).schedule.decay == (80,)


@pytest.mark.parametrize("value", ["soon", "-1", "1.5", ".inf", ".nan", "null", "[5]"])
def test_a_warm_up_is_a_number_of_steps_or_left_open(value):
    with pytest.raises(RecipeError, match=r"schedule.warmup: got .*; allowed are auto and a number of steps") as error:
        make_recipe(MINIMAL, [f"schedule.warmup={value}"])
    assert len(error.value.problems) == 1
    found = [make_recipe(MINIMAL, [f"schedule.warmup={text}"]).schedule.warmup for text in ("auto", "0", "5e1")]
    assert found == ["auto", 0, 50]


def test_several_mistakes_are_several_lines():
    with pytest.raises(RecipeError) as error:
        make_recipe({}, ["optim.lr=0", "seed=-1"])
    assert len(error.value.problems) == 3  # data is missing too


def test_unknown_recipe_lists_the_shipped_ones(tmp_path):
    with pytest.raises(RecipeError, match="16 are shipped.*lt-train recipes lists them"):
        load_recipe("nonsense")
    broken = tmp_path / "r.yaml"
    broken.write_text("a: [")
    with pytest.raises(RecipeError, match="not YAML"):
        load_recipe(broken)
    broken.write_text("- 1")
    with pytest.raises(RecipeError, match="a recipe is a mapping"):
        load_recipe(broken)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_on_a_shipped_recipe_round_trips(method):
    recipe = load_recipe("mask_rcnn_r50_fpn_coco_lt", [f"method={method}"])
    assert make_recipe(recipe.to_plain()) == recipe
    # and back: nothing of the method stays behind
    assert make_recipe(recipe.to_plain(), ["method=softmax"]) == load_recipe("mask_rcnn_r50_fpn_coco_lt")


def test_every_head_and_calibration_has_its_options():
    assert [*sections_of(HeadOptions)] == [*HEADS]
    assert [*sections_of(CalibrationOptions)] == ["none", *CALIBRATIONS]


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["head.name=reweight", "head.lower=6"], "head: lower is 6, upper is 5; allowed is lower <= upper"),
        (["head.name=focal", "head.background=2", "head.background_ratio=3"], "exclude each other"),
        (
            ["sampler=repeat-factor", "sampler.factors=f.csv", "sampler.instance_aware=true", "sampler.exponent=0.7"],
            "factors and instance_aware=true and exponent=0.7 exclude each other: a file of factors is used as it is",
        ),
        (["sampler=repeat-factor", "sampler.exponent=1.5"], "sampler.exponent"),
        (["head.name=focal", "head.alpha=2"], "head.alpha: got 2"),
        (["head.name=bags", "head.merge=sum"], "head.merge: got 'sum'"),
        (["calibration.name=tau-norm"], "train is none with it; got train=all"),
        (["train=none", "calibration.name=ncm", "calibration.temperature=0"], "calibration.temperature: got 0"),
        (["data.classes_below=0"], "data.classes_below: got 0"),
        (["schedule.epoch=day"], "schedule.epoch: got 'day'"),
        (["sampler.name=class-aware", "sampler.threshold=1"], "unknown key 'sampler.threshold'"),
    ],
)
def test_options_of_methods_are_checked(overrides, says):
    with pytest.raises(RecipeError) as error:
        make_recipe(MINIMAL, overrides)
    assert says in str(error.value)
    assert len(error.value.problems) == 1


def test_options_of_one_head_are_not_filled_into_another():
    """The preset gives the focal head a weighting; the head that the user chose has none."""
    recipe = make_recipe(MINIMAL, ["method=reweight-cls", "head.name=softmax"])
    assert recipe.head.name == "softmax"
    assert beaten_in(recipe) == ["note: head=softmax is set explicitly and beats reweight of method reweight-cls"]
    recipe = make_recipe(MINIMAL, ["method=finetune-tail", "optim.lr=0.01"])
    assert recipe.data.classes_below == 100
    assert beaten_in(recipe) == ["note: optim.lr=0.01 is set explicitly and beats 0.0001 of method finetune-tail"]
