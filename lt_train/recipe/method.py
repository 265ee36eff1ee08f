"""What an entry of the list of methods says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

Variant = Literal["equal", "code", "text"]
VARIANTS: Final[tuple[Variant, ...]] = get_args(Variant)
Kind = Literal["baseline", "sampler", "whole network", "classifier only", "post-hoc"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)


@dataclass(frozen=True)
class Method:
    """One entry of ``lt-train methods``.

    Attributes:
        summary: One sentence.
        source: Where the method comes from.
        equal: Recipe keys and the values they take unless the recipe or the command line sets them: every method has
            the same budget, and the settings of one data set and detector are those of its recipe.
        code: What the released code of BAGS has otherwise; of SimCal for its method.
        text: What the text of BAGS and its supplement have otherwise; likewise.
        needs: What has to exist before, for people.
        keeps_classifier: Whether it goes on from the classifier of that run, so that a fresh one makes no sense.
        row: Number of the model in the comparison of BAGS (CVPR 2020); 0 for what it does not compare.
        published: How ``lt_train.evaluation.comparison.published`` calls the method; empty where nothing was published.
    """

    summary: str
    source: str
    equal: Mapping[str, Any]
    code: Mapping[str, Any] = field(default_factory=dict)
    text: Mapping[str, Any] = field(default_factory=dict)
    needs: str = "nothing"
    keeps_classifier: bool = False
    row: int = 0
    published: str = ""

    @property
    def starts_from_run(self) -> bool:
        """Whether it is a second stage, which goes on from a trained run."""
        return self.needs != "nothing"

    @property
    def kind(self) -> Kind:
        """What sets it apart, read off what it fills; the box head may be trained with the ``classifier only``."""
        if self.equal["calibration"]["name"] != "none":
            return "post-hoc"
        if self.equal["train"] != "all":
            return "classifier only"
        if self.equal["sampler"]["name"] != "shuffle":
            return "sampler"
        return "baseline" if self.equal["head"] == {"name": "softmax"} else "whole network"
