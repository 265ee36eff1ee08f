"""Every shipped recipe with every method: built at full size without memory, numbers counted, two steps taken."""

import csv
import re
from importlib import resources

import pytest
import torch
import yaml

from lt_data.build.alignment import reference_positions
from lt_data.counts.categories import embedded_reference
from lt_data.groups import BAGS_EDGES
from lt_train.detectors import build_detector, set_trainable
from lt_train.detectors.table import LITE0
from lt_train.engine.fit import fit
from lt_train.heads import make_head
from lt_train.recipe.load import load_recipe, read_recipe_file, recipe_names
from lt_train.recipe.method import VARIANTS
from lt_train.recipe.methods import METHODS

KINDS = ("mask", "faster")
STAGED = [name for name in recipe_names() if name.startswith(("cascade_", "htc_"))]
RECIPES = [name for name in recipe_names() if "_r50_fpn_" in name and name not in STAGED]
LARGE = [name for name in recipe_names() if "_x101_" in name and name not in STAGED]
GROCERIES = "faster_rcnn_lite0_groceries_lt"
# numbers that torchvision gives for its COCO models of 91 classes, whose batch norms are no parameters
TORCHVISION = {"mask": 44_401_393, "faster": 41_755_286}
# classifier, box regressor and mask logits of a class
PER_CLASS = {"mask": 1025 + 4 * 1025 + 257, "faster": 1025 + 4 * 1025}
# convolutions of conv1 and layer1; weight and bias of the batch norms behind them
FROZEN, AFFINE = 9408 + 212_992, 2 * 25_088


# logits besides one for each class: none where every class is a yes or no and nothing says background
MORE_LOGITS = {"seesaw": 2, **dict.fromkeys(("equalization", "droploss", "federated", "gumbel", "balanced-sigmoid"), 0)}


def logits_of(head, classes):
    """Logits of a head over the usual groups."""
    return classes + (2 + len(BAGS_EDGES) + 1 if head == "bags" else MORE_LOGITS.get(head, 1))


def factors_of(head, logits):
    """Factors of a classifier that can be trained."""
    return logits if head.classifier == "scaled" else int(head.classifier == "cosine" and head.learn_scale)


def head_of(recipe, instances):
    images = {"image_counts": [min(count, 5_000) for count in instances], "num_images": 50_000}
    return make_head(recipe.head.name, instance_counts=instances, **images, **recipe.head_options)


def instances_of(name):
    """Instances of each class of the data set that a recipe names, most first."""
    reference = embedded_reference("lvis-v1" if "lvis_v1" in name else "lvis-v0.5").instances
    positions = reference_positions(80, len(reference)) if "coco_lt" in name else slice(None)
    return reference[positions].tolist()


def expected_numbers(recipe, classes):
    """What is trained, from the widths of the layers."""
    kind = recipe.model.name.split("_")[0]
    logits = logits_of(recipe.head.name, classes)
    factors = factors_of(recipe.head, logits)
    classifier = 1025 * logits + factors
    box_head = (12_544 + 1) * 1024 + (1024 + 1) * 1024
    if recipe.train == "all":
        shared = TORCHVISION[kind] - 91 * PER_CLASS[kind] - FROZEN + AFFINE
        return shared + (classes + 1) * (PER_CLASS[kind] - 1025) + classifier
    regressor = 1025 * 4 * (classes + 1)
    head = box_head + classifier
    parts = {"none": 0, "scale": factors, "classifier": classifier, "head": head, "head+reg": head + regressor}
    # a second head of three layers is as large as the first
    return {**parts, "calibrated": head}[recipe.train]


def audited(recipe, head):
    """The model of a recipe in full size, without memory, and the numbers that are trained."""
    with torch.device("meta"):
        model = build_detector(recipe.model.name, head, weights=recipe.model.weights, load_pretrained=False)
        if recipe.second_head.kind != "none":
            model.add_second_head(**recipe.second_head.model_dump())
            model.start_second_head()
    set_trainable(model, recipe.train)
    return model, sum(p.numel() for p in model.parameters() if p.requires_grad)


def test_there_is_one_for_each_data_set_and_detector():
    data = ("coco_lt", "lvis_v0.5", "lvis_v1")
    assert sorted(RECIPES) == sorted(f"{kind}_rcnn_r50_fpn_{name}" for kind in KINDS for name in data)
    assert sorted(LARGE) == sorted(f"{kind}_rcnn_x101_64x4d_fpn_lvis_v0.5" for kind in KINDS)
    assert len(STAGED) == 6
    assert set(recipe_names()) == {*RECIPES, *LARGE, *STAGED, GROCERIES, "quickstart"}


@pytest.mark.parametrize("name", [*RECIPES, *LARGE, *STAGED, GROCERIES])
def test_a_recipe_says_how_it_is_used_and_nothing_of_methods(name):
    assert not {"method", "head", "sampler", "calibration", "train"} & set(read_recipe_file(name))
    text = resources.files("lt_train.recipes").joinpath(f"{name}.yaml").read_text()
    assert f"# lt-train fit {name} --out " in text
    batch = load_recipe(name).optim.micro_batch if name in STAGED else 2
    assert (f"optim.batch={batch} optim.accumulate={16 // batch}" in text) == (name != GROCERIES)


@pytest.mark.parametrize("name", [*RECIPES, *LARGE])
def test_paper_schedule(name):
    recipe = load_recipe(name)
    assert (recipe.optim.lr, recipe.optim.base_batch, recipe.optim.images_per_step) == (0.01, 16, 16)
    assert (recipe.optim.momentum, recipe.optim.weight_decay) == (0.9, 1e-4)
    assert (recipe.schedule.epochs, recipe.schedule.decay, recipe.schedule.warmup) == (12, (8, 11), "auto")
    assert (recipe.model.num_detections, recipe.model.min_size, recipe.model.max_size) == (300, (800,), 1333)


# the usual form of every method with masks, and of two without; the slow test has all
AUDITS = [
    pytest.param(
        *(kind, method, variant),
        marks=() if variant == "equal" and (kind == "mask" or method in ("softmax", "bags")) else pytest.mark.slow,
    )
    for kind in KINDS
    for method in METHODS
    for variant in VARIANTS
]


@pytest.mark.parametrize(("kind", "method", "variant"), AUDITS)
def test_audit_of_the_full_model(kind, method, variant):
    name = f"{kind}_rcnn_r50_fpn_lvis_v0.5"
    recipe, instances = load_recipe(name, [f"method={method}", f"variant={variant}"]), instances_of(name)
    _, trained = audited(recipe, head_of(recipe, instances))
    assert trained == expected_numbers(recipe, len(instances))
    if recipe.method in ("bags", "bags-train-cls") and recipe.train != "all":
        assert trained == 1236 * 1024 + 1236


@pytest.mark.parametrize("name", LARGE)
def test_audit_of_the_large_models(name):
    """The first stage of a trunk of 84.9 million numbers that train, and the second of BAGS, which is the same."""
    instances, trained = instances_of(name), {}
    for method in ("softmax", "bags"):
        recipe = load_recipe(name, [f"method={method}"])
        head = head_of(recipe, instances)
        with torch.device("meta"):
            model = build_detector(recipe.model.name, head, weights=recipe.model.weights, load_pretrained=False)
        set_trainable(model, recipe.train)
        trained[method] = sum(p.numel() for p in model.parameters() if p.requires_grad)
    rpn, box_head, masks = 593_935, (12_544 + 1) * 1024 + 1025 * 1024, 4 * 590_080 + 262_400 + 257 * 1231
    trunk = 84_150_272 + 197_632
    assert trained["bags"] == 1_266_900
    assert trained["softmax"] == trunk + rpn + box_head + 1025 * 5 * 1231 + masks * name.startswith("mask")


@pytest.mark.parametrize("name", STAGED)
def test_audit_of_detectors_of_several_stages(name):
    """A classifier in each of three stages; a box regressor of four numbers, whatever the number of classes."""
    instances = instances_of(name)
    for method in ("softmax", "bags"):
        recipe = load_recipe(name, [f"method={method}"])
        assert recipe.optim.images_per_step == 16
        head = head_of(recipe, instances)
        with torch.device("meta"):
            model = build_detector(
                recipe.model.name,
                head,
                weights=recipe.model.weights,
                load_pretrained=False,
                semantic=recipe.model.semantic,
                dcn=recipe.model.dcn,
            )
        set_trainable(model, recipe.train)
        trained = {name: p.numel() for name, p in model.named_parameters() if p.requires_grad}
        logits = logits_of(recipe.head.name, len(instances))
        classifiers = {name: number for name, number in trained.items() if ".cls_score." in name}
        assert sum(classifiers.values()) == 3 * 1025 * logits
        assert len(classifiers) == 6
        if method == "bags":
            assert trained == classifiers
            continue
        offsets = sum(number for name, number in trained.items() if ".offset." in name)
        assert offsets == (5_143_068 if "dcn" in name else 0)
        regressors = {name: number for name, number in trained.items() if ".bbox_pred." in name and "stages" in name}
        assert sum(regressors.values()) == 3 * 4_100
        semantic = sum(number for name, number in trained.items() if ".semantic." in name)
        assert semantic == (2_802_103 if "stuff" in recipe.model.semantic else 0)
        simcal = load_recipe(name, ["method=simcal"])
        assert simcal.second_head.below == (400 if "coco_lt" in name else 100)
        model.add_second_head(**simcal.second_head.model_dump())
        names = set_trainable(model, simcal.train)
        numbers = [p.numel() for p in model.parameters() if p.requires_grad]
        assert sum(numbers) == 3 * (13_895_680 + 1025 * logits)
        assert all(".calibrated." in name for name in names)


# one of what is trained each: all, a classifier, its factors, a head, a second one, nothing
LAPTOP = ("softmax", "bags", "lws", "bags-tune-head", "simcal", "tau-norm")


@pytest.mark.parametrize(
    "method", [pytest.param(name, marks=() if name in LAPTOP else pytest.mark.slow) for name in METHODS]
)
def test_audit_of_the_laptop_model(method):
    """25 classes: all but the first stages, or what is trained of two layers of 256, classifier and regressor."""
    recipe = load_recipe(GROCERIES, [f"method={method}"])
    model, trained = audited(recipe, head_of(recipe, [5] * 2 + [20] * 6 + [50] * 6 + [200] * 11))
    logits = logits_of(recipe.head.name, 25)
    factors = factors_of(recipe.head, logits)
    classifier = 257 * logits + factors
    box_head = (64 * 7 * 7 + 1) * 256 + 257 * 256
    regressor = 257 * 4 * 26
    frozen = sum(p.numel() for name, p in model.named_parameters() if name.startswith(LITE0.frozen))
    everything = sum(p.numel() for p in model.parameters()) - frozen
    parts = {"none": 0, "scale": factors, "classifier": classifier, "all": everything}
    parts["head+reg"] = box_head + classifier + regressor
    parts["calibrated"] = box_head + classifier
    assert trained == parts[recipe.train]
    assert everything > 3_000_000


@pytest.fixture(scope="module")
def small(tiny_pool):
    """Overrides that make a recipe small: 20 classes, 64 pixels, two steps."""
    files = {"annotations": str(tiny_pool / "annotations.json"), "images": str(tiny_pool / "images")}

    def load(kind, method):
        overrides = (
            f"method={method}",
            *(f"data.train={yaml.safe_dump(files, default_flow_style=True)}", "data.val=null", "data.workers=0"),
            *(f"model.name={kind}_rcnn_small", "model.weights=none", "model.min_size=64", "model.max_size=64"),
            *("optim.batch=2", "optim.base_batch=2", "schedule.iterations=2", "schedule.decay=[]"),
            *("schedule.warmup=0", "data.groups=[2,3]", "device=cpu", "log_every=1"),
        )
        return load_recipe(f"{kind}_rcnn_r50_fpn_coco_lt", overrides)

    return load


@pytest.fixture(scope="module")
def starts(small, tmp_path_factory):
    """The runs that second stages start from, by model and method; each trained when it is first asked for."""
    done = {}

    def start(kind, method):
        if (kind, method) not in done:
            source = None if method == "softmax" else start(kind, "softmax")
            out = tmp_path_factory.mktemp("starts") / f"{kind}_{method}"
            done[kind, method] = fit(small(kind, method), out, init_from=source).path
        return done[kind, method]

    return start


@pytest.fixture(scope="module")
def ran(starts, tmp_path_factory):
    """The run of a small recipe; those that became equal share one."""
    done = {}

    def run(recipe, kind):
        key = repr(recipe)
        if key not in done:
            entry = METHODS[recipe.method]
            first = "bags-train-cls" if "bags-train-cls" in entry.needs else "softmax"
            source = starts(kind, first) if entry.starts_from_run else None
            done[key] = fit(recipe, tmp_path_factory.mktemp("small") / "run", init_from=source)
        return done[key]

    return run


@pytest.mark.parametrize("name", ["quickstart", "faster_rcnn_lite0_groceries_lt"])
@pytest.mark.parametrize(("method", "rate"), [("softmax", 0.02), ("bags", 0.02), ("finetune-tail", 2e-4)])
def test_small_recipes_leave_methods_their_rate(name, method, rate):
    assert load_recipe(name, [f"method={method}"]).optim.effective_lr == pytest.approx(rate)


# of twelve images every class is in more than a thousandth, and there are fewer classes than are drawn
WITHOUT_EFFECT = {"rfs", "rfs-finetune", "irfs", "equalization", "droploss", "federated"}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["mask", pytest.param("faster", marks=pytest.mark.slow)])
def test_two_steps_on_a_small_model(kind, method, small, ran):
    recipe = small(kind, method)
    run = ran(recipe, kind)
    content = torch.load(run.last, weights_only=True)
    assert all(torch.isfinite(value).all() for value in content["model"].values() if value.is_floating_point())
    log = run.log.read_text()
    assert len(re.findall(r" step \d+/2 ", log)) == (0 if recipe.train == "none" else 2)
    warnings = [line for line in log.splitlines() if "warning" in line]
    assert len(warnings) == (method in WITHOUT_EFFECT)
    trained = sum(int(row["numbers"]) for row in csv.DictReader((run.report / "trainable.csv").open()))
    assert (trained > 0) == (recipe.train != "none")
