"""What the steps of a plan take: seconds from images and seconds per image, bytes from images and regions.

Seconds per image are estimates until a step of the same kind is finished in the study: then they are corrected by what
it took.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from lt_train.studies.steps import Done, Step

Kind = Literal["train", "train from features", "make features", "evaluate", "evaluate from features"]
Rates = Mapping[Kind, float]

# one GPU of a data centre, ResNet-50 at 800 x 1333: orders of magnitude, nobody has measured them for this package
ESTIMATED: Final[Rates] = {
    "train": 0.1,
    "train from features": 0.002,
    "make features": 0.06,
    "evaluate": 0.06,
    "evaluate from features": 0.02,
}
# bytes of a region beside its features: box, label, IoU, ground truth, place
REGION: Final = 32
# seconds of a command before its first image
STARTING: Final = 5.0
# detections of an image in a results file
RESULTS: Final = 30_000


@dataclass(frozen=True)
class Sizes:
    """What a detector leaves on the disk: by itself the numbers of a ResNet-50 with a feature pyramid.

    Attributes:
        network: Bytes of the checkpoints ``last``, ``previous`` and ``best`` where all of it is trained.
        classifier: Of those where its classifier is.
        train_regions: Proposals of a training image.
        val_regions: Of a validation image.
        features: Numbers of a region.
    """

    network: float = 1.2e9
    classifier: float = 0.6e9
    train_regions: int = 2000
    val_regions: int = 1000
    features: int = 1024


@dataclass(frozen=True)
class Cost:
    """What a step looks at and leaves on the disk.

    Attributes:
        images: How many it looks at, a pass each, by what is done with them; the first kind is what it mostly does.
        size: Bytes that it leaves.
    """

    images: tuple[tuple[Kind, int], ...] = ()
    size: float = 0.0

    def seconds(self, rates: Rates) -> float:
        """Seconds by seconds per image, and those of starting a command that looks at any."""
        start = STARTING if self.images else 0.0
        return start + sum(rates[kind] * number for kind, number in self.images)


@dataclass(frozen=True)
class Estimate:
    """What a step is going to take.

    Attributes:
        seconds: Of one processor or GPU.
        measured: Whether they come from finished steps of the same kind in this study.
    """

    seconds: float
    measured: bool


def feature_bytes(
    images: int, *, versions: int, pool: int | None, candidates: int, features: int = 1024, stages: int = 1
) -> float:
    """Bytes of the features of some images, see docs/stage-two.md.

    Args:
        images: How many.
        versions: Upright and mirrored: 2.
        pool: Regions with features; ``None``: all, in float32.
        candidates: Regions of an image.
        features: Numbers of a region.
        stages: Of the detector; later ones see the regions with features of the first.
    """
    kept, width = (candidates, 4) if pool is None else (min(pool, candidates), 2)
    later = (stages - 1) * kept
    return float(images) * versions * ((candidates + later) * REGION + (kept + later) * features * width)


def estimates(steps: Sequence[Step], known: Mapping[str, Done], rates: Rates = ESTIMATED) -> list[Estimate]:
    """What each step takes, corrected by what finished ones took.

    Args:
        steps: Of a plan.
        known: What is known of them, see :func:`lt_train.studies.steps.read_record`.
        rates: Seconds per image before anything is measured.
    """
    finished = [(step, known[step.name].seconds) for step in steps if step.name in known and known[step.name].finished]
    factors = {kind: factor for kind in rates if (factor := _factor(kind, finished, rates)) is not None}
    found = []
    for step in steps:
        main = _main(step)
        factor = factors.get(main) if main else None
        found.append(Estimate(step.cost.seconds(rates) * (1.0 if factor is None else factor), factor is not None))
    return found


def _main(step: Step) -> Kind | None:
    return step.cost.images[0][0] if step.cost.images else None


def _factor(kind: Kind, finished: Iterable[tuple[Step, float]], rates: Rates) -> float | None:
    """How many times longer than expected steps of a kind took."""
    own = [(step.cost.seconds(rates), seconds) for step, seconds in finished if _main(step) == kind]
    expected = sum(one for one, _ in own)
    return sum(seconds for _, seconds in own) / expected if expected > 0 else None
