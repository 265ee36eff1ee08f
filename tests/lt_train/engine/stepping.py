"""Optimiser steps of a recipe one at a time, and losses that are spoilt on purpose."""

import itertools
import os
import signal

import torch

from lt_train.data.bad_images import BadImages
from lt_train.data.dataset import make_loader
from lt_train.engine.optim import lr_at
from lt_train.engine.state import start_state
from lt_train.engine.step import Draws, train_step
from lt_train.heads.softmax.plain import SoftmaxHead
from lt_train.processes import Processes
from lt_train.runs.data import load_run_data, make_plan


class Stepper:
    """A run on the CPU that takes a step when it is told to, and writes nothing.

    With ``stored`` its batch norms use stored statistics, so that an image does not depend on those beside it.
    """

    def __init__(self, recipe, processes=None, *, stored=False, left_out=False):
        processes = processes or Processes()
        self.recipe, self.data = recipe, load_run_data(recipe)
        plan = make_plan(recipe, self.data)
        self.state = start_state(
            recipe, self.data, torch.device("cpu"), init_from=None, resume=False, processes=processes
        )
        self.state.model.stored_statistics = stored
        self.state.trained.train()
        draws = Draws(plan, 0, processes, recipe.optim.micro_batch or 1)
        add = BadImages(100, str).add if left_out else None
        self.batches = iter(make_loader(self.data.dataset, draws, workers=0, left_out=add))
        self.steps, self.total = plan.steps(0), plan.total_steps()

    def step(self):
        step = next(self.steps)
        lr = lr_at(step, self.recipe.optim, self.recipe.schedule, self.total)
        losses = train_step(self.state, step, self.batches, lr=lr, clip=self.recipe.optim.clip)
        self.state.done = step.index + 1
        return losses

    def weights(self):
        return copied(dict(self.state.model.named_parameters()))

    def everything(self):
        """Weights, and the statistics of batch norms."""
        return copied(self.state.model.state_dict())

    def average(self):
        return copied(dict(self.state.ema.module.named_parameters()))

    def momentum(self):
        state = self.state.optimizer.state_dict()["state"]
        return copied({key: values["momentum_buffer"] for key, values in state.items()})


def copied(tensors):
    return {name: value.detach().clone() for name, value in tensors.items()}


def assert_same(got, wanted):
    """The same names and the same bits."""
    assert got.keys() == wanted.keys()
    different = [name for name, value in wanted.items() if not torch.equal(value, got[name])]
    assert not different


def assert_finite(tensors):
    assert tensors
    assert all(bool(value.isfinite().all()) for value in tensors.values())


def spoil(monkeypatch, passes, by):
    """Lets ``by(loss)`` replace the classification loss of softmax in the forward passes counted from 0."""
    original, count = SoftmaxHead.loss, itertools.count()

    def loss(self, *args, **options):
        losses = original(self, *args, **options)
        return {name: by(value) for name, value in losses.items()} if next(count) in passes else losses

    monkeypatch.setattr(SoftmaxHead, "loss", loss)


def infinite(loss):
    """An infinite loss with finite gradients, as cross-entropy has where a logit overflows."""
    return loss + torch.inf


def nan(loss):
    return loss * torch.nan


def steep(loss):
    """A finite loss whose gradients are NaN."""
    return loss + (loss * 0).sqrt()


def interrupt_in_step(monkeypatch, number, *, times=1, by=signal.SIGINT):
    """Sends a signal so many times in the middle of a step of ``fit``, counted from 1: weights are not changed yet."""
    from lt_train.engine import step as engine

    original = engine._change_weights

    def interrupted(state, *args, **options):
        for _ in range(times if state.done == number - 1 else 0):
            os.kill(os.getpid(), by)
        return original(state, *args, **options)

    monkeypatch.setattr(engine, "_change_weights", interrupted)
    return lambda: monkeypatch.setattr(engine, "_change_weights", original)
