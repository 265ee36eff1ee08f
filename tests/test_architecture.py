"""The shape of the code: dependence in one direction, light imports, sizes."""

import ast
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("lt_data", "lt_train", "cli")
FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]

# folder (or module) of lt_train -> those it may import
ALLOWED = {
    "lt_train.methods": set(),
    "lt_train.options": set(),
    "lt_train.recipe_errors": set(),
    "lt_train.randomness": set(),
    "lt_train.classifiers": set(),
    "lt_train.recipe_origins": {"lt_train.methods", "lt_train.recipe"},
    "lt_train.recipe": {"lt_train.methods", "lt_train.options", "lt_train.recipe_errors"},
    "lt_train.heads": set(),
    "lt_train.calibration": {"lt_train.heads"},
    "lt_train.data": {"lt_train.randomness"},
    "lt_train.detectors": {
        *("lt_train.heads", "lt_train.calibration", "lt_train.classifiers", "lt_train.data", "lt_train.randomness"),
    },
    "lt_train.evaluation": set(),
    "lt_train.report": {"lt_train.evaluation"},
    "lt_train.engine": {
        *("lt_train.methods", "lt_train.options", "lt_train.recipe", "lt_train.recipe_origins", "lt_train.heads"),
        "lt_train.calibration",
        *("lt_train.data", "lt_train.detectors", "lt_train.evaluation", "lt_train.randomness", "lt_train.report"),
    },
    "lt_train.quickstart": {"lt_train.engine", "lt_train.recipe", "lt_train.report"},
}


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path):
    package = module_name(path) if path.stem == "__init__" else module_name(path).rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level > 1 else package
            yield f"{base}.{node.module}" if node.level and node.module else node.module or base


def room(module):
    return ".".join(module.split(".")[:2])


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_dependence_runs_one_way(path):
    here = module_name(path)
    for name in imports(path):
        top = name.split(".")[0]
        if here.startswith("lt_data"):
            assert top not in ("lt_train", "cli", "lt_cli", "torch", "torchvision"), name
        elif here.startswith("lt_train"):
            assert top not in ("cli", "lt_cli"), name
            if top == "lt_train" and here != "lt_train" and room(name) not in (room(here), "lt_train"):
                assert room(name) in ALLOWED[room(here)], f"{here} imports {name}"


def test_every_room_of_lt_train_is_listed():
    rooms = {room(module_name(p)) for p in FILES if module_name(p).startswith("lt_train.")}
    assert rooms - {"lt_train.recipes"} == set(ALLOWED)


@pytest.mark.parametrize(
    ("code", "forbidden"),
    [
        ("import lt_data", {"numpy", "pandas", "torch", "matplotlib"}),
        ("import lt_data.coco_lt, lt_data.group_stats", {"pandas", "torch", "matplotlib"}),
        ("from lt_cli.data import main; main(['--help'], standalone_mode=False)", {"numpy", "torch", "matplotlib"}),
        ("from lt_cli.train import main; main(['methods'], standalone_mode=False)", {"numpy", "torch", "matplotlib"}),
        ("from lt_cli.train import main; main(['fit', '--help'], standalone_mode=False)", {"torch", "matplotlib"}),
        ("import lt_train.recipe", {"torch", "matplotlib"}),
        ("import lt_train.evaluation", {"torch", "matplotlib"}),
        ("import lt_train.evaluation.measure", {"torch", "matplotlib", "pydantic", "yaml"}),
        ("import lt_train.evaluation.comparison_files", {"torch", "matplotlib", "pydantic", "yaml"}),
    ],
)
def test_nothing_heavy_is_imported_before_it_is_needed(code, forbidden):
    check = f"import sys\n{code}\nprint(','.join(sorted(set(m.split('.')[0] for m in sys.modules))))"
    run = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not forbidden & set(run.stdout.strip().splitlines()[-1].split(","))


def functions():
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{path.relative_to(ROOT)}:{node.name}", node.end_lineno - node.lineno + 1


def test_functions_stay_small():
    sizes = dict(functions())
    assert statistics.median(sizes.values()) <= 15
    assert sum(size <= 60 for size in sizes.values()) >= 0.95 * len(sizes)
    assert {name: size for name, size in sizes.items() if size > 80} == {}


def test_files_stay_small():
    long = {str(p.relative_to(ROOT)): len(p.read_text().splitlines()) for p in FILES}
    assert {name: lines for name, lines in long.items() if lines > 450} == {}
