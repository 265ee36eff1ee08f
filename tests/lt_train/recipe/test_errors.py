"""Mistakes in recipes: one line each, in words of recipes: where, what we got, what is allowed, how to fix it."""

import pytest
import yaml

from lt_data.errors import LONGEST_LINE, RecipeError
from lt_train.recipe.load import load_recipe, recipe_names
from lt_train.recipe.methods import METHODS
from lt_train.recipe.origins import resolve
from lt_train.recipe.other_names import OTHER_NAMES

BASE = "faster_rcnn_r50_fpn_lvis_v0.5"
# words of the library that validates, which say nothing to a user
JARGON = (
    "tag",
    "dictionary",
    "tuple",
    "instance of",
    "<class",
    "discriminator",
    "literal",
    "unable to parse",
    "extract",
)


def problem(source, *overrides):
    """The one line that refuses a recipe."""
    with pytest.raises(RecipeError) as error:
        load_recipe(source, overrides)
    (line,) = error.value.problems
    assert line.startswith((f"{source}: ", "override "))
    assert not [word for word in JARGON if word in line.lower()], line
    return line.removeprefix(f"{source}: ")


@pytest.mark.parametrize(
    ("override", "says"),
    [
        (
            "sampler=class_aware",
            "sampler: got 'class_aware'; allowed are 'shuffle', 'repeat-factor', 'class-aware', 'bi-level'; did you "
            "mean 'class-aware'?",
        ),
        ("head.name=bgas", "'balanced-sigmoid', 'bags'; did you mean 'bags'?"),
        (
            "head=3",
            "balanced-sigmoid, bags, or a mapping with one of them as its name",
        ),
        ("head={gamma: 1, name: 3}", "head: got '3'; allowed are 'softmax'"),
        ("calibration=null", "calibration is never null; allowed are none, tau-norm, ncm"),
        ("data.groups=10", "data.groups: got 10; a list is needed, for example data.groups=[10]"),
        ("schedule.decay=3", "for example schedule.decay=[3]"),
        ("schedule.decay=8,11", "schedule.decay: got '8,11'; a list is needed, for example schedule.decay=[8,11]"),
        ("schedule.decay=late", "schedule.decay: got 'late'; a list is needed"),
        ("optim=3", "optim: got 3; it is a section with the keys lr, momentum"),
        ("data.train=x", "for example data.train.annotations=VALUE"),
        ("data.train.images=3", "data.train.images: got 3; a path is needed"),
        ("optim.lr=abc", "optim.lr: got 'abc'; a number is needed"),
        ("seed=a", "seed: got 'a'; a valid integer is needed"),
        ("model.weights=3", "model.weights: got 3; text is needed"),
        ("data.keep_empty=7", "data.keep_empty: got 7; allowed are true and false"),
        ("model.name=mask_rcnn", "did you mean 'mask_rcnn_r50_fpn'?"),
        ("model.name=faster_rcnn_x101_64x4d", "did you mean 'faster_rcnn_x101_64x4d_fpn'?"),
        ("model.name=x", "model.name: got 'x'; allowed are a detector (faster_rcnn, mask_rcnn"),
        ("model.dcn=c4", "model.dcn: got 'c4'; allowed are 'none' or 'c3-c5'"),
        ("model.name=mask_rcnn_small model.dcn=c3-c5", "model: dcn: got c3-c5, and model.name=mask_rcnn_small has no"),
        ("model.min_size_range=[800,400]", "model.min_size_range: got [800, 400]; the smaller side comes first, for"),
        ("model.min_size_range=800", "model.min_size_range: got 800; a list is needed"),
        ("model.min_size_range=[400]", "model.min_size_range.1"),
        ("model.min_size_range=[8,400]", "model.min_size_range.0: got 8; input should be greater than or equal to 32"),
        (
            "model.min_size_range=[400,1400] model.min_size=[640,800]",
            "model: min_size_range=[400, 1400] and min_size=[640, 800] both say what training draws; allowed is one of "
            "them: set model.min_size_range=null, or model.min_size=800 (the size at test)",
        ),
        ("model.test_max_size=1", "model.test_max_size: got 1; input should be greater than or equal to 32"),
        ("method=bag", "did you mean 'bags'?"),
        ("bags=3", "unknown key 'bags'"),
        ("optim.batch=true", "optim.batch: got True; a number is needed"),
        ("optim.batch=automatic", "optim.batch: got 'automatic'; allowed are a number of images from 1 on, or auto"),
        ("optim.lr=yes", "optim.lr: got True; a number is needed"),
        ("schedule.decay=[true]", "schedule.decay: got [True]; a number is needed"),
        ("head={name: focal, gamma: on}", "head.gamma: got True; a number is needed"),
        ("model.min_size=[[1]]", "model.min_size.0: got [1]; a valid integer is needed"),
        ("model.min_size=[]", "model.min_size: got []; at least one value is needed"),
        ("data.workers=100000", "data.workers: got 100000; input should be less than or equal to 256"),
        ("seed=1:30", "seed: got '1:30'; a valid integer is needed"),
        ("seed=2020-01-01", "seed: got '2020-01-01'; a valid integer is needed"),
        ("optim.lr=1e400", "optim.lr: got inf; a finite number is needed"),
        ("schedule.warmup=1e300", "schedule.warmup: got 1e+300; allowed are auto and a number of steps"),
    ],
)
def test_values_of_the_wrong_kind(override, says):
    assert says in problem(BASE, *(override.split() if override.startswith("model.") else [override]))


def test_options_of_the_wrong_kind():
    line = problem(BASE, "method=bags", "head.edges=10")
    assert "head.edges: got 10; a list is needed, for example head.edges=[10]" in line
    line = problem(BASE, "method=bags", "head.edges=100,5")
    assert line.endswith(
        "head.edges: got 100,5; allowed are positive whole numbers in ascending order, for example 5,100"
    )
    assert "head.edges: got 'abc'; allowed are the presets bags" in problem(BASE, "method=bags", "head.edges=abc")
    assert load_recipe(BASE, ["method=bags", "head.edges=5,100"]).head.edges == (5, 100)
    assert load_recipe(BASE, ["method=bags", "head.edges=bags-2"]).head.edges == (100,)
    assert (
        "head.weighting: got 'effective'; allowed are 'none', 'inverse' or 'effective-number'; did you mean"
        in problem(BASE, "head=focal", "head.weighting=effective")
    )


def test_a_long_list_is_cut():
    line = problem(BASE, f"schedule.decay={[*range(3000)]}", "schedule.iterations=4000")
    assert "got [0, 1, 2, 3, 4, 5, ...], of which 0 is inside the warm-up" in line


def test_options_of_another_head_are_one_line(tmp_path):
    complete = tmp_path / "bags.yaml"
    complete.write_text(yaml.safe_dump(load_recipe(BASE, ["method=bags"]).to_plain(), sort_keys=False))
    line = problem(complete, "head.name=softmax")
    assert line.startswith("unknown keys 'head.others_ratio', 'head.edges', 'head.gate'")
    assert "head softmax has classifier, scale" in line
    assert line.endswith("remove them, or set head=softmax to replace the whole section")
    assert load_recipe(complete, ["head=softmax"]).head == load_recipe(BASE).head
    line = problem(complete, "head.name=focal")
    assert "head focal has gamma, alpha" in line
    assert "set head=focal to replace the whole section" in line


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["head.gamma=1"], "remove it, or choose head=focal or head=equalization-v2"),
        (["head=focal", "head.gama=1"], "unknown key 'head.gama'; did you mean 'head.gamma'?"),
        (["data.group=[5]"], "unknown key 'data.group'; did you mean 'data.groups'?"),
        (["sampler.threshold=1"], "sampler shuffle has no options; remove it, or choose sampler=repeat-factor"),
        (
            ["head.zzz=1"],
            "head softmax has classifier, scale, learn_scale, fresh_classifier; remove it",
        ),
        (["method=bags", "others_ratio=3"], "unknown key 'others_ratio'; did you mean 'head.others_ratio'?"),
        (["others_ratio=3"], "unknown key 'others_ratio'"),
    ],
)
def test_suggestions_are_keys_that_would_work(overrides, says):
    line = problem(BASE, *overrides)
    assert says in line
    assert ("did you mean" in line) == ("did you mean" in says)


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (
            ["head.gate=false", "head.merge=softmax"],
            "head: merge is softmax, which needs the gate; allowed with gate=false are product, best-group; "
            "set head.merge=product or head.gate=true",
        ),
        (
            ["head.in_group_lower=9"],
            "head: in_group_lower is 9, in_group_upper is 5; allowed is in_group_lower <= in_group_upper; "
            "set head.in_group_upper too",
        ),
        (["head.groups=[[1]]", "head.edges=[5]"], "head: edges and groups exclude each other"),
        (["head.groups=[[1, 0]]"], "head.groups.0.1: got 0"),
        (["head.in_group_lower=-1"], "head.in_group_lower: got -1"),
        (["head.in_group_upper=0"], "head.in_group_upper: got 0"),
        (["head.in_group_upper=.inf"], "head.in_group_upper: got inf"),
        (["head.others_ratio=.nan"], "head.others_ratio: got nan"),
    ],
)
def test_head_options_are_checked_before_anything_is_built(overrides, says):
    assert says in problem(BASE, "method=bags", *overrides)


@pytest.mark.parametrize("merge", ["product", "best-group"])
def test_merges_that_need_no_gate(merge):
    assert load_recipe(BASE, ["method=bags", "head.gate=false", f"head.merge={merge}"]).head.merge == merge


def test_recipes_by_a_part_of_their_name():
    assert recipe_names("n_r50_fpn_lvis_v1") == [
        f"{name}_r50_fpn_lvis_v1" for name in ("cascade_mask_rcnn", "faster_rcnn", "mask_rcnn")
    ]
    with pytest.raises(RecipeError, match="none of 16 has 'zzz' in its name; lt-train recipes lists all"):
        recipe_names("zzz")
    with pytest.raises(RecipeError, match="close are .*mask_rcnn_r50_fpn_lvis_v1"):
        recipe_names("lvis_w1")


@pytest.mark.parametrize("method", [name for name in METHODS if name != "softmax"])
def test_former_names_are_answered_with_the_command(method):
    name = f"mask_rcnn_r50_fpn_lvis_v0.5_{method.replace('-', '_')}"
    for ask in (load_recipe, recipe_names):
        with pytest.raises(RecipeError) as error:
            ask(name)
        (line,) = error.value.problems
        assert line.endswith(f"for example lt-train fit mask_rcnn_r50_fpn_lvis_v0.5 method={method}")


def test_a_method_where_a_recipe_belongs_is_answered_with_the_command():
    for ask in (load_recipe, recipe_names):
        with pytest.raises(
            RecipeError, match="this is a method, an option of every recipe; write RECIPE method=tau-norm"
        ):
            ask("tau-norm")


@pytest.mark.parametrize(
    ("override", "ours"),
    [
        ("lr=0.1", "optim.lr"),
        ("optim.learning_rate=0.1", "optim.lr"),
        ("lr0=0.1", "optim.lr"),
        ("solver.base_lr=0.1", "optim.lr"),
        ("SOLVER.IMS_PER_BATCH=16", "optim.batch"),
        ("epochs=12", "schedule.epochs"),
        ("train.max_epochs=12", "schedule.epochs"),
        ("batch=16", "optim.batch"),
        ("batch-size=16", "optim.batch"),
        ("imgsz=640", "model.min_size"),
        ("num_workers=4", "data.workers"),
        ("data.train.ann_file=a.json", "data.train.annotations"),
        ("data.val.img_dir=a", "data.val.images"),
        ("pretrained=coco", "model.weights"),
        ("optimizer.lr=0.1", "optim"),
    ],
)
def test_names_of_other_tools_are_answered_with_ours(override, ours):
    override = override.removeprefix("train.")  # train is a value here
    assert problem(BASE, override).endswith(f"; did you mean '{ours}'?")


def test_a_key_that_is_in_two_sections_is_not_guessed():
    assert problem(BASE, "annotations=x").endswith("did you mean 'data.train.annotations' or 'data.val.annotations'?")


@pytest.mark.parametrize(
    ("override", "ours"),
    [
        ("method=BAGS", "bags"),
        ("method=balanced_group_softmax", "bags"),
        ("method=BalancedGroupSoftmax", "bags"),
        ("method=repeat-factor", "rfs"),
        ("method=RFS", "rfs"),
        ("method=baseline", "softmax"),
        ("head=Focal_Loss", "focal"),
        ("sampler=rfs", "repeat-factor"),
        ("sampler=RepeatFactorTrainingSampler", "repeat-factor"),
        ("model.name=fasterrcnn_resnet50_fpn", "faster_rcnn_r50_fpn"),
        ("train=HEAD", "head"),
    ],
)
def test_values_of_other_tools_are_answered_with_ours(override, ours):
    assert problem(BASE, override).endswith(f"; did you mean '{ours}'?")


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("model.num_classes=81", "unknown key 'model.num_classes'; the classes are the categories of data.train."),
        ("patience=5", "unknown key 'patience'; a run takes all of its schedule, and keeps the checkpoint with the"),
    ],
)
def test_keys_of_other_tools_that_are_not_needed_here(override, says):
    line = problem(BASE, override)
    assert says in line
    assert line.endswith("; remove it")


def test_every_other_name_leads_to_a_key_of_a_recipe_and_is_none_itself():
    known = {setting.key for setting in resolve(BASE, ["head=bags", "data.val.images=x"])[1]}
    sections = {key.rpartition(".")[0] for key in known}
    for name, key in OTHER_NAMES.keys.items():
        assert key in known | sections, (name, key)
        assert name not in known
        assert name == name.lower()


def test_a_file_of_something_else_has_twenty_lines_and_a_count(tmp_path):
    path = tmp_path / "other.yaml"
    path.write_text("".join(f"key_{i}: {i}\n" for i in range(1000)))
    with pytest.raises(RecipeError) as error:
        load_recipe(path)
    assert len(error.value.problems) == 21
    assert error.value.problems[-1].endswith(" more mistakes like these")
    assert sum("unknown key" in line for line in error.value.problems) == 19


def test_a_recipe_that_is_not_utf_8_is_named_for_that(tmp_path):
    path = tmp_path / "latin.yaml"
    path.write_bytes("# caf\u00e9\nseed: 1\n".encode("latin-1"))
    assert problem(path) == "is not text in UTF-8; save it as UTF-8"


def test_a_line_is_never_longer_than_anybody_reads():
    """Whatever it quotes; where it is and how to fix it stay."""
    (line,) = RecipeError(f"here: got {'x' * 5000}; write less").problems
    assert line.startswith("here: got xxx")
    assert line.endswith("xxx; write less")
    assert len(line) == LONGEST_LINE
