"""Images that cannot be read: they stop a run, or are left out and nothing else changes."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from lt_data.errors import DataError
from lt_train.data.bad_images import BadImages
from lt_train.engine.calibrate import calibrate
from lt_train.engine.fit import fit
from lt_train.recipe.load import make_recipe
from tests.lt_train.engine.stepping import Stepper

SKIP = ("data.on_bad_image=skip", "data.val=null")


@pytest.fixture
def broken_recipe(tiny_pool, tiny_recipe, tmp_path):
    """The tiny recipe on a pool of which two images are cut off."""
    shutil.copytree(tiny_pool, tmp_path / "pool")
    for name in ("000000000003", "000000000007"):
        (path,) = (tmp_path / "pool/images").glob(f"*{name[-2:]}.*")
        path.write_bytes(path.read_bytes()[:100])
    plain = tiny_recipe().to_plain()
    files = {"annotations": str(tmp_path / "pool/annotations.json"), "images": str(tmp_path / "pool/images")}
    plain["data"]["train"] = files
    return lambda *overrides: make_recipe(plain, overrides)


def test_one_stops_a_run_unless_it_is_to_be_left_out(broken_recipe, tmp_path, capfd):
    with pytest.raises(DataError, match=r"0[37]\.\w+: not a readable image"):
        fit(broken_recipe("data.val=null", "schedule.iterations=6"), tmp_path / "run")
    fit(broken_recipe(*SKIP, "schedule.iterations=12", "data.workers=1"), tmp_path / "other")
    log = (tmp_path / "other/train.log").read_text()
    assert log.count("warning: left out: ") == 2
    assert "warning: 2 images cannot be read and were left out, 4 times:" in log
    losses = [json.loads(line) for line in (tmp_path / "other/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in losses] == list(range(1, 13))


def test_nothing_takes_the_place_of_one(broken_recipe, tiny_recipe):
    """The steps of the other images are those of sound data, in value and in order."""
    options = ("data.val=null", "schedule.iterations=6", "optim.batch=1", "optim.base_batch=1")
    sound, broken = Stepper(tiny_recipe(*options)), Stepper(broken_recipe(*options, *SKIP))
    bad = {i for i, path in enumerate(broken.data.train.paths) if path.stat().st_size == 100}
    assert len(bad) == 2
    seen = [rows.batches[0][0].row for rows in sound.steps]
    assert seen == [rows.batches[0][0].row for rows in broken.steps]


def test_the_micro_batch_of_an_image_does_not_depend_on_those_left_out(broken_recipe):
    stepper = Stepper(broken_recipe(*SKIP, "optim.batch=12", "schedule.iterations=1"), left_out=True)
    images, targets = next(stepper.batches)
    assert len(images) == 10
    places = [target["place"] for target in targets]
    assert len(set(places)) == 10
    assert places == sorted(places)
    assert max(places) >= 10


def test_a_step_of_which_no_image_can_be_read_changes_nothing_by_itself(broken_recipe):
    recipe = broken_recipe(*SKIP, "optim.momentum=0", "optim.weight_decay=0", "optim.batch=1", "schedule.iterations=12")
    stepper = Stepper(recipe, left_out=True)
    still = 0
    for _ in range(12):
        before = stepper.everything()
        losses = stepper.step().read()
        same = all(torch.equal(value, before[name]) for name, value in stepper.everything().items())
        still += same
        assert same == (sum(losses.values()) == 0)
    assert still == 2


def test_a_calibration_leaves_them_out_too(broken_recipe, softmax_run, tmp_path):
    recipe = broken_recipe("method=ncm-fc", *SKIP, "optim.batch=1")
    calibrate(recipe, tmp_path / "run", init_from=softmax_run.path)
    log = (tmp_path / "run/train.log").read_text()
    assert "warning: 2 images cannot be read and were left out, 2 times:" in log
    with pytest.raises(DataError, match="not a readable image"):
        calibrate(broken_recipe("method=ncm-fc", "data.val=null"), tmp_path / "stopped", init_from=softmax_run.path)


def test_what_several_processes_left_out_is_added_up():
    one, other = BadImages(2, str), BadImages(2, str)
    for bad in (one, one, other):
        bad.add(DataError("a.jpg: not a readable image"))
    one.merge(other.lines)
    assert one.summary()[0] == "warning: 1 images cannot be read and were left out, 3 times:"


def test_there_is_a_limit():
    said = []
    bad = BadImages(2, said.append)
    for name in ("a.jpg", "b.jpg", "a.jpg"):
        bad.add(DataError(f"{name}: not a readable image"))
    assert len(said) == 2
    with pytest.raises(DataError, match="data.most_bad_images: 3 images cannot be read, 2 may be left out; the last"):
        bad.add(DataError("c.jpg: not a readable image"))
    assert BadImages(2, said.append).summary() == []
    assert Path("a.jpg").name in bad.summary()[1]
