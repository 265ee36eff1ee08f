"""The detectors that there are, without torch: a name is that of a family and that of a trunk.

A new family or trunk is a row here; a trunk also needs a file of its own if it is made in another way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from lt_data.errors import RecipeError, shown
from lt_train.options.errors import closest

# how many RoI heads a cascade has
CASCADE_STAGES: Final = 3
# where a trunk can have deformable convolutions
DCN: Final = ("none", "c3-c5")


class Shaped(Protocol):
    """A weight, of which the shape alone counts here."""

    @property
    def shape(self) -> Sequence[int]:
        """Its sizes."""


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

    @property
    def stages(self) -> int:
        """How many RoI heads there are, each of which sees what the one before makes of the proposals."""
        return CASCADE_STAGES if "stage_scores" in self.options else 1

    def has(self, names: Iterable[str]) -> bool:
        """Whether weights of these names are of it."""
        names = [*names]
        known = all(any(name.startswith(part) for name in names) for part in self.present)
        return known and not any(name.startswith(self.absent) for name in names)


@dataclass(frozen=True)
class Trunk:
    """What makes feature maps of an image, and how detectors are built on it, with masks and without.

    Attributes:
        maker: ``module:function``, which makes torchvision's model of the number of classes and its settings.
        mark: A weight of it.
        mark_shape: The shape of that weight, where a trunk of another shape has one of that name.
        absent: A weight that another trunk has beside the mark, and this one has not.
        body: What torchvision calls the network in front of the pyramid, if it is one of torchvision's, which then
            publishes weights of ImageNet for it.
        pretrained: Whether there are weights for it, so that its batch norms then use stored statistics.
        frozen: How the names of the weights begin that are then never trained: those of its first stages.
        deformable: Whether its last stages can have deformable convolutions, see ``trunks/deformable.py``.
    """

    maker: str
    mark: str
    mark_shape: tuple[int, ...] = ()
    absent: str = ""
    body: str = ""
    pretrained: bool = True
    frozen: tuple[str, ...] = ()
    deformable: bool = False

    def has(self, weights: Mapping[str, Shaped]) -> bool:
        """Whether weights are of it."""
        if self.mark not in weights or self.absent in weights:
            return False
        return not self.mark_shape or tuple(weights[self.mark].shape) == self.mark_shape


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
# what the options of some families are where a detector does not have them
ABSENT_OPTIONS: Final[Mapping[str, str]] = {"stage_scores": "logits", "semantic": "none"}


def _resnet(body: str, blocks: int, shape: tuple[int, int], *, absent: str = "", bottlenecks: bool = True) -> Trunk:
    """A ResNet or ResNeXt with a pyramid.

    Args:
        body: What torchvision calls it.
        blocks: Number of blocks of the third stage.
        shape: Channels that go out of a 3x3 convolution there, and that go into each of them.
        absent: See the class.
        bottlenecks: Whether its blocks have three convolutions.
    """
    first = ("conv1.", "bn1.", "layer1.")
    return Trunk(
        "lt_train.detectors.trunks.resnet:resnet_rcnn",
        f"backbone.body.layer3.{blocks - 1}.conv2.weight",
        mark_shape=(*shape, 3, 3),
        absent=absent,
        body=body,
        frozen=tuple(f"backbone.body.{layer}" for layer in first),
        deformable=bottlenecks,
    )


RESNET50 = _resnet("resnet50", 6, (256, 256), absent="backbone.body.layer3.6.conv2.weight")
LITE0 = Trunk(
    "lt_train.detectors.trunks.efficientnet_lite0:lite0_rcnn",
    "backbone.body.stem.conv.0.weight",
    frozen=("backbone.body.stem.", "backbone.body.stage1.", "backbone.body.stage2."),
)
RESNET18 = _resnet("resnet18", 2, (256, 256), absent="backbone.body.layer3.2.conv2.weight", bottlenecks=False)
MOBILENET = Trunk(
    "lt_train.detectors.trunks.mobilenet:mobilenet_rcnn",
    "backbone.body.16.0.weight",
    body="mobilenet_v3_large",
    frozen=tuple(f"backbone.body.{number}." for number in range(4)),
)
TRUNKS: Final[Mapping[str, Trunk]] = {
    "r50_fpn": RESNET50,
    "r101_fpn": _resnet("resnet101", 23, (256, 256)),
    "x101_32x8d_fpn": _resnet("resnext101_32x8d", 23, (1024, 32)),
    "x101_64x4d_fpn": _resnet("resnext101_64x4d", 23, (1024, 16)),
    "r18_fpn": RESNET18,
    "mobilenet_v3_large_fpn": MOBILENET,
    "lite0": LITE0,
    "small": Trunk("lt_train.detectors.trunks.small:small_rcnn", "backbone.lateral.0.weight", pretrained=False),
}
# every one that can be named, for those who want to look at all
DETECTORS: Final[Mapping[str, DetectorSpec]] = {
    f"{family}_{trunk}": DetectorSpec(FAMILIES[family], TRUNKS[trunk]) for family in FAMILIES for trunk in TRUNKS
}


def named_detector(name: str, others: Mapping[str, str] = {}) -> DetectorSpec:
    """The detector that a name means: a family, ``_`` and a trunk.

    Args:
        name: For example ``mask_rcnn_r50_fpn``.
        others: What other tools call detectors, for the answer to a name that is none.

    Raises:
        RecipeError: It is no such name.
    """
    spec = known_detector(name)
    if spec is None:
        close = closest(name, DETECTORS, others)
        raise RecipeError(
            f"model.name: got {shown(name)}; allowed are a detector ({', '.join(FAMILIES)}), _ and a trunk "
            f"({', '.join(TRUNKS)}), as in mask_rcnn_r50_fpn" + (f"; did you mean '{close}'?" if close else "")
        )
    return spec


def known_detector(name: str) -> DetectorSpec | None:
    """The detector that a name means, or ``None``."""
    parts = [(family, name.removeprefix(f"{family}_")) for family in FAMILIES if name.startswith(f"{family}_")]
    return next((DetectorSpec(FAMILIES[family], TRUNKS[rest]) for family, rest in parts if rest in TRUNKS), None)


def check_dcn(name: str, dcn: str) -> None:
    """Refuses deformable convolutions that a detector's trunk cannot have.

    Args:
        name: Of a detector.
        dcn: ``none`` or ``c3-c5``.

    Raises:
        RecipeError: There is no such choice, or the trunk has no blocks for it.
    """
    if dcn not in DCN:
        raise RecipeError(f"model.dcn: got {shown(dcn)}; allowed are {', '.join(DCN)}")
    if dcn != "none" and not named_detector(name).trunk.deformable:
        having = ", ".join(key for key, trunk in TRUNKS.items() if trunk.deformable)
        raise RecipeError(
            f"model.dcn: got {dcn}, and model.name={name} has no blocks of three convolutions; allowed with the trunks "
            f"{having}, or set model.dcn=none"
        )


def family_options(name: str, given: Mapping[str, str]) -> dict[str, str]:
    """Those of the options that a detector has.

    Args:
        name: Of a detector.
        given: Values of all options that some family has.

    Raises:
        RecipeError: There is no such detector, or one is set that it does not have.
    """
    family = named_detector(name).family
    for option, value in given.items():
        if option not in family.options and value != ABSENT_OPTIONS[option]:
            having = ", ".join(key for key, other in FAMILIES.items() if option in other.options)
            raise RecipeError(
                f"model.{option}: got {value}, and model.name={name} has no such part; allowed with the detectors "
                f"{having}, or leave it out"
            )
    return {option: given[option] for option in family.options}


def trunk_of_weights(weights: Mapping[str, Shaped]) -> str | None:
    """The trunk that weights have, of a detector or alone; ``None`` if that cannot be told."""
    found = [name for name, trunk in TRUNKS.items() if trunk.has(weights)]
    return found[0] if len(found) == 1 else None


def family_of_weights(weights: Mapping[str, Shaped]) -> str | None:
    """The family that weights of a detector are of; ``None`` if that cannot be told."""
    found = [name for name, family in FAMILIES.items() if family.has(weights)]
    return found[0] if len(found) == 1 else None


def detector_of_weights(weights: Mapping[str, Shaped]) -> str | None:
    """The detector that weights belong to; ``None`` if that cannot be told."""
    family, trunk = family_of_weights(weights), trunk_of_weights(weights)
    return f"{family}_{trunk}" if family and trunk else None
