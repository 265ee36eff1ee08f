"""What the packages offer to others: a change of these names is a change for users."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import lt_data
import lt_train

ROOT = Path(__file__).resolve().parents[1]
SNAPSHOT = {
    lt_data: [
        "AnnotationFile",
        "BuildOptions",
        "CategoryCounts",
        "CheckReport",
        "DataError",
        "Extras",
        "FilterOptions",
        "FilterReport",
        "Group",
        "GroupStats",
        "ImportOptions",
        "LtError",
        "MendReport",
        "MergeReport",
        "OutputError",
        "RecipeError",
        "SplitOptions",
        "__version__",
        "build_coco_lt",
        "category_repeat_factors",
        "check_file",
        "class_weights",
        "count_categories",
        "diff_datasets",
        "embedded_reference",
        "filter_annotations",
        "group_stats",
        "image_repeat_factors",
        "import_annotations",
        "load_reference",
        "make_groups",
        "mend",
        "merge",
        "read_annotations",
        "read_groups",
        "repeat_factor_table",
        "split_annotations",
        "verify_directory",
        "write_pool",
        "write_subset",
    ],
    lt_train: [
        "Choices",
        "Comparison",
        "DETECTORS",
        "Detections",
        "Evaluation",
        "Files",
        "Found",
        "GroundTruth",
        "HEADS",
        "LongTailDetector",
        "METHODS",
        "Measured",
        "Method",
        "Recipe",
        "RunDir",
        "TrainedModel",
        "build_detector",
        "cache_run",
        "calibrate_run",
        "compare",
        "compare_evaluations",
        "evaluate",
        "evaluate_from_features",
        "evaluate_predictions",
        "evaluate_run",
        "fills",
        "fit",
        "load",
        "load_ground_truth",
        "load_recipe",
        "make_calibration",
        "make_head",
        "make_head_with_background_last",
        "make_recipe",
        "predict_images",
        "read_detections",
        "start_or_resume",
        "summarise",
    ],
}


@pytest.mark.parametrize("package", SNAPSHOT, ids=lambda p: p.__name__)
def test_public_names(package):
    assert sorted(package.__all__) == dir(package) == SNAPSHOT[package]


@pytest.mark.parametrize("package", SNAPSHOT, ids=lambda p: p.__name__)
def test_every_name_is_there_and_is_no_room(package):
    rooms = {path.parent.name for path in (ROOT / package.__name__).rglob("__init__.py")}
    for name in package.__all__:
        assert getattr(package, name) is not None
        assert name not in rooms
    with pytest.raises(AttributeError, match="has no attribute 'no_such_name'"):
        package.no_such_name  # noqa: B018


@pytest.mark.parametrize("package", SNAPSHOT, ids=lambda p: p.__name__)
def test_types_are_told_where_names_are(package):
    """The imports for type checkers are those that happen."""
    text = Path(package.__file__).read_text(encoding="utf-8")
    for name, home in package._HOMES.items():
        assert f"{name} as {name}" in text, name
        assert hasattr(importlib.import_module(home), name)


@pytest.mark.parametrize("name", ["lt_data", "lt_train"])
def test_importing_a_package_loads_nothing(name):
    code = f"import sys, {name}; print(sorted(m for m in sys.modules if m.startswith('lt_')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == str(sorted({name, "lt_data", "lt_data.lazy"}))
