"""A run before it runs: what it says is what the run then does."""

import re
import shutil

import pytest

from lt_data.errors import DataError, RecipeError
from lt_train.engine.fit import fit
from lt_train.recipe.origins import Setting
from lt_train.trials.dry_run import SAMPLED, dry_run, sample_rows

SEED = Setting("seed", 0, "default")


def lines_of(recipe, **options):
    return list(dry_run(recipe, (SEED,), **options))


@pytest.mark.parametrize("iterations", [1, 3, 7])
def test_it_says_what_the_run_does(tiny_recipe, tmp_path, iterations):
    recipe = tiny_recipe("data.val=null", f"schedule.iterations={iterations}", "schedule.decay=[]", "schedule.warmup=0")
    lines = lines_of(recipe)
    log = fit(recipe, tmp_path / "run").log.read_text()
    assert lines[0].split() == ["seed", "0", "default"]
    for start in ("data:", "groups", "budget:", "lr ", "warm-up:", "trainable:"):
        (line,) = (line for line in lines if line.startswith(start))
        assert line in log
    losses = dict(re.findall(r"(\w+) ([\d.]+)", next(line for line in lines if "first step" in line).split(": ")[1]))
    first = dict(re.findall(r"(\w+) ([\d.]+)", next(line for line in log.splitlines() if "step 1/" in line)))
    assert {name: first[name.removeprefix("loss_")] for name in losses} == losses
    timed = [line for line in lines if "timed steps" in line]
    assert len(timed) == (iterations > 1)
    if timed:
        steps, seconds, share = re.match(r"(\d+) timed steps: ([\d.]+) s .* (\d+) % of it waiting", timed[0]).groups()
        assert int(steps) == min(5, iterations - 1)
        assert float(seconds) > 0
        assert 0 <= int(share) <= 100
        assert re.match(r"memory: [\d.]+ GiB of the", lines[-1])


def test_a_second_stage(tiny_recipe, tmp_path):
    start = fit(tiny_recipe("data.val=null"), tmp_path / "softmax")
    before = sorted(tmp_path.rglob("*"))
    lines = lines_of(tiny_recipe("method=bags", "data.val=null"), init_from=start.path)
    assert any("newly initialised: roi_heads.box_predictor.cls_score" in line for line in lines)
    assert "trainable: 1,625 numbers in 2 tensors" in lines
    assert sorted(tmp_path.rglob("*")) == before


def test_a_calibration_takes_no_steps(tiny_recipe):
    assert lines_of(tiny_recipe("method=ncm-fc"))[-1].startswith("calibration 'ncm' takes no steps")


def test_what_would_stop_the_run_stops_it_here(tiny_recipe, tmp_path):
    with pytest.raises(DataError):
        lines_of(tiny_recipe(f"data.train.images={tmp_path}"))
    with pytest.raises(RecipeError, match="schedule.warmup: got 3 steps"):
        lines_of(tiny_recipe("schedule.warmup=3", "schedule.decay=[]"))


def test_a_sample_of_the_images_is_read(tiny_recipe):
    lines = lines_of(tiny_recipe("data.val=null"))
    (line,) = (line for line in lines if line.startswith("images: "))
    assert re.fullmatch(r"images: 12 of 12 read, a sample of 12, [\d.]+ ms an image in one process", line)


@pytest.mark.parametrize(("broken", "shown"), [(1, 1), (5, 5), (7, 5)])
def test_broken_images_of_the_sample_are_named(tiny_recipe, tiny_pool, tmp_path, broken, shown):
    shutil.copytree(tiny_pool / "images", tmp_path / "images")
    spoilt = sorted((tmp_path / "images").iterdir())[-broken:]
    for path in spoilt:
        path.write_bytes(path.read_bytes()[:100])
    lines = dry_run(tiny_recipe("data.val=null", f"data.train.images={tmp_path / 'images'}"), (SEED,))
    said = []
    with pytest.raises(DataError) as error:
        said.extend(lines)
    assert said[-1].startswith(f"images: {12 - broken} of 12 read, a sample of 12")
    named = [line for line in error.value.problems if "not a readable image" in line]
    assert len(named) == shown
    assert all(any(str(path) in line for path in spoilt) for line in named)
    assert error.value.problems[shown:] == ["and 2 more; lt-data check --images reads every image"] * (broken > shown)


@pytest.mark.parametrize("rows", [0, 1, 99, 100, 101, 57_623])
def test_the_sample_is_spread_over_the_file(rows):
    sample = sample_rows(rows, 0)
    parts = min(rows, SAMPLED)
    assert [row * parts // rows for row in sample] == pytest.approx(range(parts), abs=1)
    assert sample == sorted(set(sample)) == sample_rows(rows, 0)
    assert all(0 <= row < rows for row in sample)
    assert rows < 1000 or sample != sample_rows(rows, 1)
