"""Training steps on a GPU: the numbers of the CPU, and nothing waited for but what has to be."""

import warnings

import pytest
import torch

from lt_train.data.dataset import make_loader
from lt_train.detectors.regions.sampling import keyed_priorities
from lt_train.engine.optim import lr_at
from lt_train.engine.state import start_state
from lt_train.engine.step import Draws, train_step
from lt_train.runs.data import load_run_data, make_plan

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

# the number of regions, and the losses of the step before, which have arrived by then
OWN_WAITS = 2


@pytest.fixture(autouse=True, scope="module")
def _narrow_detectors():
    """The small detector as it is: a GPU has kernels of its own for each number of channels."""


def steps(recipe, device, number):
    """The losses of the first steps, and the calls of the last one that waited, by file."""
    data = load_run_data(recipe)
    plan = make_plan(recipe, data)
    state = start_state(recipe, data, torch.device(device), init_from=None, resume=False)
    state.model.train()
    batches = iter(make_loader(data.dataset, Draws(plan, 0), workers=0, pin_memory=device == "cuda"))
    losses, waits = [], []
    for step, _ in zip(plan.steps(0), range(number), strict=False):
        torch.cuda.set_sync_debug_mode("warn")
        with warnings.catch_warnings(record=True) as raised:
            warnings.simplefilter("always")
            lr = lr_at(step, recipe.optim, recipe.schedule, plan.total_steps())
            taken = train_step(state, step, batches, lr=lr)
        torch.cuda.set_sync_debug_mode("default")
        waits = [w.filename for w in raised if "synchroniz" in str(w.message)]
        losses.append(taken.read())
    return losses, waits


def test_losses_are_those_of_the_cpu(tiny_recipe, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    (on_cpu, *_), _ = steps(tiny_recipe(), "cpu", 1)
    (on_gpu, *_), _ = steps(tiny_recipe(), "cuda", 1)
    assert on_gpu == pytest.approx(on_cpu, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("options", [(), ("method=bags", "train=all"), ("optim.accumulate=2", "optim.clip=35.0")])
def test_nothing_of_ours_waits_but_for_the_number_of_regions(tiny_recipe, options):
    passes = 2 if "optim.accumulate=2" in options else 1
    _, waits = steps(tiny_recipe(*options), "cuda", 3)
    own = [name for name in waits if "/lt_train/" in name]
    assert len(own) <= OWN_WAITS * passes, own


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_trains(tiny_recipe, precision):
    options = (f"compute.precision={precision}", "compute.channels_last=true")
    losses, _ = steps(tiny_recipe(*options), "cuda", 3)
    (first, *_), _ = steps(tiny_recipe(), "cpu", 1)
    assert sum(losses[0].values()) == pytest.approx(sum(first.values()), rel=0.1)


def test_keyed_priorities_are_those_of_the_cpu():
    keys = [3, 2**62 + 5]
    on_gpu = keyed_priorities(keys, 10_000, torch.device("cuda"))
    assert torch.equal(on_gpu.cpu(), keyed_priorities(keys, 10_000, torch.device("cpu")))
