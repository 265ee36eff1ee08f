"""The rows of the paper as runs: all of them, in dependency order, with what was published."""

import pytest

from lt_data.errors import DataError, RecipeError
from lt_train.recipe.methods import METHODS
from lt_train.studies.paper import RECIPES, choose_rows, detector_recipe, detector_rows, paper_rows
from lt_train.studies.plan import format_plan, wall_seconds
from lt_train.studies.reproduce import check_files, paper_study
from lt_train.studies.steps import Step

DATASETS = ("coco-lt", "lvis-v0.5", "lvis-v1")


@pytest.mark.parametrize("variant", ["equal", "code", "text"])
@pytest.mark.parametrize("dataset", DATASETS)
def test_every_row_is_a_recipe_and_comes_after_what_it_starts_from(dataset, variant, tmp_path):
    rows = paper_rows(dataset, variant)
    names = [row.entry.name for row in rows]
    assert len(names) == len(set(names))
    assert {row.number for row in rows} >= set(range(1, 15))
    study = paper_study(dataset, rows, tmp_path)
    there = set()
    for step in study.steps:
        assert {*step.needs, *step.gathers} <= there, step.name
        there.add(step.name)
        assert step.words[0] in ("lt-train", "lt-data")
    assert {cell.name for cell in study.cells} == set(names)


def test_published_figures_stand_beside_the_rows_that_they_are_of():
    rows = {row.entry.name: row for row in paper_rows("lvis-v0.5")}
    printed = {name: {p.iou_type: p.printed["AP"] for p in row.published} for name, row in rows.items()}
    assert printed["softmax"] == {"bbox": "20.98"}
    assert printed["bags"] == {"bbox": "25.96"}
    assert printed["bags-tune-all"] == {"bbox": "24.02"}
    assert printed["balanced-focal-0.999-no-caps"] == {"bbox": "14.57"}
    assert printed["balanced-softmax-0.9"] == {}
    assert printed["mask-equalization"] == {"segm": "23.90"}
    assert printed["mask-simcal"] == {"bbox": "22.6", "segm": "23.4"}
    coco = {row.entry.name: row for row in paper_rows("coco-lt")}
    assert {p.iou_type: p.printed["AP1"] for p in coco["mask-bags"].published} == {"bbox": "13.4", "segm": "3.4"}
    # the supplement starts the baselines of COCO-LT from those of LVIS
    assert coco["softmax"].entry.start == "lvis-softmax"
    # so what is compared with it does
    assert coco["rfs"].entry.start == "lvis-softmax"
    assert all(row.entry.start for name, row in coco.items() if not name.startswith("lvis-"))
    assert coco["mask-softmax"].entry.start == "lvis-mask-softmax"
    assert (coco["softmax"].number, coco["bags"].number) == (1, 14)
    later = {row.entry.name: row for row in paper_rows("lvis-v1")}
    assert later["crt"].published[0].printed["AP"] == "22.1"


def test_rows_are_chosen_by_number_table_and_name_with_what_they_start_from():
    rows = paper_rows("lvis-v0.5")
    assert [row.entry.name for row in choose_rows(rows, ["14", "bags-tune-all"])] == [
        *("softmax", "bags", "bags-train-cls", "bags-tune-all"),
    ]
    assert {row.table for row in choose_rows(rows, ["section-3"])} == {"section-3"}
    with pytest.raises(RecipeError) as caught:
        choose_rows(rows, ["15", "1", "nothing"])
    assert [problem.split(";")[0] for problem in caught.value.problems] == ["--rows: got '15'", "--rows: got 'nothing'"]


def test_a_pass_with_steps_of_its_own_is_not_one_over_the_data(tmp_path):
    """SimCal's code: 120 passes of 1,000 steps of 16 images."""
    chosen = choose_rows(paper_rows("lvis-v0.5", "code"), ["mask-simcal"])
    (step,) = (step for step in paper_study("lvis-v0.5", chosen, tmp_path).steps if step.name == "seed-0/mask-simcal")
    assert step.cost.images[0] == ("train", 120 * 1000 * 16)


def rows_of(*asked):
    return choose_rows(paper_rows("lvis-v0.5"), asked)


def test_what_trains_a_classifier_is_trained_from_features(tmp_path):
    study = paper_study("lvis-v0.5", choose_rows(paper_rows("lvis-v0.5"), ["main", "table-1"]), tmp_path)
    words = {step.name: step.words for step in study.steps}
    from_features = {name.removeprefix("seed-0/") for name, of in words.items() if "--from-features" in of}
    kinds = {
        name for name, m in METHODS.items() if m.row and (m.kind == "post-hoc" or m.equal["train"] == "classifier")
    }
    assert from_features == (kinds - {"ncm-conv"}) | {"bags-train-cls"}
    several = paper_study("lvis-v0.5", rows_of("14"), tmp_path, overrides=["model.min_size=[640,800]"])
    assert not any("--from-features" in step.words for step in several.steps)
    sizes = {}
    for detector in ("faster_rcnn_r50_fpn", "cascade_rcnn_r50_fpn"):
        cascade = paper_study("lvis-v0.5", rows_of("14"), tmp_path, overrides=[f"model.name={detector}"])
        assert any("--from-features" in step.words for step in cascade.steps)
        sizes[detector] = next(step.cost.size for step in cascade.steps if step.name == "seed-0/features/train")
    assert sizes["cascade_rcnn_r50_fpn"] == pytest.approx(3 * sizes["faster_rcnn_r50_fpn"], rel=0.02)
    # as released nothing is frozen there
    of_code = paper_study("lvis-v0.5", choose_rows(paper_rows("lvis-v0.5", "code"), ["bags-train-cls"]), tmp_path)
    assert not any("--from-features" in step.words for step in of_code.steps)


def test_masks_of_all_that_starts_from_the_same_features_are_one_step(tmp_path):
    study = paper_study("lvis-v1", choose_rows(paper_rows("lvis-v1"), ["main"]), tmp_path, seeds=2)
    first, second = (step for step in study.steps if step.gathers)
    from_features = [step.name for step in study.steps if "--from-features" in step.words and not step.gathers]
    assert [*first.gathers, *second.gathers] == from_features
    assert first.words == (
        *("lt-train", "eval", *(str(tmp_path / name) for name in first.gathers)),
        *("--from-features", str(tmp_path / "seed-0" / "features"), "--missing"),
    )
    assert first.needs == ("seed-0/features/val",)
    # one pass of the trunk for all of them
    images = 19_809
    assert first.cost.images == (("evaluate from features", len(first.gathers) * images), ("evaluate", images))
    # with other rows it is another step, so that a study may have more of them later
    fewer = paper_study("lvis-v1", choose_rows(paper_rows("lvis-v1"), ["14"]), tmp_path)
    assert not {step.name for step in fewer.steps if step.gathers} & {first.name, second.name}


def test_a_plan_has_commands_hours_and_bytes_and_says_that_they_are_estimated(tmp_path):
    rows = choose_rows(paper_rows("lvis-v0.5"), ["1", "14"])
    study = paper_study("lvis-v0.5", rows, tmp_path)
    lines = format_plan(study).splitlines()
    # 12 epochs of 56,740 images at 0.1 s, 5,000 validation images at 0.06 s
    assert lines[0] == "seed-0/softmax: 19.0 h (estimated), 1.4 GB"
    assert lines[1].startswith("  lt-train fit faster_rcnn_r50_fpn_lvis_v0.5 method=softmax seed=0 --out ")
    assert lines[2] == "seed-0/features/train: 114 min (estimated), 245.2 GB"
    assert lines[-1].startswith("to do: 21.4 h of one GPU (an estimate, until a step of each kind is finished here), ")


def test_steps_at_once_wait_for_what_they_need(tmp_path):
    study = paper_study("lvis-v0.5", choose_rows(paper_rows("lvis-v0.5"), ["1", "14"]), tmp_path)
    # the features of both sides are made at once; all else waits for the step before it
    assert ", 21.3 h with 8 steps at once, " in format_plan(study, jobs=8)
    alone = paper_study("lvis-v0.5", choose_rows(paper_rows("lvis-v0.5"), ["1"]), tmp_path)
    assert "to do: 19.0 h of one GPU" in format_plan(alone, jobs=8)
    assert ", 19.0 h with 8 steps at once, " in format_plan(alone, jobs=8)
    # five hours each of three that need nothing, on two places
    steps = [Step(name, ("lt-train",), tmp_path / name) for name in "abc"]
    assert wall_seconds(steps, dict.fromkeys("abc", 5.0), 2) == 10
    assert wall_seconds(steps, {"a": 5.0}, 2) == 5


def test_missing_files_are_a_line_each(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = choose_rows(paper_rows("coco-lt"), ["4"])
    study = paper_study("coco-lt", rows, tmp_path)
    assert study.steps[0].words[:2] == ("lt-data", "build-coco-lt")
    with pytest.raises(Exception) as caught:
        check_files(RECIPES["coco-lt"], rows, study, ())
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        # of the baseline that it starts from, then its own
        *("data/lvis/lvis_v0.5_train.json", "data/coco", "data/lvis/lvis_v0.5_val.json"),
        *("data/coco/train2017", "data/coco/annotations/instances_val2017.json", "data/coco/val2017"),
        "data/coco/annotations/instances_train2017.json",
    ]
    for name in ("data/coco/train2017", "data/coco/annotations", "data/coco/val2017", "data/lvis"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("train", "val"):
        (tmp_path / f"data/coco/annotations/instances_{name}2017.json").touch()
        (tmp_path / f"data/lvis/lvis_v0.5_{name}.json").touch()
    check_files(RECIPES["coco-lt"], rows, study, ())


@pytest.mark.parametrize(
    ("detector", "softmax", "bags"),
    [
        ("htc_x101_64x4d_fpn", {"bbox": "31.28", "segm": "29.28"}, {"bbox": "33.68", "segm": "31.20"}),
        ("cascade_rcnn_x101_64x4d_fpn", {"bbox": "27.16"}, {"bbox": "32.77"}),
    ],
)
def test_another_detector_has_the_methods_of_the_comparison(detector, softmax, bags, tmp_path):
    rows, recipe = detector_rows(detector, "lvis-v0.5"), detector_recipe("lvis-v0.5", detector)
    found = {row.entry.name: {p.iou_type: p.printed["AP"] for p in row.published} for row in rows}
    assert {row.number for row in rows} == set(range(1, 15))
    assert {name: figures for name, figures in found.items() if figures} == {"softmax": softmax, "bags": bags}
    study = paper_study("lvis-v0.5", rows, tmp_path, recipe=recipe)
    assert {cell.recipe for cell in study.cells} == {f"{detector}_lvis_v0.5"}
    assert all(f"{detector}_lvis_v0.5" in step.words for step in study.steps if step.words[1] == "fit")
    # every file that the recipe names is asked for
    with pytest.raises(DataError) as caught:
        check_files(recipe, rows, study, ())
    assert any("stuff" in problem for problem in caught.value.problems) == detector.startswith("htc")


def test_a_detector_without_a_recipe_is_a_line():
    with pytest.raises(RecipeError, match="--detector: got 'htc'; with a recipe on lvis-v1 are cascade_mask_rcnn_r50"):
        detector_recipe("lvis-v1", "htc")
