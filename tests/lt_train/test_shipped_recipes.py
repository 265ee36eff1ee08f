"""Every shipped recipe: complete, built at full size without memory, its trained numbers counted, two steps taken."""

import csv
import re

import pytest
import torch
import yaml

from lt_data.build.alignment import reference_positions
from lt_data.counts.categories import embedded_reference
from lt_train.detectors import build_detector, set_trainable
from lt_train.engine.fit import fit
from lt_train.heads import make_head
from lt_train.recipe.fill import beaten_keys
from lt_train.recipe.load import load_recipe, read_recipe_file, recipe_names
from lt_train.recipe.methods import METHODS

RECIPES = [name for name in recipe_names() if name != "quickstart"]
# numbers that torchvision gives for its COCO models of 91 classes, whose batch norms are no parameters
TORCHVISION = {"mask": 44_401_393, "faster": 41_755_286}
# classifier, box regressor and mask logits of a class
PER_CLASS = {"mask": 1025 + 4 * 1025 + 257, "faster": 1025 + 4 * 1025}
# convolutions of conv1 and layer1; weight and bias of the batch norms behind them
FROZEN, AFFINE = 9408 + 212_992, 2 * 25_088


def instances_of(name):
    """Instances of each class of the data set that a recipe names, most first."""
    reference = embedded_reference("lvis-v1" if "lvis_v1" in name else "lvis-v0.5").instances
    positions = reference_positions(80, len(reference)) if "coco_lt" in name else slice(None)
    return reference[positions].tolist()


def expected_numbers(recipe, classes):
    """What is trained, from the widths of the layers."""
    kind = recipe.model.name.split("_")[0]
    logits = classes + 1 if recipe.head.name != "bags" else classes + 2 + len(recipe.data.groups) + 1
    classifier = 1025 * logits
    box_head = (12_544 + 1) * 1024 + (1024 + 1) * 1024
    if recipe.train == "all":
        shared = TORCHVISION[kind] - 91 * PER_CLASS[kind] - FROZEN + AFFINE
        return shared + (classes + 1) * (PER_CLASS[kind] - 1025) + classifier
    regressor = 1025 * 4 * (classes + 1)
    return {"none": 0, "classifier": classifier, "head+reg": box_head + classifier + regressor}[recipe.train]


def test_there_is_one_for_each_method_data_set_and_model():
    assert len(RECIPES) == len(METHODS) * 3 * 2
    methods = [(load_recipe(name).method, name.split("_rcnn_")[0]) for name in RECIPES]
    assert all(methods.count((method, kind)) == 3 for method in METHODS for kind in ("mask", "faster"))


@pytest.mark.parametrize("name", RECIPES)
def test_complete_and_equal_to_its_baseline_but_for_its_method(name):
    recipe = load_recipe(name)
    # no key is left to a default
    assert set(keys_of(read_recipe_file(name))) >= set(keys_of(recipe.to_plain())) - {"schedule.warmup_start"}
    assert beaten_keys(recipe.method, recipe.to_plain()) == []
    model, _, data = name.partition("_r50_fpn_")
    suffix = "" if recipe.method == "softmax" else "_" + recipe.method.replace("-", "_")
    baseline = load_recipe(f"{model}_r50_fpn_{data.removesuffix(suffix)}", [f"method={recipe.method}"])
    assert recipe == baseline


def keys_of(content, prefix=""):
    for key, value in content.items():
        if isinstance(value, dict):
            yield from keys_of(value, f"{prefix}{key}.")
        else:
            yield prefix + key


@pytest.mark.parametrize("name", [n for n in RECIPES if load_recipe(n).schedule.epochs == 12])
def test_paper_schedule(name):
    recipe = load_recipe(name)
    assert (recipe.optim.lr, recipe.optim.base_batch, recipe.optim.images_per_step) == (0.01, 16, 16)
    assert (recipe.optim.momentum, recipe.optim.weight_decay) == (0.9, 1e-4)
    assert (recipe.schedule.epochs, recipe.schedule.decay, recipe.schedule.warmup) == (12, (8, 11), 500)
    assert (recipe.model.num_detections, recipe.model.min_size, recipe.model.max_size) == (300, (800,), 1333)


@pytest.mark.parametrize("name", RECIPES)
def test_audit_of_the_full_model(name):
    recipe, instances = load_recipe(name), instances_of(name)
    head = make_head(recipe.head.name, instance_counts=instances, **recipe.head_options)
    with torch.device("meta"):
        model = build_detector(recipe.model.name, head, weights=recipe.model.weights, load_pretrained=False)
    set_trainable(model, recipe.train)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trained == expected_numbers(recipe, len(instances))
    if recipe.method in ("bags", "bags-train-cls") and "lvis_v0.5" in name:
        assert trained == 1236 * 1024 + 1236


@pytest.fixture(scope="module")
def small(tiny_pool):
    """Overrides that make a recipe small: 20 classes, 64 pixels, two steps."""
    files = {"annotations": str(tiny_pool / "annotations.json"), "images": str(tiny_pool / "images")}

    def load(name):
        model = "mask_rcnn_small" if name.startswith("mask") else "faster_rcnn_small"
        overrides = (
            *(f"data.train={yaml.safe_dump(files, default_flow_style=True)}", "data.val=null", "data.workers=0"),
            *(f"model.name={model}", "model.weights=none", "model.min_size=64", "model.max_size=64"),
            *("optim.batch=2", "optim.base_batch=2", "schedule.iterations=2", "schedule.decay=[]"),
            *("schedule.warmup=0", "data.groups=[2,3]", "device=cpu", "log_every=1"),
        )
        return load_recipe(name, overrides)

    return load


@pytest.fixture(scope="module")
def starts(small, tmp_path_factory):
    """The runs that second stages start from, by model and method; each trained when it is first asked for."""
    done = {}

    def start(kind, method):
        if (kind, method) not in done:
            name = f"{kind}_rcnn_r50_fpn_coco_lt" + ("" if method == "softmax" else "_bags_train_cls")
            source = None if method == "softmax" else start(kind, "softmax")
            out = tmp_path_factory.mktemp("starts") / f"{kind}_{method}"
            done[kind, method] = fit(small(name), out, init_from=source).path
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


@pytest.mark.parametrize("name", RECIPES)
def test_two_steps_on_a_small_model(name, small, ran):
    recipe = small(name)
    run = ran(recipe, name.split("_")[0])
    content = torch.load(run.last, weights_only=True)
    assert all(torch.isfinite(value).all() for value in content["model"].values() if value.is_floating_point())
    log = run.log.read_text()
    assert len(re.findall(r" step \d+/2 ", log)) == (0 if recipe.train == "none" else 2)
    assert "warning" not in log
    trained = sum(int(row["numbers"]) for row in csv.DictReader((run.report / "trainable.csv").open()))
    assert (trained > 0) == (recipe.train != "none")
