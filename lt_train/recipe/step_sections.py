"""Sections of a recipe about steps: how one is taken, how many there are, and at what rate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import Field, PlainSerializer, WrapValidator, field_validator, model_validator

from lt_data.errors import shown
from lt_train.options.section import Section

# steps; the warm-up of the released code of BAGS, whose runs have tens of thousands
LONGEST_WARMUP = 500
# beyond what anybody trains with: a larger number is a slip, and the first step would not end
MOST_IMAGES, MOST_EPOCHS, MOST_STEPS = 65_536, 100_000, 10_000_000
# what ``optim.batch=auto`` is until it is decided
AUTO_BATCH = 0


def _auto_or_images(value: Any, images: Callable[[Any], int]) -> int:
    if isinstance(value, str) and value != "auto" and not value.isdecimal():
        raise ValueError(f"got {shown(value)}; allowed are a number of images from 1 on, or auto: as many as fit")
    return AUTO_BATCH if value == "auto" else images(value)


# ``auto`` is a number too, so that whoever counts with it need not ask: a run makes another one of it before it starts
BatchSize = Annotated[
    int,
    Field(ge=1, le=MOST_IMAGES),
    WrapValidator(_auto_or_images),
    PlainSerializer(lambda value: "auto" if value == AUTO_BATCH else value),
]


class OptimSection(Section):
    """SGD; the learning rate scales linearly with the images per step."""

    lr: float = Field(0.01, gt=0, description="Learning rate for base_batch images per step.")
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(1e-4, ge=0)
    batch: BatchSize = Field(16, description="Images per forward pass, over all processes; auto: as many as fit.")
    accumulate: int = Field(1, ge=1, le=MOST_IMAGES, description="Forward passes per optimiser step.")
    base_batch: int = Field(16, ge=1, description="Images per step that lr is meant for.")
    clip: float | None = Field(None, gt=0, description="Largest gradient norm.")
    ema: float | None = Field(
        None, gt=0, lt=1, description="Decay of an average of the weights over the steps, which is then what is kept."
    )
    micro_batch: int | None = Field(
        None, ge=1, description="Images among which the head samples and normalises; null: a whole forward pass."
    )
    divisors: Literal["micro-batch", "batch"] = Field(
        "micro-batch",
        description="What a micro-batch's loss is divided by: its own regions, as in the paper, or those of all.",
    )

    @property
    def images_per_step(self) -> int:
        """Images that one optimiser step sees."""
        return self.batch * self.accumulate

    @property
    def effective_lr(self) -> float:
        """Linear scaling rule: lr * images per step / base_batch."""
        return self.lr * self.images_per_step / self.base_batch


class ScheduleSection(Section):
    """How long, and how the learning rate changes."""

    epochs: int = Field(12, ge=1, le=MOST_EPOCHS)
    epoch: Literal["dataset", "sampler"] = Field(
        "dataset", description="Images in an epoch: those of the data, for every sampler; or one pass of the sampler."
    )
    iterations: int | None = Field(
        None, ge=1, le=MOST_STEPS, description="Optimiser steps instead of epochs; decay counts steps then."
    )
    decay: tuple[int, ...] = Field(
        (8, 11), description="Epochs (or steps) after which lr is multiplied by decay_factor."
    )
    decay_factor: float = Field(0.1, gt=0, le=1)
    warmup: int | Literal["auto"] = Field(
        "auto", description="Steps of linear warm-up; auto: a tenth of the run, at most 500."
    )
    warmup_start: float = Field(1 / 3, gt=0, le=1, description="Share of lr at the first step.")

    @field_validator("warmup", mode="before")
    @classmethod
    def _auto_or_steps(cls, value: Any) -> Any:
        if value == "auto":
            return value
        if isinstance(value, bool | str | None) or not isinstance(value, int | float) or not 0 <= value < 2**63:
            whole = False
        else:
            whole = float(value).is_integer()
        if not whole:
            raise ValueError(f"got {shown(value)}; allowed are auto and a number of steps, 0 or more")
        return int(value)

    @model_validator(mode="after")
    def _decay_in_steps(self) -> ScheduleSection:
        if self.iterations is None:
            return self
        warmup = self.warmup_steps(self.iterations)
        early = [step for step in self.decay if step < warmup]
        if early and warmup >= self.iterations:
            raise ValueError(f"warmup: {self.too_long(self.iterations)}")
        if early:
            raise ValueError(
                f"decay counts steps when iterations is set; got {shown(list(self.decay))}, of which {early[0]} is "
                f"inside the warm-up of {warmup} steps; allowed are steps from {warmup} on; set a shorter "
                f"schedule.warmup, or for example schedule.decay=[{max(warmup, self.example_decay)}]"
            )
        return self

    @property
    def example_decay(self) -> int:
        """A step of decay that fits ``iterations``: four fifths of it."""
        return (self.iterations or 0) * 4 // 5

    def warmup_steps(self, total: int) -> int:
        """Steps of warm-up in a run of ``total`` steps."""
        return self.warmup if isinstance(self.warmup, int) else min(LONGEST_WARMUP, total // 10)

    def too_long(self, total: int) -> str:
        """What is said of a warm-up that is as long as a run of ``total`` steps, without the name of the key."""
        return (
            f"got {self.warmup_steps(total)} steps, the run has {total}; allowed are fewer than it has; set "
            "schedule.warmup=auto (a tenth of the run, at most 500), or train for longer"
        )
