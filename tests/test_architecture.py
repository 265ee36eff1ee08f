"""The shape of the code: dependence in one direction, light imports, sizes."""

import ast
import statistics
import subprocess
import sys
import tomllib
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("lt_data", "lt_train", "cli")
FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]

# room (folder or module) of lt_train -> those it may import
ALLOWED = {
    "lt_train.randomness": set(),
    "lt_train.launch": set(),
    "lt_train.global_batch": set(),
    "lt_train.processes": {"lt_train.launch"},
    "lt_train.memory": {"lt_train.recipe"},
    "lt_train.classifiers": set(),
    "lt_train.options": set(),
    "lt_train.heads": {"lt_train.global_batch", "lt_train.options"},
    "lt_train.calibration": {"lt_train.heads", "lt_train.options", "lt_train.classifiers"},
    "lt_train.data": {"lt_train.launch", "lt_train.options", "lt_train.randomness"},
    "lt_train.augment": {"lt_train.data", "lt_train.options", "lt_train.randomness"},
    "lt_train.recipe": {
        *("lt_train.options", "lt_train.heads", "lt_train.calibration", "lt_train.data", "lt_train.detectors"),
        "lt_train.augment",
    },
    "lt_train.detectors": {
        *("lt_train.heads", "lt_train.calibration", "lt_train.classifiers", "lt_train.data", "lt_train.randomness"),
        *("lt_train.global_batch", "lt_train.options"),
    },
    "lt_train.evaluation": set(),
    "lt_train.report": {"lt_train.evaluation", "lt_train.recipe"},
    "lt_train.runs": {
        *("lt_train.recipe", "lt_train.heads", "lt_train.calibration", "lt_train.data", "lt_train.detectors"),
        *("lt_train.evaluation", "lt_train.randomness", "lt_train.augment"),
    },
    "lt_train.inference": {
        *("lt_train.recipe", "lt_train.data", "lt_train.detectors", "lt_train.evaluation", "lt_train.processes"),
        *("lt_train.report", "lt_train.runs", "lt_train.memory"),
    },
    "lt_train.sizing": {
        *("lt_train.recipe", "lt_train.data", "lt_train.detectors", "lt_train.runs"),
        *("lt_train.memory", "lt_train.processes", "lt_train.randomness"),
    },
    "lt_train.features": {
        *("lt_train.recipe", "lt_train.data", "lt_train.detectors", "lt_train.evaluation", "lt_train.processes"),
        *("lt_train.runs", "lt_train.inference", "lt_train.memory", "lt_train.randomness"),
    },
    "lt_train.engine": {
        *("lt_train.recipe", "lt_train.heads", "lt_train.calibration", "lt_train.data", "lt_train.detectors"),
        *("lt_train.evaluation", "lt_train.processes", "lt_train.randomness", "lt_train.report", "lt_train.runs"),
        *("lt_train.inference", "lt_train.memory", "lt_train.launch", "lt_train.global_batch", "lt_train.features"),
        "lt_train.sizing",
    },
    "lt_train.studies": {
        "lt_train.launch",
        *("lt_train.recipe", "lt_train.evaluation", "lt_train.report", "lt_train.runs", "lt_train.options"),
    },
    "lt_train.trials": {
        *("lt_train.recipe", "lt_train.calibration", "lt_train.data", "lt_train.detectors", "lt_train.engine"),
        *("lt_train.launch", "lt_train.memory", "lt_train.runs", "lt_train.evaluation"),
        *("lt_train.heads", "lt_train.randomness", "lt_train.processes", "lt_train.sizing"),
    },
    "lt_train.drafting": {
        *("lt_train.recipe", "lt_train.data", "lt_train.detectors", "lt_train.runs", "lt_train.sizing"),
    },
    "lt_train.quickstart": {
        *("lt_train.launch", "lt_train.engine", "lt_train.recipe", "lt_train.report", "lt_train.runs"),
    },
}
MOST_MODULES = 15


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def nodes(path):
    """Every node of a file's code."""
    return [*ast.walk(ast.parse(path.read_text(encoding="utf-8")))]


def imports(path):
    package = module_name(path) if path.stem == "__init__" else module_name(path).rpartition(".")[0]
    for node in nodes(path):
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


@cache
def graph():
    """Modules and those that they import when they run; a module of a package is named before the package."""
    modules = {module_name(path): path for path in FILES}
    found = {}
    for name, path in modules.items():
        typing = [
            part
            for node in nodes(path)
            if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
            for part in node.body
        ]
        found_here = [n for n in nodes(path) if isinstance(n, ast.ImportFrom) and n.module and not n.level]
        pairs = [(n.module, f"{n.module}.{a.name}") for n in found_here if n not in typing for a in n.names]
        named = {whole if whole in modules else module for module, whole in pairs}
        found[name] = (named & set(modules)) - {name}
    return found


def folder_of(name):
    """The folder that a module lies in; modules beside the rooms stand for themselves."""
    folder = name if f"{name.replace('.', '/')}/__init__.py" in PACKAGE_FILES else name.rpartition(".")[0]
    return name if folder in PACKAGES else folder


PACKAGE_FILES = {str(path.relative_to(ROOT)) for path in FILES if path.stem == "__init__"}


def circle(edges):
    """Names on a circle, if there is one."""
    left = {name: set(others) - {name} for name, others in edges.items()}
    while free := {name for name, others in left.items() if not others & set(left)}:
        left = {name: others for name, others in left.items() if name not in free}
    return sorted(left)


def test_a_circle_is_found():
    assert circle({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["a", "b", "c"]


def test_modules_import_in_no_circle():
    edges = graph()
    assert len(edges) > 150
    assert circle(edges) == []


def test_folders_import_in_no_circle():
    edges = {}
    for name, others in graph().items():
        edges.setdefault(folder_of(name), set()).update(folder_of(other) for other in others)
    # a package's own names, as a user imports them, are no room
    assert circle({name: others - set(PACKAGES) for name, others in edges.items() if name not in PACKAGES}) == []


def test_no_folder_has_too_many_modules():
    sizes = Counter(path.parent for path in FILES if path.stem != "__init__")
    assert {str(folder): size for folder, size in sizes.items() if size > MOST_MODULES} == {}


def test_imports_are_absolute():
    """But for those of the commands, whose package has two names."""
    for path in FILES:
        if path.relative_to(ROOT).parts[0] != "cli":
            assert not [n.module for n in nodes(path) if isinstance(n, ast.ImportFrom) and n.level], path


def test_tests_have_the_rooms_of_what_they_test():
    rooms = {folder.relative_to(ROOT) for name in ("lt_data", "lt_train") for folder in (ROOT / name).rglob("*")}
    for folder in {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")}:
        assert folder in rooms or str(folder) in (".", "benchmarks", "e2e", "lt_data", "lt_train", "parity"), folder


def test_no_test_is_passed_over():
    """pytest leaves out folders by their names."""
    code = "import pytest, sys; sys.exit(pytest.main(['--co', '-qq', 'tests/lt_data/build', '-p', 'no:cacheprovider']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert "test_coco_lt.py" in done.stdout


def test_packages_are_the_folders():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {name.removesuffix("/__init__.py").replace("/", ".") for name in PACKAGE_FILES}
    assert listed == sorted(listed)
    assert set(listed) == {"lt_cli", *folders} - {"cli"}


@pytest.mark.parametrize(
    ("code", "forbidden"),
    [
        ("import lt_data", {"numpy", "pandas", "torch", "matplotlib"}),
        ("import lt_data.build.coco_lt, lt_data.counts.group_stats", {"pandas", "torch", "matplotlib"}),
        ("from lt_cli.data import main; main(['--help'], standalone_mode=False)", {"numpy", "torch", "matplotlib"}),
        ("from lt_cli.train import main; main(['methods'], standalone_mode=False)", {"numpy", "torch", "matplotlib"}),
        ("from lt_cli.train import main; main(['fit', '--help'], standalone_mode=False)", {"torch", "matplotlib"}),
        ("import lt_train.recipe.load", {"torch", "matplotlib"}),
        ("import lt_train.evaluation", {"torch", "matplotlib"}),
        ("import lt_train.evaluation.measure", {"torch", "matplotlib", "pydantic", "yaml"}),
        ("import lt_train.evaluation.comparison.compare", {"torch", "matplotlib", "pydantic", "yaml"}),
    ],
)
def test_nothing_heavy_is_imported_before_it_is_needed(code, forbidden):
    check = f"import sys\n{code}\nprint(','.join(sorted(set(m.split('.')[0] for m in sys.modules))))"
    run = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not forbidden & set(run.stdout.strip().splitlines()[-1].split(","))


def functions():
    for path in FILES:
        for node in nodes(path):
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
