"""Recipes: overrides, presets, and one line for each mistake."""

import pytest

from lt_data.errors import RecipeError
from lt_train.methods import METHODS
from lt_train.recipe import load_recipe, make_recipe, recipe_names

MINIMAL = {"data": {"train": {"annotations": "a.json", "images": "images"}}}


def test_method_fills_and_explicit_keys_win():
    assert make_recipe(MINIMAL).head.name == "softmax"
    bags = make_recipe(MINIMAL, ["method=bags"])
    assert (bags.head.name, bags.train, bags.sampler.name) == ("bags", "classifier", "shuffle")
    mixed = make_recipe(MINIMAL, ["method=bags", "train=head", "sampler.name=repeat-factor", "head.others_ratio=1"])
    assert (mixed.head.name, mixed.train, mixed.sampler.name) == ("bags", "head", "repeat-factor")
    assert mixed.head_options == {"others_ratio": 1.0, "edges": (10, 100, 1000)}
    assert make_recipe(MINIMAL, ["method=rfs"]).sampler.name == "repeat-factor"


def test_head_takes_the_groups_of_the_data_unless_it_has_its_own():
    assert make_recipe(MINIMAL, ["method=bags", "data.groups=[5,50]"]).head_options["edges"] == (5, 50)
    own = make_recipe(MINIMAL, ["method=bags", "data.groups=[5,50]", "head.edges=[100]"])
    assert own.head_options["edges"] == (100,)


def test_overrides_are_yaml_and_1e_4_is_a_number():
    recipe = make_recipe(
        MINIMAL, ["optim.lr=1e-4", "model.min_size=[640,800]", "data.keep_empty=true", "optim.clip=null"]
    )
    assert recipe.optim.lr == 1e-4
    assert recipe.model.min_size == (640, 800)
    assert recipe.data.keep_empty is True
    assert recipe.optim.clip is None
    assert make_recipe(MINIMAL, ["model.min_size=640"]).model.min_size == (640,)


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
        ("head.name=zzz", "does not match any of the expected tags"),
        ("optim=3", "optim: got 3"),
        ("optim.lr.x=3", "'lr' is not a section"),
        ("schedule.epochs=1.5", "valid integer"),
        ("train=everything", "'all', 'head', 'head+reg', 'classifier' or 'none'"),
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


def test_several_mistakes_are_several_lines():
    with pytest.raises(RecipeError) as error:
        make_recipe({}, ["optim.lr=0", "seed=-1"])
    assert len(error.value.problems) == 3  # data is missing too


def test_unknown_recipe_lists_the_shipped_ones(tmp_path):
    with pytest.raises(RecipeError, match="mask_rcnn_r50_fpn_coco_lt"):
        load_recipe("nonsense")
    broken = tmp_path / "r.yaml"
    broken.write_text("a: [")
    with pytest.raises(RecipeError, match="not YAML"):
        load_recipe(broken)
    broken.write_text("- 1")
    with pytest.raises(RecipeError, match="a recipe is a mapping"):
        load_recipe(broken)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_is_valid_and_round_trips(name, method):
    recipe = load_recipe(name, [f"method={method}"])
    assert make_recipe(recipe.to_plain()) == recipe


@pytest.mark.parametrize("name", [n for n in recipe_names() if "r50" in n])
def test_paper_schedule(name):
    recipe = load_recipe(name)
    assert (recipe.optim.lr, recipe.optim.base_batch, recipe.optim.images_per_step) == (0.01, 16, 16)
    assert (recipe.optim.momentum, recipe.optim.weight_decay) == (0.9, 1e-4)
    assert (recipe.schedule.epochs, recipe.schedule.decay, recipe.schedule.warmup) == (12, (8, 11), 500)
    assert (recipe.model.num_detections, recipe.model.min_size, recipe.model.max_size) == (300, (800,), 1333)
