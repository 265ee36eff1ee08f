"""The loss of a box regressor.

Shapes: R regions over the batch, C foreground classes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from lt_train.detectors.regions.sampled import Regions
from lt_train.global_batch import divisor


def box_loss(deltas: Tensor, regions: Regions, *, beta: float) -> Tensor:
    """Torchvision's: smooth L1 of the label's deltas, summed over foreground regions, over the number of all.

    Written out because torchvision's function looks for the foreground again, and takes logits.

    Args:
        deltas: [R, 4(C+1)], or [R, 4] of a regressor without classes; float32.
        regions: The regions, with box targets.
        beta: Where the loss turns linear.
    """
    rows = deltas.view(len(deltas), deltas.shape[1] // 4, 4)
    parts = rows.split([len(part) for part in regions.labels])
    found = torch.cat([part[:n] for part, n in zip(parts, regions.positives, strict=True)])
    foreground = regions.foreground()
    labels, wanted = torch.cat(foreground.labels), torch.cat(foreground.box_targets)
    agnostic = rows.shape[1] == 1
    own = found[:, 0] if agnostic else found.gather(1, labels[:, None, None].expand(-1, 1, 4))[:, 0]
    distance = F.smooth_l1_loss(own, wanted, beta=beta, reduction="sum")
    return distance / divisor(len(deltas), deltas.device)
