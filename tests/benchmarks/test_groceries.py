"""``benchmarks/groceries.py``: on a tree of a few drawn images, and the counts of the real one where it is."""

import contextlib
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image, ImageDraw

from lt_data import DataError, read_annotations
from lt_train.recipe.methods import METHODS
from lt_train.studies.table import spreads
from tests.lt_train.commands import Ended, in_this_process
from tests.lt_train.pictures import leave_out_evaluations, leave_out_pictures

pytestmark = pytest.mark.usefixtures("narrow_detectors")

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "benchmarks" / "groceries.py"
TINY = (
    *("model.name=faster_rcnn_small", "model.weights=none", "model.min_size=[64]", "model.max_size=64"),
    *("model.num_detections=20", "schedule.decay=[]", "schedule.warmup=0"),
    *("model.pre_nms_topk=200", "optim.batch=1", "optim.base_batch=1", "trackers=[]"),
)
METHODS_PAGE = ROOT / "docs" / "methods.md"
COLOURS = {"ham": "red", "tea": "blue", "jam": "lime"}


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """Ninety images of one box each, laid out as the clone; a third of them of each class."""
    folder = tmp_path_factory.mktemp("clone")
    for number in range(90):
        name = list(COLOURS)[number % 3]
        for part in ("images", "annotations"):
            (folder / "dataset" / part / name).mkdir(parents=True, exist_ok=True)
        left = 4 + number % 20
        image = Image.new("RGB", (64, 64), "gray")
        ImageDraw.Draw(image).rectangle((left, 10, left + 30, 40), COLOURS[name])
        image.save(folder / "dataset" / "images" / name / f"{number}.png")
        corners = {"xmin": left, "ymin": 10, "xmax": left + 31, "ymax": 41}
        box = "".join(f"<{key}>{value}</{key}>" for key, value in corners.items())
        (folder / "dataset" / "annotations" / name / f"{number}.xml").write_text(
            f"<annotation><size><width>64</width><height>64</height></size><object><name>{name}</name>"
            f"<difficult>0</difficult><bndbox>{box}</bndbox></object></annotation>"
        )
    return folder


def options(clone, out, *words):
    return [str(word) for word in ("--data", clone, "--out", out, "--other-data", *TINY, *words)]


def script(clone, out, *words):
    """In this process; the runs that it starts have their own, unless ``in_process`` was called."""
    from groceries import main

    with contextlib.chdir(out.parent):
        done = CliRunner().invoke(main, options(clone, out, *words))
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def rows(out):
    with (out / "figures.csv").open(newline="") as handle:
        return list(csv.DictReader(handle))


def in_process(patch):
    """Runs are commands in this process from now on: each one that starts imports PyTorch."""
    import groceries

    leave_out_pictures(patch)
    leave_out_evaluations(patch)
    patch.setattr(groceries, "own_commands", lambda jobs: in_this_process)


@pytest.fixture(scope="module")
def finished(clone, tmp_path_factory):
    out = tmp_path_factory.mktemp("groceries") / "out"
    with pytest.MonkeyPatch.context() as patch:
        in_process(patch)
        done = script(clone, out, "schedule.iterations=2", "--methods", "bags,tau-norm", "--seeds", 1)
    assert done.exit_code == 0, done.stderr
    return out, done


def test_one_command_gives_data_runs_table_and_pictures(finished, clone):
    out, done = finished
    found = rows(out)
    assert [(row["run"], row["seed"]) for row in found] == [("softmax", "0"), ("bags", "0"), ("tau-norm", "0")]
    assert [row["how"] for row in found] == [
        "method=softmax",
        "method=bags from softmax",
        "method=tau-norm from softmax",
    ]
    metrics = json.loads((out / "seed-0" / "bags" / "eval" / "metrics.json").read_text())
    assert found[1]["AP"] == f"{100 * metrics['bbox']['AP']:.2f}"
    assert "| run | AP | AP50 | " in done.stdout
    assert (out / "methods.png").exists()
    assert (out / "table.md").read_text().strip() in done.stdout
    for picture in ("group_ap.png", "predictions.png"):
        with Image.open(out / picture) as image:
            assert min(image.size) > 100
    assert {path.name for path in clone.iterdir()} == {"dataset"}


def test_a_row_that_starts_from_no_run_stands_alone(clone, tmp_path, monkeypatch):
    in_process(monkeypatch)
    done = script(clone, tmp_path / "out", "schedule.iterations=2", "--methods", "rfs", "--seeds", 1)
    assert done.exit_code == 0, done.stderr
    assert [row["how"] for row in rows(tmp_path / "out")] == ["method=rfs sampler.threshold=0.05"]
    for picture in ("group_ap.png", "predictions.png"):
        assert (tmp_path / "out" / picture).exists()


def test_validation_and_pool_share_no_image_and_leave_none_out(finished):
    data = finished[0] / "data"
    val, pool, train = (
        set(read_annotations(data / name).file_names)
        for name in ("val.json", "pool.json", "groceries_lt/annotations.json")
    )
    assert not val & pool
    assert len(val | pool) == 90
    assert train < pool


def test_what_is_finished_is_left_alone(finished, clone):
    out, _ = finished
    before = {path: path.stat().st_mtime_ns for path in (out / "seed-0").rglob("*") if path.is_file()}
    done = script(clone, out, "schedule.iterations=2", "--methods", "bags", "--seeds", 1)
    assert done.exit_code == 0, done.stderr
    assert (out / "table.md").read_text().strip() in done.stdout
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_other_settings_are_not_mixed_in(finished, clone):
    done = script(clone, finished[0], "schedule.iterations=3", "--methods", "softmax", "--seeds", 1)
    assert done.exit_code == 1
    assert "holds seed-0/softmax of another command (it had schedule.iterations=2, " in done.stderr


def test_a_run_that_fails_is_named_and_what_starts_from_it_is_not_begun(clone, tmp_path, monkeypatch):
    import groceries

    def start(words, log, place):
        log.write_text("error: no room\n")
        return Ended(1)

    monkeypatch.setattr(groceries, "own_commands", lambda jobs: start)
    done = script(clone, tmp_path / "out", "schedule.iterations=2", "--methods", "bags", "--seeds", 1)
    assert done.exit_code == 1
    lines = done.stderr.splitlines()
    assert "seed-0/softmax: error: no room (exit code 1; all it printed: " in lines[-4]
    assert lines[-1] == "seed-0/bags: not begun: seed-0/softmax failed"
    assert "no run is finished yet" in done.stdout


def test_a_key_that_is_wrong_is_a_line_before_anything_is_trained(clone, tmp_path):
    done = script(clone, tmp_path / "out", "optim.lr=-1", "--methods", "bags", "--seeds", 1)
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1].startswith("Error: faster_rcnn_lite0_groceries_lt: optim.lr: ")
    assert not (tmp_path / "out" / "seed-0").exists()


@pytest.mark.slow
def test_a_run_that_is_stopped_goes_on_where_it_was(clone, tmp_path):
    out = tmp_path / "out"
    words = ("schedule.iterations=40", "log_every=1", "--methods", "softmax", "--seeds", 1)
    process = subprocess.Popen(
        [sys.executable, SCRIPT, *options(clone, out, *words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    lines = out / "seed-0" / "softmax" / "metrics.jsonl"
    while not (lines.exists() and lines.read_text().count("\n") > 2):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    printed, told = process.communicate()
    assert process.returncode == 0
    assert b"no run is finished yet" in printed
    assert told.decode().splitlines()[-1] == "ended before everything was done; the same command goes on"
    done_before = lines.read_text().splitlines()
    assert 2 < len(done_before) < 40
    spent = json.loads((out / "steps.json").read_text())["steps"]["seed-0/softmax"]
    assert not spent["finished"]

    done = script(clone, out, *words)
    assert done.exit_code == 0, done.stderr
    steps = lines.read_text().splitlines()
    assert len([line for line in steps if '"loss"' in line]) == 40
    assert steps[: len(done_before)] == done_before
    assert float(rows(out)[0]["seconds"]) >= round(spent["seconds"])
    assert float(rows(out)[0]["processor_seconds"]) > 0


def test_no_time_is_no_run(clone, tmp_path):
    done = script(clone, tmp_path / "out", "--minutes", 0, "--methods", "softmax")
    assert done.exit_code == 0
    assert not (tmp_path / "out" / "seed-0").exists()
    assert "the same command goes on" in done.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--methods", "bags,none"), "no such row: none; there are softmax, bags, "),
        (("--record",), "--record is for the recipe and the data that figures are recorded for"),
    ],
)
def test_mistakes(clone, tmp_path, words, says):
    done = script(clone, tmp_path / "out", *words)
    assert done.exit_code == 2
    assert says in done.stderr
    assert not (tmp_path / "out").exists()


def test_what_is_no_clone_or_another_one(clone, tmp_path):
    from lt_train.studies.groceries import prepare

    with pytest.raises(DataError, match="no dataset/annotations and dataset/images in it; git clone"):
        prepare(tmp_path, tmp_path / "data")
    with pytest.raises(DataError, match="validation images .* instead of 978"):
        prepare(clone, tmp_path / "data")


def test_every_method_has_a_row_and_comes_after_what_it_starts_from():
    from lt_train.studies.groceries import entries as plan

    names = [entry.name for entry in plan()]
    assert names[:2] == ["softmax", "bags"]
    assert set(METHODS) <= set(names)
    assert len(names) == len(set(names))
    starts = {entry.name: entry.start for entry in plan()}
    alone = {name for name, start in starts.items() if not start}
    assert alone == {name for name, method in METHODS.items() if not method.starts_from_run}
    assert {"softmax", "rfs", "class-aware"} < alone
    assert starts["bags-tune-all"] == "bags-train-cls"
    assert all(names.index(start) < names.index(name) for name, start in starts.items() if start)


def test_every_row_is_a_recipe():
    from lt_train.recipe.load import load_recipe
    from lt_train.studies.groceries import RECIPE
    from lt_train.studies.groceries import entries as plan

    recipes = {row.name: load_recipe(RECIPE, [f"method={row.method}", *row.overrides]) for row in plan()}
    assert recipes["bags-2-groups"].head.edges == (30,)
    assert len(recipes["bags-8-groups"].head.edges) == 7
    assert recipes["bags-all-others"].head.others_ratio == float("inf")
    assert recipes["bags-train-cls"].head.others_ratio == 1
    # one budget, but for the three that their source trains for ten epochs
    budgets = {name: recipe.schedule.epochs for name, recipe in recipes.items() if recipe.train != "none"}
    own = {"finetune-tail", "bags-tune-head", "bags-tune-all"}
    assert {epochs for name, epochs in budgets.items() if name not in own} == {recipes["softmax"].schedule.epochs}


GROUPS = {"(0, 10)": 2, "[10, 30)": 6, "[30, 100)": 6, "[100, ~)": 11}


def recorded_rows():
    import groceries

    return groceries.read_figures(groceries.RESULTS)


def test_the_docs_show_the_recorded_figures():
    import groceries

    shown = groceries.DOCS.read_text().split(groceries.BEGIN)[1].split(groceries.END)[0]
    assert shown.strip() == groceries.text_of(recorded_rows(), GROUPS)


def test_the_readme_shows_the_recorded_figures():
    columns = ["AP", *GROUPS]
    found = spreads(recorded_rows(), columns)
    lines = (ROOT / "README.md").read_text().split("| box AP |")[1].split("\n\n")[0].splitlines()[2:]
    assert len(lines) > 5
    for line in lines:
        run, *cells = (cell.strip(" `") for cell in line.strip("|").split("|"))
        figures = [found[run][name] for name in columns]
        ranges = [f" ({spread.low:.1f}..{spread.high:.1f})" if spread.count > 1 else "" for spread in figures]
        assert cells == [f"{s.mean:.1f}{told}" for s, told in zip(figures, ranges, strict=True)], run


def test_the_docs_name_the_start_that_is_not_in_the_table():
    import groceries

    (row,) = groceries.read_figures(groceries.STARTS)
    overall, *groups = (f"{float(row[name]):.1f}" for name in ("AP", *GROUPS))
    assert f"has AP {overall} ({' / '.join(groups)}; " in METHODS_PAGE.read_text()
    assert f"whose `softmax` has {overall})" in (ROOT / "README.md").read_text()


def test_a_start_that_was_not_asked_for_is_kept_apart(tmp_path, monkeypatch):
    import groceries

    before = recorded_rows()
    recorded = tmp_path / "groceries.csv"
    recorded.write_bytes(groceries.RESULTS.read_bytes())
    for name, path in (("RESULTS", recorded), ("STARTS", tmp_path / "starts.csv")):
        monkeypatch.setattr(groceries, name, path)
    monkeypatch.setattr(groceries, "record_figures", lambda *_, **__: None)
    study = [row for row in before if row["run"] in ("softmax", "bags") and row["seed"] == "0"]
    assert groceries.record_asked(study, ["bags"], GROUPS, first="softmax") == []
    assert not groceries.STARTS.exists()
    other = {**study[0], "AP": "1.00"}
    (line,) = groceries.record_asked([other, study[1]], ["bags"], GROUPS, first="softmax")
    assert line.startswith("bags, seed 0: ")
    assert groceries.read_figures(groceries.STARTS) == [other]


def test_recording_keeps_the_figures_of_other_runs_and_seeds(tmp_path, monkeypatch):
    import groceries

    for name in ("RESULTS", "DOCS", "FIGURE", "ALL_METHODS"):
        path = getattr(groceries, name)
        shutil.copy(path, tmp_path / path.name)
        monkeypatch.setattr(groceries, name, tmp_path / path.name)
    drawn = []
    for name in ("draw_groups", "draw_methods"):
        monkeypatch.setattr(groceries, name, lambda path, rows, *_, **__: drawn.append((path.name, len(rows))))
    before = recorded_rows()
    known = next(row for row in before if row["run"] == "bags" and row["seed"] == "1")
    groceries.record_figures([{**known, "AP": "99.00"}, {**known, "seed": "7"}], GROUPS, first="softmax")

    after = recorded_rows()
    assert [row for row in after if row["seed"] == "7"] == [{**known, "seed": "7"}]
    assert [row for row in after if row["AP"] == "99.00"] == [{**known, "AP": "99.00"}]
    assert [row for row in after if row["seed"] != "7" and row["AP"] != "99.00"] == [r for r in before if r != known]
    assert drawn == [("groceries_group_ap.png", len(after)), ("groceries_methods.png", len(after))]
    assert groceries.text_of(after, GROUPS) in groceries.DOCS.read_text()
    # nothing but what stands between the marks
    around = [text.split(groceries.BEGIN)[0] for text in (groceries.DOCS.read_text(), METHODS_PAGE.read_text())]
    assert around[0] == around[1]

    groceries.record_figures([known], GROUPS, first="softmax")
    assert len(recorded_rows()) == len(before) + 1


def test_a_row_that_started_from_other_figures_than_the_recorded_ones_is_named():
    import groceries

    rows = [row for row in recorded_rows() if row["run"] in ("softmax", "bags", "rfs") and row["seed"] == "0"]
    softmax = rows[0]
    other = {**softmax, "AP": "1.00"}
    assert softmax["run"] == "softmax"
    assert groceries.other_starts(rows, rows, rows, rows) == []
    # the study's own start stays out, and so does what nothing is known of
    assert groceries.other_starts(rows[1:], rows[1:], rows, rows) == []
    (line,) = groceries.other_starts(rows[1:], [other, *rows[1:]], rows, rows)
    assert line.startswith(f"bags, seed 0: starts from softmax with AP 1.00, the recorded one has {softmax['AP']}")
    # the start alone is recorded anew: what stays began from the older one
    (line,) = groceries.other_starts([other], [other], rows, [other, *rows[1:]])
    assert line.startswith(f"bags, seed 0: starts from softmax with AP {softmax['AP']}, the recorded one has 1.00")


def test_every_method_is_recorded():
    assert set(METHODS) <= {row["run"] for row in recorded_rows()}


def test_the_real_data(tmp_path):
    from lt_train.studies.groceries import EXPECTED, counts_of, prepare

    clone = os.environ.get("LT_GROCERIES")
    if not clone:
        pytest.skip("LT_GROCERIES names no clone of the real data")
    data = prepare(Path(clone), tmp_path)
    assert counts_of(data) == EXPECTED
    assert data.groups() == ["(0, 10)", "[10, 30)", "[30, 100)", "[100, ~)"]
