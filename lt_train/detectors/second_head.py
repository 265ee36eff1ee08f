"""A second classifier beside the detector's own, trained on all classes alike; at test it scores the rare ones.

Shapes: N images, R regions, C foreground classes, D features of a region, P x P cells of a pooled map. Labels are 0..C
with 0 = background.

Source: Wang et al., "The Devil is in Classification: A Simple Framework for Long-tail Instance Segmentation", ECCV
2020 (SimCal).
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from lt_data.errors import RecipeError
from lt_train.data.target import Target
from lt_train.detectors.regions.sampling import image_seeds, keyed_priorities, torchvision_priorities
from lt_train.heads.shared.base import Head, micro_batch_sum

Kind = Literal["2fc-rand", "3fc-rand", "3fc-ft"]
Scores = Literal["dual", "calibrated", "original"]


class SecondHead(nn.Module):
    """Fully connected layers from the pooled map of a region to a softmax over the background and all classes.

    Args:
        layers: The layers, the last of which gives C + 1 logits.
        tail: [C + 1] bool, the classes that it scores.
        goes_on: Whether it starts from the layers of the detector.
        scores: ``dual``, or one of the two heads alone.

    Attributes:
        tail: As given; not saved, since it follows from counts and options.
    """

    tail: Tensor

    def __init__(self, layers: dict[str, nn.Module], tail: Tensor, *, goes_on: bool, scores: Scores) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.goes_on = goes_on
        self.use = scores
        self.register_buffer("tail", tail, persistent=False)

    @classmethod
    def beside(
        cls,
        box_head: Any,
        classifier: nn.Linear,
        head: Head,
        *,
        kind: Kind,
        below: int,
        scores: Scores,
        generator: torch.Generator | None = None,
    ) -> SecondHead:
        """The second head of a detector, as wide as its own.

        Args:
            box_head: The detector's two fully connected layers, ``fc6`` and ``fc7``.
            classifier: What gives the detector's logits.
            head: What these mean.
            kind: ``3fc-ft`` (two hidden layers and the classifier, as the detector's and with their weights),
                ``3fc-rand`` (the same with random ones) or ``2fc-rand`` (one hidden layer).
            below: Classes with fewer training instances are scored by the second head.
            scores: See the class.
            generator: Source of the random weights; ``None`` draws from PyTorch's global generator.

        Raises:
            RecipeError: The detector has other layers, or other scores than a softmax.
        """
        layers: dict[str, Any] = {name: getattr(box_head, name, None) for name in ("fc6", "fc7")}
        if not all(isinstance(layer, nn.Linear) for layer in layers.values()):
            raise RecipeError(
                f"second_head.kind: got {kind}, which is made as the detector's own head is, from two fully connected "
                f"layers fc6 and fc7; {type(box_head).__name__} has none; choose a model.name that has them"
            )
        if head.scores_by != "softmax":
            raise RecipeError(
                f"second_head.kind: got {kind}, whose scores are a softmax over the background and all classes; those "
                f"of {type(head).__name__} are not, and stand on another scale; start from a run with head=softmax"
            )
        layers["cls_score"] = classifier
        counts = torch.tensor(head.counts.instances, device="cpu")
        tail = torch.cat([torch.zeros(1, dtype=torch.bool, device="cpu"), counts < below]).to(classifier.weight.device)
        goes_on = kind == "3fc-ft"
        own = deepcopy(layers) if goes_on else _random_layers(kind, layers, len(tail), generator)
        return cls(own, tail, goes_on=goes_on, scores=scores)

    def start(self, box_head: Any, classifier: nn.Linear) -> None:
        """Takes the weights of the detector's layers, where it goes on from them."""
        if self.goes_on:
            for name, layer in (("fc6", box_head.fc6), ("fc7", box_head.fc7), ("cls_score", classifier)):
                self.get_submodule(name).load_state_dict(layer.state_dict())

    def forward(self, pooled: Tensor) -> Tensor:
        """Pooled maps [R, channels, P, P] -> logits [R, C + 1], logit 0 is the background's."""
        *hidden, last = self.children()
        features = pooled.flatten(start_dim=1)
        for layer in hidden:
            features = F.relu(layer(features))
        logits: Tensor = last(features)
        return logits

    def loss(self, pooled: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """``loss_second_head``: cross-entropy, mean over all regions of a forward pass, whichever process has them.

        Args:
            pooled: [R, channels, P, P].
            labels: [R] int64 in 0..C.
        """
        losses = F.cross_entropy(self(pooled).float(), labels, reduction="none")
        return {"loss_second_head": micro_batch_sum(losses, None)}

    @property
    def is_asked(self) -> bool:
        """Whether it scores anything."""
        return self.use != "original"

    def merged(self, original: Tensor, own: Tensor) -> Tensor:
        """Dual-head scores: the columns of rare classes are the second head's; their sum may be other than 1.

        Args:
            original: [R, C + 1], the detector's scores; column 0 is background.
            own: [R, C + 1], the softmax of its own logits.
        """
        return own if self.use == "calibrated" else torch.where(self.tail, own, original)


def _random_layers(
    kind: Kind, own: dict[str, Any], logits: int, generator: torch.Generator | None
) -> dict[str, nn.Module]:
    """Layers of the sizes of the detector's, with PyTorch's usual initial weights."""
    names = ("fc6", "cls_score") if kind == "2fc-rand" else ("fc6", "fc7", "cls_score")
    layers: dict[str, nn.Module] = {}
    inputs = own["fc6"].in_features
    for name in names:
        outputs = logits if name == "cls_score" else own[name].out_features
        layers[name] = _random_layer(inputs, outputs, own[name].weight.device, generator)
        inputs = outputs
    return layers


def _random_layer(inputs: int, outputs: int, device: torch.device, generator: torch.Generator | None) -> nn.Linear:
    """What ``nn.Linear`` starts as, drawn from a generator: all numbers evenly in +-1 / sqrt(inputs)."""
    layer = nn.Linear(inputs, outputs, device="meta").to_empty(device=device)
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, -(inputs**-0.5), inputs**-0.5, generator=generator)
    return layer


def balanced_regions(labels: Sequence[Tensor], targets: Sequence[Target], draw_key: Sequence[int] = ()) -> list[Tensor]:
    """Which regions a second head is trained on: those of the drawn class, and as many of the background.

    The background is drawn in each image with the image's own key ("second-head"), so that the regions of an image do
    not depend on the batch, the accumulation or the process that it is in.

    Args:
        labels: N tensors [R_i] int64 in 0..C.
        targets: N targets; ``only`` names the drawn class, without it the objects of all classes count.
        draw_key: Tells the draws of these RoI heads from those of others in the same detector.

    Returns:
        N tensors of places, ascending.
    """
    padded = pad_sequence(list(labels), batch_first=True, padding_value=-1)
    only = torch.tensor([target.get("only", 0) for target in targets], device=padded.device)[:, None]
    positive = torch.where(only > 0, padded == only, padded > 0)
    keys = image_seeds(targets, "second-head", *draw_key)
    rows = [
        torchvision_priorities(row) if key is None else keyed_priorities([key], len(row), row.device)[0]
        for key, row in zip(keys, padded, strict=True)
    ]
    priority = torch.stack(rows).where(padded == 0, -1)
    # place of each region among the background of its image, best first
    place = priority.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    negative = (padded == 0) & (place < positive.sum(dim=1, keepdim=True))
    image, region = (positive | negative).nonzero(as_tuple=True)
    return list(region.split(torch.bincount(image, minlength=len(labels)).tolist()))
