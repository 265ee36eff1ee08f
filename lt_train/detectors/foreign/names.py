"""The weights of torchvision's ResNet detectors by name, and giving other tools' weights these names.

A layer is what has a weight and a bias. Shapes: C foreground classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor

from lt_data.errors import DataError

TRUNK = "backbone.body."
STEM, STEM_NORM = f"{TRUNK}conv1", f"{TRUNK}bn1"
CLASSIFIER = "roi_heads.box_predictor.cls_score"
REGRESSOR = "roi_heads.box_predictor.bbox_pred"
MASK_LOGITS = "roi_heads.mask_predictor.mask_fcn_logits"
LATERAL, OUTPUT = "backbone.fpn.inner_blocks.{}.0", "backbone.fpn.layer_blocks.{}.0"
RPN_CONV, RPN_LOGITS, RPN_BOXES = "rpn.head.conv.0.0", "rpn.head.cls_logits", "rpn.head.bbox_pred"
BOX_LAYERS = ("roi_heads.box_head.fc6", "roi_heads.box_head.fc7")
# of Hybrid Task Cascade, where it has one
SEMANTIC = "roi_heads.semantic."
MASK_CONV, MASK_UPSAMPLING = "roi_heads.mask_head.{}.0", "roi_heads.mask_predictor.conv5_mask"

# blocks of the stages of a ResNet-50, and of a ResNet-101 and the ResNeXt-101s
BLOCKS, MORE_BLOCKS = (3, 4, 6, 3), (3, 4, 23, 3)
LAYER = ("weight", "bias")
NORM = ("weight", "bias", "running_mean", "running_var")
# a count that batch norms keep and nothing here uses
UNUSED = "num_batches_tracked"
# whose weights are taken, for messages
DETECTORS = "Faster or Mask R-CNN with a ResNet-50, a ResNet-101 or a ResNeXt-101 and a pyramid"
# weights that a message names when many are wrong
EXAMPLES = 3


def block_names(blocks: Sequence[int] = BLOCKS) -> list[str]:
    """Torchvision's name of each block of a ResNet, by their numbers in its stages."""
    return [f"layer{stage}.{block}" for stage, number in enumerate(blocks, 1) for block in range(number)]


def trunk_layers(blocks: Sequence[int] = BLOCKS) -> list[tuple[str, str]]:
    """Each convolution of a ResNet and the batch norm after it, by torchvision's names.

    Args:
        blocks: Their numbers in its stages.
    """
    pairs = [("conv1", "bn1")]
    for name in block_names(blocks):
        pairs += [(f"{name}.conv{i}", f"{name}.bn{i}") for i in (1, 2, 3)]
        pairs += [(f"{name}.downsample.0", f"{name}.downsample.1")] * name.endswith(".0")
    return pairs


def weights_of(convolutions: Mapping[str, str], norms: Mapping[str, str], layers: Mapping[str, str]) -> dict[str, str]:
    """A table of weights from tables of layers.

    Args:
        convolutions: Their name of each convolution without bias -> ours.
        norms: The same for batch norms.
        layers: The same for layers with a bias.
    """
    table = {f"{theirs}.weight": f"{ours}.weight" for theirs, ours in convolutions.items()}
    for parts, names in ((NORM, norms), (LAYER, layers)):
        table |= {f"{theirs}.{part}": f"{ours}.{part}" for theirs, ours in names.items() for part in parts}
    return table


def renamed(
    state: Mapping[str, Tensor], table: Mapping[str, str], *, tool: str, where: str, what: str = DETECTORS
) -> dict[str, Tensor]:
    """Weights under our names; each name of the table is needed, and no other is taken.

    Args:
        state: Weights under their names.
        table: Their name -> ours, of every weight of the detector.
        tool: Who wrote them, for messages.
        where: The file, for messages.
        what: Which detectors they may be of, for messages.

    Raises:
        DataError: A weight is missing, or one has no place.
    """
    needed = f"is missing; needed is every weight of {tool}'s {what}"
    problems = some([key for key in table if key not in state], needed)
    beside = [key for key in state if key not in table and key.rpartition(".")[2] != UNUSED]
    problems += some(beside, f"has no place in {tool}'s {what}")
    if problems:
        raise DataError(f"weights {where}: {problem}" for problem in problems)
    return {ours: state[theirs] for theirs, ours in table.items()}


def some(keys: Sequence[str], problem: str) -> list[str]:
    """A problem of many weights by its first examples."""
    more = len(keys) - EXAMPLES
    return [f"{key} {problem}" for key in keys[:EXAMPLES]] + [f"and {more} more: {problem}"] * (more > 0)


def any_begins(names: Iterable[str], *beginnings: str) -> bool:
    """Whether a name begins like that."""
    return any(name.startswith(beginnings) for name in names)
