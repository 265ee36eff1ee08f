"""Heads: what logits mean. One file per method, and one for the options of a family; the table and the union list them.

A row is ``name: "module:class"``, so that listing the names imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from lt_data.errors import RecipeError
from lt_train.heads.groups.options import BagsOptions
from lt_train.heads.shared.counts import TrainingCounts
from lt_train.heads.sigmoid import options as sigmoid
from lt_train.heads.softmax import options as softmax
from lt_train.options.section import Section, make_section, option_defaults, sections_of

if TYPE_CHECKING:
    from lt_train.heads.shared.background_last import BackgroundLast
    from lt_train.heads.shared.base import Head

__all__ = ["HEADS", "HeadOptions", "head_options", "make_head", "make_head_with_background_last"]

HEADS: dict[str, str] = {
    "softmax": "lt_train.heads.softmax.plain:SoftmaxHead",
    "reweight": "lt_train.heads.softmax.reweight:ReweightHead",
    "balanced-softmax": "lt_train.heads.softmax.balanced:BalancedSoftmaxHead",
    "seesaw": "lt_train.heads.softmax.seesaw:SeesawHead",
    "loce": "lt_train.heads.softmax.equilibrium:EquilibriumHead",
    "focal": "lt_train.heads.sigmoid.focal:FocalHead",
    "equalization": "lt_train.heads.sigmoid.equalization:EqualizationHead",
    "equalization-v2": "lt_train.heads.sigmoid.equalization_v2:EqualizationV2Head",
    "droploss": "lt_train.heads.sigmoid.droploss:DropLossHead",
    "acsl": "lt_train.heads.sigmoid.acsl:AcslHead",
    "federated": "lt_train.heads.sigmoid.federated:FederatedHead",
    "ecm": "lt_train.heads.sigmoid.effective_margin:EffectiveMarginHead",
    "gumbel": "lt_train.heads.sigmoid.gumbel:GumbelHead",
    "balanced-sigmoid": "lt_train.heads.sigmoid.balanced:BalancedSigmoidHead",
    "bags": "lt_train.heads.groups.bags:BagsHead",
}
# the options of each of them
HeadOptions = Annotated[
    softmax.SoftmaxOptions
    | softmax.ReweightOptions
    | softmax.BalancedSoftmaxOptions
    | softmax.SeesawOptions
    | softmax.EquilibriumOptions
    | sigmoid.FocalOptions
    | sigmoid.EqualizationOptions
    | sigmoid.EqualizationV2Options
    | sigmoid.DropLossOptions
    | sigmoid.AcslOptions
    | sigmoid.FederatedOptions
    | sigmoid.EffectiveMarginOptions
    | sigmoid.GumbelOptions
    | sigmoid.BalancedSigmoidOptions
    | BagsOptions,
    Field(discriminator="name"),
]


def make_head(
    name: str,
    *,
    instance_counts: Sequence[int],
    image_counts: Sequence[int] | None = None,
    num_images: int | None = None,
    **options: Any,
) -> Head:
    """The head called ``name`` for a training file with these counts.

    Args:
        name: A key of ``HEADS``.
        instance_counts: Non-crowd training instances of classes 1..C, in that order; zeros are allowed.
        image_counts: Images with at least one of them; only some heads go by images.
        num_images: Images of the training file, for the same heads.
        **options: Options of the method, see :func:`head_options`.

    Raises:
        RecipeError: The name or an option is unknown, a value is out of range, or counts that the head goes by are
            missing.
    """
    chosen = make_section(_section(name), options, where=f"head {name}")
    module, _, attribute = HEADS[name].partition(":")
    head_class: Any = getattr(import_module(module), attribute)
    head: Head = head_class(TrainingCounts.checked(instance_counts, image_counts, num_images), chosen)
    return head


def make_head_with_background_last(name: str, **arguments: Any) -> BackgroundLast:
    """The head called ``name`` for a framework that puts the background behind the classes, as most do.

    Args:
        name: A key of ``HEADS``.
        **arguments: See :func:`make_head`.

    Raises:
        RecipeError: As :func:`make_head`.
    """
    module: Any = import_module("lt_train.heads.shared.background_last")
    wrapped: BackgroundLast = module.BackgroundLast(make_head(name, **arguments))
    return wrapped


def head_options(name: str) -> dict[str, Any]:
    """Options of a head and their defaults.

    Raises:
        RecipeError: No head has that name.
    """
    return option_defaults(_section(name))


def _section(name: str) -> type[Section]:
    if name not in HEADS:
        raise RecipeError(f"head: got {name!r}; allowed are {', '.join(sorted(HEADS))}")
    return sections_of(HeadOptions)[name]
