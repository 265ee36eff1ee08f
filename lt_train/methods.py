"""Methods: presets that fill the recipe keys ``head``, ``sampler`` and ``train``; explicit keys beat them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True)
class Method:
    """One line of ``lt-train methods``.

    Attributes:
        summary: One sentence.
        source: Where the method comes from.
        needs: What has to exist before, for people.
        fills: Recipe keys and the values they take unless the recipe or the command line sets them.
    """

    summary: str
    source: str
    needs: str
    fills: Mapping[str, Any]


METHODS: Final[Mapping[str, Method]] = {
    "softmax": Method(
        summary="Softmax cross-entropy over all classes and the background: the baseline.",
        source="Faster R-CNN (NeurIPS 2015), Mask R-CNN (ICCV 2017)",
        needs="nothing",
        fills={"head": {"name": "softmax"}, "sampler": {"name": "shuffle"}, "train": "all"},
    ),
    "bags": Method(
        summary="Balanced group softmax: one softmax per group of classes with similar instance counts.",
        source="BAGS (CVPR 2020), section 3",
        needs="--init-from RUN, a trained baseline: only its classifier is trained anew",
        fills={"head": {"name": "bags"}, "sampler": {"name": "shuffle"}, "train": "classifier"},
    ),
    "rfs": Method(
        summary="Repeat-factor sampling: images with rare categories are seen more often.",
        source="LVIS (CVPR 2019), appendix B",
        needs="nothing",
        fills={"head": {"name": "softmax"}, "sampler": {"name": "repeat-factor"}, "train": "all"},
    ),
}


def format_methods() -> str:
    """All methods as text, two lines each."""
    width = max(map(len, METHODS))
    return "\n".join(
        f"{name:<{width}}  {method.summary}\n{'':<{width}}  {method.source}; needs {method.needs}"
        for name, method in METHODS.items()
    )
