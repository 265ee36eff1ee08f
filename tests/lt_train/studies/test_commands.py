"""``lt-train sweep`` and ``lt-train reproduce`` from their words to their tables, on a handful of images."""

import csv
import json

import pytest
from click.testing import CliRunner
from lt_cli.train import main as lt_train
from PIL import Image

from lt_data import read_annotations
from lt_data.counts.categories import count_categories
from lt_data.dataset.directory import read_groups
from lt_train.recipe.methods import METHODS
from lt_train.studies import commands
from lt_train.studies.demo import FULL, data_steps
from lt_train.studies.reproduce import demo_study
from lt_train.studies.steps import run_plan
from lt_train.studies.sweep import plan_sweep
from tests.lt_train.commands import Ended, in_this_process


@pytest.fixture
def in_process(monkeypatch):
    """Steps are commands of this process: each that starts one imports PyTorch. Gives the commands that were begun."""
    begun = []

    def start(words, log, place, **how):
        begun.append(words)
        return in_this_process(words, log, place, **how)

    monkeypatch.setattr(commands, "Command", start)
    return begun


def run(*words):
    return CliRunner().invoke(lt_train, [str(word) for word in words])


def rows(out):
    with (out / "figures.csv").open(newline="") as handle:
        return list(csv.DictReader(handle))


def test_a_sweep_gives_one_table_and_goes_on_with_what_is_new(softmax_run, in_process, tmp_path):
    out = tmp_path / "sweep"
    words = ("sweep", "--init-from", softmax_run.path, "--out", out, "--seeds", 2, "optim.lr=0.01")
    grid = ("--methods", "bags,tau-norm", "--grid", "head.others_ratio=1,8", "--grid", "calibration.tau=0.5,1")
    done = run(*words, *grid)
    assert done.exit_code == 0, done.output
    found = [(row["run"], row["seed"]) for row in rows(out)]
    assert found == [
        ("softmax", "0"),
        *(("bags-others_ratio=1", "0"), ("bags-others_ratio=8", "0")),
        *(("tau-norm-tau=0.5", "0"), ("tau-norm-tau=1", "0")),
        *(("bags-others_ratio=1", "1"), ("bags-others_ratio=8", "1")),
    ]
    by_run = {(row["run"], row["seed"]): row for row in rows(out)}
    metrics = json.loads((out / "seed-1" / "bags-others_ratio=8" / "eval" / "metrics.json").read_text())
    row = by_run["bags-others_ratio=8", "1"]
    assert row["AP50"] == f"{100 * metrics['bbox']['AP50']:.2f}"
    # features give boxes; the masks of every run are measured too
    assert row["segm AP"] == f"{100 * metrics['segm']['AP']:.2f}"
    assert row["how"] == "method=bags head.others_ratio=8 from softmax"
    # the run itself as its own evaluation has it
    own = json.loads((softmax_run.evaluation / "metrics.json").read_text())
    assert float(by_run["softmax", "0"]["AP50"]) == pytest.approx(100 * own["bbox"]["AP50"], abs=0.5)
    assert (out / "table.md").read_text().strip() in done.output
    assert "| seeds | within noise of |" in done.output
    with Image.open(out / "methods.png") as picture:
        assert min(picture.size) > 100
    caches = [words for words in in_process if words[1] == "cache"]
    assert len(caches) == 2
    trained = [words for words in in_process if words[1] in ("fit", "calibrate")]
    assert all("--from-features" in words for words in trained)
    assert all("optim.lr=0.01" in words for words in trained if words[1] == "fit")
    # in one pass over the images; that of the run that all start from is another
    baseline, masks = (words for words in in_process if words[1] == "eval")
    assert "--missing" not in baseline
    runs = [out / f"seed-{row['seed']}" / row["run"] for row in rows(out)[1:]]
    assert masks == ("lt-train", "eval", *map(str, runs), "--from-features", str(out / "features"), "--missing")
    # more of the same: only what is new is done
    in_process.clear()
    done = run(*words, "--methods", "bags,crt", "--grid", "head.others_ratio=8")
    assert done.exit_code == 0, done.output
    assert {words[words.index("--out") + 1] for words in in_process if words[1] == "fit"} == {
        *(str(out / f"seed-{seed}" / "crt") for seed in (0, 1)),
    }
    (masks,) = (words for words in in_process if words[1] == "eval")
    log = next(path for path in (out / "logs").glob("masks-*.log") if str(out / "seed-1" / "crt") in path.read_text())
    assert log.read_text().count("is measured already; left out") == 2
    assert all(row["segm AP"] for row in rows(out))


def test_a_cell_that_fails_does_not_stop_the_rest(softmax_run, in_process, tmp_path, monkeypatch):
    start = commands.Command

    def failing(words, log, place, **how):
        if "method=crt" in words:
            log.write_text("error: the disk is full\n")
            return Ended(1)
        return start(words, log, place, **how)

    monkeypatch.setattr(commands, "Command", failing)
    words = ("sweep", "--init-from", softmax_run.path, "--out", tmp_path / "out", "--seeds", 1)
    done = run(*words, "--methods", "crt,grw")
    assert done.exit_code == 1
    *_, crt, masks = done.stderr.splitlines()
    assert crt.startswith("error: seed-0/crt: error: the disk is full (exit code 1; ")
    assert masks.startswith("error: masks-")
    assert f": error: {tmp_path / 'out/seed-0/crt'}: not a run directory" in masks
    assert [row["run"] for row in rows(tmp_path / "out")] == ["softmax", "grw"]
    # masks of what did not fail are measured
    assert all(row["segm AP"] for row in rows(tmp_path / "out"))
    stopped = run(*words, "--methods", "crt", "--minutes", 0)
    assert stopped.exit_code == 75
    assert stopped.stderr.endswith("ended before everything was done; the same command goes on\n")
    monkeypatch.setattr(commands, "Command", start)
    done = run(*words, "--methods", "crt,grw")
    assert done.exit_code == 0, done.output
    assert [row["run"] for row in rows(tmp_path / "out") if row["segm AP"]] == ["softmax", "crt", "grw"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--methods", "bagz"), "error: --methods: got 'bagz'; close are bags"),
        (("--methods", "seesaw"), "error: --methods: seesaw trains the whole network and starts from no run; "),
        (("--methods", "bags", "--grid", "head.others_ratio"), "error: --grid: got 'head.others_ratio'; write KEY="),
        (("--methods", "bags", "--grid", "head.gamma=1,2"), "head.gamma"),
        (("--methods", "bags", "--grid", "head.others_ratio=1,x"), "head.others_ratio"),
        (("--methods", ","), "error: --methods: names none; give classifier-only, post-hoc, or names"),
    ],
)
def test_mistakes_in_a_sweep_are_lines(softmax_run, tmp_path, words, says):
    done = run("sweep", "--init-from", softmax_run.path, "--out", tmp_path / "out", *words)
    assert done.exit_code == 1
    assert says in done.stderr
    assert "Traceback" not in done.output
    assert not (tmp_path / "out").exists()


def test_words_for_many_methods(softmax_run, tmp_path):
    def named(*words):
        return [cell.name for cell in plan_sweep(softmax_run.path, tmp_path / "out", words, seeds=1).cells][1:]

    kinds = {name: method.kind for name, method in METHODS.items()}
    trained, fitted = named("classifier-only"), named("post-hoc")
    assert {"bags", "reweight-cls", "focal-cls", "crt", "lws", "grw", "acsl", "loce"} <= set(trained)
    assert {kinds[name] for name in trained} == {"classifier only"}
    assert sorted(fitted) == sorted(name for name, kind in kinds.items() if kind == "post-hoc")
    assert named("classifier-only", "post-hoc", "bags") == trained + fitted


def test_a_pool_that_changes_nothing_is_refused(softmax_run, tmp_path):
    out = ("--out", tmp_path / "out", "--pool", 512)
    sweep = ("sweep", "--init-from", softmax_run.path, "--methods", "bags", "--exact")
    for words in (("cache", softmax_run.path, "--exact"), ("cache", softmax_run.path, "--for", "val"), sweep):
        done = run(*words, *out)
        assert done.exit_code == 2
        assert "Error: --pool: " in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_sweep_starts_from_a_run(tmp_path):
    done = run("sweep", "--init-from", tmp_path, "--out", tmp_path / "out", "--methods", "bags")
    assert done.exit_code == 1
    assert done.stderr.startswith(f"error: {tmp_path}: not a trained run (no recipe.yaml and checkpoints/last.pt); ")


def test_the_demo_draws_its_data_and_trains_what_is_asked_for(in_process, tmp_path):
    out = tmp_path / "demo"
    words = ("reproduce", "demo", "--tiny", "--out", out, "--methods", "bags,logit-adjustment")
    plan = run(*words, "--plan")
    assert plan.exit_code == 0, plan.output
    assert not out.exists()
    assert in_process == []
    done = run(*words, "optim.lr=0.001")
    assert done.exit_code == 0, done.output
    assert {row["run"] for row in rows(out)} == {"softmax", "bags", "logit-adjustment"}
    assert [words[:2] for words in in_process[:3]] == [
        *(("lt-data", "demo-pool"), ("lt-data", "demo-pool"), ("lt-data", "build-coco-lt")),
    ]
    known = json.loads((out / "steps.json").read_text())["steps"]
    assert all(step["finished"] for step in known.values())
    # what it prints is what it does: the plan has every command
    for words in in_process:
        assert f"{words[0]} {words[1]}" in plan.stdout


def test_the_whole_demo_has_every_method(tmp_path):
    study = demo_study(tmp_path)
    assert {cell.name for cell in study.cells} == set(METHODS)
    before = {"pool", "val", "data"}
    assert all(before <= {*study.steps[i].needs} for i in range(3, 5) if study.steps[i].words[1] == "fit")
    # thresholds published for LVIS would leave nothing of a method on so few images
    how = {cell.name: cell.how for cell in study.cells}
    assert how["rfs"] == "method=rfs sampler.threshold=0.05"
    assert how["equalization"] == "method=equalization head.threshold=0.05"
    assert how["federated"] == "method=federated head.classes=12"


@pytest.mark.slow
def test_the_demo_has_what_its_page_says(in_process, tmp_path):
    """Groups of eight classes and more, and a validation pool in which no class is rare."""
    outcome = run_plan(data_steps(tmp_path, FULL), tmp_path)
    assert not outcome.failed
    groups = read_groups(tmp_path / "data")[1]
    assert sum(len(group.category_ids) for group in groups) == 60
    assert min(len(group.category_ids) for group in groups) >= 8
    val = read_annotations(tmp_path / "val" / "annotations.json")
    counts = count_categories(val).images
    assert len(val.image_ids) == 600
    assert counts.max() <= 1.5 * counts.min()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("demo", "--rows", "1"), "--rows is not for reproduce demo"),
        (("lvis-v1", "--methods", "bags"), "--methods is not for reproduce lvis-v1"),
        (("groceries",), "Missing option '--data'"),
        (("groceries", "--data", "x", "--tiny"), "--tiny is not for reproduce groceries"),
    ],
)
def test_options_of_other_studies_are_refused(words, says):
    done = run("reproduce", *words)
    assert done.exit_code == 2
    assert says in done.stderr
