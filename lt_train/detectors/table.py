"""The detectors that there are, without torch: a name is that of a family and that of a trunk.

A new family or trunk is a row here, and a file of its own if it is made in another way.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from lt_data.errors import RecipeError


@dataclass(frozen=True)
class Family:
    """What is done with the feature maps of a trunk.

    Attributes:
        kind: What people call it.
        masks: Whether it has a mask branch.
        present: Beginnings of names of weights, each of which some weight of it has.
        absent: Beginnings of names that no weight of it has, and those of another family do.
        model: ``module:class``, whose ``from_stock`` makes it of torchvision's model.
        options: Keys of a recipe's ``model`` that it knows and others do not.
    """

    kind: str
    masks: bool
    present: tuple[str, ...]
    absent: tuple[str, ...] = ()
    model: str = "lt_train.detectors.detector:LongTailDetector"
    options: tuple[str, ...] = ()

    def has(self, names: Iterable[str]) -> bool:
        """Whether weights of these names are of it."""
        names = [*names]
        known = all(any(name.startswith(part) for name in names) for part in self.present)
        return known and not any(name.startswith(self.absent) for name in names)


@dataclass(frozen=True)
class Trunk:
    """How detectors are made, with masks and without.

    Attributes:
        maker: ``module:function``, which makes torchvision's model of the number of classes and its settings.
        mark: A weight that no other detectors have.
        pretrained: Whether there are weights for it, so that its batch norms then use stored statistics.
        frozen: How the names of the weights begin that are then never trained: those of its first stages.
    """

    maker: str
    mark: str
    pretrained: bool
    frozen: tuple[str, ...] = ()


@dataclass(frozen=True)
class DetectorSpec:
    """One detector.

    Attributes:
        family: What it does with feature maps.
        trunk: What makes them.
    """

    family: Family
    trunk: Trunk

    @property
    def kind(self) -> str:
        """What people call its family."""
        return self.family.kind

    @property
    def masks(self) -> bool:
        """Whether it has a mask branch."""
        return self.family.masks


RESNET50 = Trunk(
    "lt_train.detectors.trunks.resnet50:resnet50_rcnn",
    "backbone.body.conv1.weight",
    pretrained=True,
    frozen=("backbone.body.conv1.", "backbone.body.bn1.", "backbone.body.layer1."),
)
LITE0 = Trunk(
    "lt_train.detectors.trunks.efficientnet_lite0:lite0_rcnn",
    "backbone.body.stem.conv.0.weight",
    pretrained=True,
    frozen=("backbone.body.stem.", "backbone.body.stage1.", "backbone.body.stage2."),
)
SMALL = Trunk("lt_train.detectors.trunks.small:small_rcnn", "backbone.lateral.0.weight", pretrained=False)

TRUNKS: Final[Mapping[str, Trunk]] = {"r50_fpn": RESNET50, "lite0": LITE0, "small": SMALL}

_SINGLE, _MASKS = "roi_heads.box_predictor.", "roi_heads.mask_"
_STAGED, _STAGED_MASKS, _FLOW = "roi_heads.stages.", "roi_heads.stages.0.mask_", "roi_heads.stages.1.mask_head.flow."
_CASCADE = "lt_train.detectors.cascade.detector:CascadeDetector"
FAMILIES: Final[Mapping[str, Family]] = {
    "faster_rcnn": Family("Faster R-CNN", masks=False, present=(_SINGLE,), absent=(_MASKS,)),
    "mask_rcnn": Family("Mask R-CNN", masks=True, present=(_SINGLE, _MASKS)),
    "cascade_rcnn": Family(
        "Cascade R-CNN", False, (_STAGED,), (_STAGED_MASKS,), model=_CASCADE, options=("stage_scores",)
    ),
    "cascade_mask_rcnn": Family(
        "Cascade Mask R-CNN", True, (_STAGED, _STAGED_MASKS), (_FLOW,), model=_CASCADE, options=("stage_scores",)
    ),
    "htc": Family(
        "Hybrid Task Cascade",
        masks=True,
        present=(_STAGED, _STAGED_MASKS, _FLOW),
        model="lt_train.detectors.cascade.htc:HTCDetector",
        options=("stage_scores", "semantic"),
    ),
}
DETECTORS: Final[Mapping[str, DetectorSpec]] = {
    f"{family}_{trunk}": DetectorSpec(FAMILIES[family], TRUNKS[trunk]) for family in FAMILIES for trunk in TRUNKS
}
# what the options of some families are where a detector does not have them
ABSENT_OPTIONS: Final[Mapping[str, str]] = {"stage_scores": "logits", "semantic": "none"}


def family_options(name: str, given: Mapping[str, str]) -> dict[str, str]:
    """Those of the options that a detector has.

    Args:
        name: A key of ``DETECTORS``.
        given: Values of all options that some family has.

    Raises:
        RecipeError: One is set that it does not have.
    """
    family = DETECTORS[name].family
    for option, value in given.items():
        if option not in family.options and value != ABSENT_OPTIONS[option]:
            having = ", ".join(key for key, other in FAMILIES.items() if option in other.options)
            raise RecipeError(
                f"model.{option}: got {value}, and model.name={name} has no such part; allowed with the detectors "
                f"{having}, or leave it out"
            )
    return {option: given[option] for option in family.options}


def detector_of_weights(names: Collection[str]) -> str | None:
    """The detector that weights of these names belong to; ``None`` if that cannot be told.

    The weights of a trunk alone count as those of a Faster R-CNN.
    """
    alone = not any(name.startswith("roi_heads.") for name in names)
    families = {"faster_rcnn"} if alone else {name for name, family in FAMILIES.items() if family.has(names)}
    trunks = [name for name, trunk in TRUNKS.items() if trunk.mark in names]
    found = [f"{family}_{trunk}" for family in families for trunk in trunks]
    return found[0] if len(found) == 1 else None
