"""Validation losses, the best checkpoint by another figure, and runs that end early."""

import json
import shutil

import pytest
import torch

from lt_data.errors import RecipeError
from lt_train.data.images import as_input
from lt_train.data.plan import Draw
from lt_train.detectors.trunks.norm import use_stored_statistics
from lt_train.engine.fit import fit
from lt_train.inference.detect import load_trained
from lt_train.inference.validation_loss import validation_losses
from lt_train.processes import run_together
from lt_train.runs.checkpoint import load_checkpoint
from lt_train.runs.data import load_run_data
from lt_train.runs.directory import RunDir
from tests.lt_train.several import start

SMALL = ("model.name=faster_rcnn_small", "schedule.iterations=6", "schedule.decay=[5]", "eval.every=2")
# a head that counts what it sees, and an average of the weights
COUNTING = ("head.name=equalization-v2", "optim.ema=0.5")
# nothing is learnt, so that few evaluations are better than the first
STILL = ("optim.lr=1e-12", "eval.every=1", "eval.patience=2")


def records(run):
    return [json.loads(line) for line in run.metrics.read_text().splitlines()]


def with_key(run, key):
    return {line["step"]: line[key] for line in records(run) if key in line}


@pytest.fixture(scope="module")
def watched(make_tiny_recipe, tmp_path_factory):
    """A run with a head that counts what it sees, its validation losses and the mean of groups."""
    recipe = make_tiny_recipe(*SMALL, *COUNTING, "eval.loss=true", "eval.select=groups")
    return recipe, fit(recipe, tmp_path_factory.mktemp("watched") / "run")


def test_validation_losses_leave_no_trace(watched, make_tiny_recipe, tmp_path):
    _, run = watched
    plain = fit(make_tiny_recipe(*SMALL, *COUNTING), tmp_path / "plain")
    assert with_key(run, "loss") == with_key(plain, "loss")
    ours, theirs = (load_checkpoint(r.last)["model"] for r in (run, plain))
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_validation_losses_are_the_mean_over_the_images(watched):
    """Each image by itself (``eval.batch=1``), not flipped, in the order of the file."""
    recipe, run = watched
    found = with_key(run, "eval/loss")
    assert list(found) == [2, 4, 6]
    model, data = load_trained(run, "last").model, load_run_data(recipe).val_dataset
    model.train()
    use_stored_statistics(model)
    totals, before = [], model.head.state()
    for row in range(len(data)):
        image, target = data[Draw(0, row, row)]
        assert target["boxes"].equal(data.boxes[data._targets.of(row)])
        model.head.load_state_dict(before)
        with torch.no_grad():
            totals.append(sum(float(v) for v in model([as_input(image, torch.device("cpu"))], [target]).values()))
    assert len(totals) == 12
    assert found[6] == pytest.approx(sum(totals) / 12, rel=1e-5)
    last = next(line for line in records(run) if "eval/loss" in line and line["step"] == 6)
    parts = [value for name, value in last.items() if name.startswith("eval/loss_")]
    assert len(parts) == 4
    assert sum(parts) == pytest.approx(last["eval/loss"])


def test_best_is_that_of_the_chosen_figure(watched):
    _, run = watched
    chosen, content = with_key(run, "eval/selected"), load_checkpoint(run.best)
    assert content["best"] == max(chosen.values())
    assert content["done"] == content["best_step"] == max(chosen, key=chosen.get)
    assert content["recipe"]["eval"]["select"] == "groups"
    measured = json.loads((run.evaluation / "metrics.json").read_text())["bbox"]["groups"]
    known = [value for value in measured.values() if value is not None]
    assert chosen[6] == sum(known) / len(known)
    assert f"box AP, mean of {len(known)} groups: " in run.log.read_text()


def test_a_run_that_waits_in_vain_ends_early_and_stays_ended(make_tiny_recipe, tmp_path):
    recipe = make_tiny_recipe(*SMALL, *STILL)
    run = fit(recipe, tmp_path / "run")
    content = load_checkpoint(run.last)
    done, best = content["done"], content["best_step"]
    # statistics of batch norms move by themselves, so the first need not be the best
    assert (content["waited"], done - best) == (2, 2)
    assert done < 6
    said = f"ended early, after step {done}: 2 evaluations without a better figure (eval.patience=2); the best was that"
    assert run.log.read_text().count(f"{said} of step {best}, kept as checkpoints/best.pt") == 1
    before = records(run)
    fit(recipe, run.path, resume=True)
    assert records(run) == before
    assert run.log.read_text().count(said) == 2
    # a run that was stopped on the way waits no longer than one that was not
    stopped = tmp_path / "stopped"
    shutil.copytree(run.path, stopped)
    shutil.copy(stopped / "checkpoints/previous.pt", stopped / "checkpoints/last.pt")
    again = fit(recipe, stopped, resume=True)
    assert load_checkpoint(again.last)["done"] == done


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["eval.patience=2"], "without eval.every there is one evaluation, at the end; set eval.every=1"),
        (["eval.loss=true", "data.val=null"], "got eval.loss=True, and there is no validation data; set data.val"),
    ],
)
def test_nothing_to_choose_by_is_refused(tiny_recipe, overrides, line):
    with pytest.raises(RecipeError, match=line):
        tiny_recipe(*overrides)


class LossesOf:
    """What a test starts in several processes: the validation losses of a run that is there."""

    def __init__(self, recipe, run):
        self.recipe, self.run = recipe, run

    def __call__(self):
        return run_together(self.compute)

    def compute(self, processes):
        model, data = load_trained(self.run, "last").model, load_run_data(self.recipe)
        return validation_losses(model, data.val_dataset, self.recipe, processes)


@pytest.mark.slow
def test_several_processes_have_the_losses_of_one(watched):
    """Whole batches are shared, and summed in their own order."""
    recipe, run = watched
    # three batches, the last of two images
    recipe = recipe.model_copy(update={"eval": recipe.eval.model_copy(update={"batch": 5})})
    one = LossesOf(recipe, run).compute(None)
    assert start(2, LossesOf(recipe, run)) == [repr(one), "None"]


class Training:
    """A run that a test starts in several processes."""

    def __init__(self, recipe, out):
        self.recipe, self.out = recipe, out

    def __call__(self):
        # a run is of no use to a queue
        return fit(self.recipe, self.out) and None


@pytest.mark.slow
def test_several_processes_end_early_together(make_tiny_recipe, tmp_path):
    recipe = make_tiny_recipe(*SMALL, *STILL, "eval.loss=true")
    assert start(2, Training(recipe, tmp_path / "run")) == ["None", "None"]
    run = RunDir(tmp_path / "run")
    content = load_checkpoint(run.last)
    assert content["done"] == content["best_step"] + 2 < 6
    assert list(with_key(run, "eval/loss")) == [*range(1, content["done"] + 1)]
