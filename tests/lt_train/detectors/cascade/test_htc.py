"""Hybrid Task Cascade: flow of masks, the semantic branch, and what is left without either."""

import pytest
import torch
from torch import nn
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor

from lt_data.errors import DataError, RecipeError
from lt_train.data.dataset import flip_horizontally
from lt_train.detectors import build_detector, initialise_from, set_trainable
from lt_train.detectors.cascade.mask_flow import FlowMaskHead
from lt_train.detectors.cascade.semantic import SemanticBranch, level_of_stride, stuff_cells
from lt_train.detectors.regions.mask_predictor import masks_of_labels
from lt_train.heads import make_head
from tests.lt_train.detectors.scenes import batch, scene, small

torch.set_num_threads(1)

# logits of channel 1, the first 8 cells
BY_HAND = [
    [-0.127625, -0.198458, -0.141688, -0.171375, -0.144625, -0.127771, -0.148813, -0.139313],
    [0.180810, 0.319114, 0.156588, 0.235545, 0.210214, 0.169142, 0.189442, 0.150000],
    [0.183347, 0.326329, 0.156823, 0.240468, 0.212247, 0.171124, 0.190705, 0.150000],
]
MEAN = [0.519642, 0.536841, 0.514277, 0.525235, 0.523044, 0.517654, 0.519206, 0.513363]
WITHOUT_FLOW = [0.166188, 0.277604, 0.159188, 0.217375, 0.198271, 0.157688, 0.184125, 0.150875]


def with_stuff(seeds, side=64):
    """Scenes with stuff maps: two labels in halves, and a part without."""
    images, targets = batch(seeds, side=side)
    for target in targets:
        stuff = torch.full((side, side), 100, dtype=torch.uint8)
        stuff[: side // 2] = 181
        stuff[:16, :16] = 255
        target["stuff"] = stuff
    return images, targets


# --- masks ------------------------------------------------------------------------------------------------------------


def by_hand():
    """Three mask heads of 2 channels and their predictors, with weights in a simple order; and pooled maps."""
    heads, predictors = [], []
    for stage in range(3):
        heads.append(FlowMaskHead(MaskRCNNHeads(2, [2], 1), 2, 2, heads[-1] if heads else None))
        predictors.append(MaskRCNNPredictor(2, 2, 3))
        layers = [heads[-1].convs[0][0], *([heads[-1].flow[0]] if stage else [])]
        layers += [predictors[-1].conv5_mask, predictors[-1].mask_fcn_logits]
        for i, parameter in enumerate(p for layer in layers for p in (layer.weight, layer.bias)):
            values = ((7 * torch.arange(parameter.numel()) + 3 * i) % 11 - 3).double() / 20
            parameter.data = values.view(parameter.shape)
    pooled = ((((5 * torch.arange(16)) % 13) - 6).double() / 6).view(2, 2, 2, 2)
    return heads, predictors, pooled


def test_flow_by_hand():
    heads, predictors, pooled = by_hand()
    rows = [masks_of_labels(p, head(pooled), torch.tensor([1, 1])) for head, p in zip(heads, predictors, strict=True)]
    for logits, want in zip(rows, BY_HAND, strict=True):
        torch.testing.assert_close(logits[0].flatten()[:8], torch.tensor(want).double(), atol=1e-6, rtol=0)
    mean = torch.stack(rows).sigmoid().mean(dim=0)
    torch.testing.assert_close(mean[0].flatten()[:8], torch.tensor(MEAN).double(), atol=1e-6, rtol=0)
    sum(row.sum() for row in rows[2:]).backward()
    # the loss of the last stage trains the heads before it
    assert all(bool(head.convs[0][0].weight.grad.abs().sum() > 0) for head in heads)
    heads[2].flow = None
    alone = masks_of_labels(predictors[2], heads[2](pooled), torch.tensor([1, 1]))
    torch.testing.assert_close(alone[0].flatten()[:8], torch.tensor(WITHOUT_FLOW).double(), atol=1e-6, rtol=0)


def test_masks_of_detections_are_those_of_each_head_by_itself():
    """At test every head is run once, and passes on what it made."""
    model = small("htc_small").eval()
    roi_heads = model.roi_heads
    pooled = torch.rand(3, model.backbone.out_channels, 14, 14, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(
            roi_heads.mask_features(pooled), [stage.mask_head(pooled) for stage in roi_heads.of_stages]
        )


def test_without_flow_and_interleaving_it_is_a_cascade(monkeypatch):
    htc, cascade = small("htc_small", num_detections=10), small("cascade_mask_rcnn_small", num_detections=10)
    for stage in htc.roi_heads.of_stages:
        stage.mask_head.flow = None
    monkeypatch.setattr(type(htc.roi_heads), "interleaved", False)
    own = cascade.state_dict()
    state = {name.replace("mask_head.convs.", "mask_head."): value for name, value in htc.state_dict().items()}
    assert set(state) == set(own)
    cascade.load_state_dict(state)
    images, targets = batch([1, 2])
    losses = [model(images, targets) for model in (htc, cascade)]
    assert losses[0] == losses[1]
    with torch.no_grad():
        found = [model.eval()(images) for model in (htc, cascade)]
    torch.testing.assert_close(*found, atol=0, rtol=0)


# --- semantic branch --------------------------------------------------------------------------------------------------


def test_semantic_losses_and_detections():
    model, (images, targets) = small("htc_small", "bags", semantic="stuff", num_detections=10), with_stuff([1, 2])
    losses = model(images, targets)
    assert "loss_semantic" in losses
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in model.parameters())
    assert all(bool(p.grad.abs().sum() > 0) for p in model.roi_heads.semantic.parameters())
    model.eval()
    with torch.no_grad():
        found = model(images)
    assert found[0]["mask_probs"].shape == (10, 28, 28)
    # boxes and masks depend on the features of the branch
    nn.init.zeros_(model.roi_heads.semantic.embedding[0].weight)
    with torch.no_grad():
        other = model(images)
    assert not torch.equal(found[0]["scores"], other[0]["scores"])


def test_frozen_semantic_branch_gives_features_and_no_loss():
    model, (images, targets) = small("htc_small", "bags", semantic="stuff"), batch([1, 2])
    set_trainable(model, "classifier")
    calls = []
    model.roi_heads.semantic.logits.register_forward_hook(lambda *_: calls.append("logits"))
    model.roi_heads.semantic.embedding.register_forward_hook(lambda *_: calls.append("features"))
    losses = model(images, targets)
    assert {name[:8] for name in losses} == {"s0.loss_", "s1.loss_", "s2.loss_"}
    assert calls == ["features"]
    model.add_calibration("ncm")
    model.start_calibration()
    model.fit_calibration(images, targets)
    assert calls == ["features"] * 2


def test_weights_with_a_semantic_branch_and_without_are_not_mixed():
    """The layers behind it have learned with its features, or without."""
    plain, semantic = small("htc_small"), small("htc_small", semantic="stuff")
    for model, other, says in (
        (plain, semantic, "they have a semantic branch, the recipe's model has none; set model.semantic=stuff, or"),
        (semantic, plain, "they have no semantic branch, the recipe's model has one; set model.semantic=none, or"),
    ):
        with pytest.raises(DataError) as error:
            initialise_from(model, other.state_dict(), where="a.pt")
        assert [problem.partition(": ")[2].startswith(says) for problem in error.value.problems] == [True]


def test_semantic_loss_is_the_mean_over_labelled_cells():
    branch = SemanticBranch(4, 2)
    features = [torch.rand(2, 4, side, side, generator=torch.Generator().manual_seed(side)) for side in (16, 8)]
    # the second image is smaller: its padding has no label
    _, targets = with_stuff([1])
    targets = [targets[0], {"stuff": torch.full((40, 48), 7, dtype=torch.uint8)}]
    hidden = branch.hidden(features, [(64, 64), (40, 48)])
    assert hidden.shape == (2, 4, 8, 8)
    cells = stuff_cells(targets, hidden)
    assert cells[0, :4].unique().tolist() == [181, 255]
    assert cells[0, 4:].unique().tolist() == [100]
    assert int((cells[0] == 255).sum()) == 4
    assert int((cells[1] == 7).sum()) == 5 * 6
    logits = branch.logits(hidden).double().log_softmax(dim=1)
    labelled = cells != 255
    wanted = logits.permute(0, 2, 3, 1)[labelled].gather(1, cells[labelled][:, None])
    loss = branch.loss(hidden, targets)
    torch.testing.assert_close(loss.double(), -0.2 * wanted.mean())
    nothing = branch.loss(hidden, [{"stuff": torch.full((64, 64), 255, dtype=torch.uint8)}] * 2)
    assert float(nothing.detach()) == 0
    nothing.backward()
    with pytest.raises(DataError, match="stuff: missing in a training target"):
        branch.loss(hidden, [{}, {}])


def test_stuff_maps_are_mirrored_and_resized_with_their_image():
    """By the nearest pixel: labels are not mixed."""
    (image, target), stuff = scene(1, side=64), torch.zeros(64, 64, dtype=torch.uint8)
    stuff[:, :10], stuff[20:] = 7, 90
    mirrored, flipped = flip_horizontally(image, {**target, "stuff": stuff})
    assert torch.equal(flipped["stuff"], stuff.flip(1))
    transform = small("htc_small", side=96).transform.train()
    _, resized = transform([mirrored], [{**flipped, "short_side": 96}])
    rows = torch.arange(96) * 64 // 96
    assert torch.equal(resized[0]["stuff"], stuff.flip(1)[rows][:, rows])


@pytest.mark.parametrize(
    ("padded", "image"),
    [((800, 1344), (800, 1333)), ((416, 1600), (400, 1600)), ((64, 1344), (33, 1333)), ((32, 32), (32, 20))],
)
def test_the_level_of_stride_eight(padded, image):
    """Of a narrow strip too, most of whose height is padding."""
    levels = [torch.empty(1, 1, *(-(-side // stride) for side in padded)) for stride in (4, 8, 16, 32, 64)]
    assert level_of_stride(levels, [image, (10, 10)]) == 1
    assert level_of_stride(levels[1:], [image]) == 0
    with pytest.raises(RecipeError, match=r"model\.semantic: got stuff, and .* no feature map of stride 8"):
        level_of_stride(levels[2:], [image])


def test_sizes_of_the_levels_of_a_padded_image():
    """A pyramid of five levels, the uneven ones too, becomes the one of stride 8."""
    branch = SemanticBranch(2, 5)
    sizes = [(104, 400), (52, 200), (26, 100), (13, 50), (7, 25)]
    with torch.no_grad():
        hidden = branch.hidden([torch.zeros(1, 2, *size) for size in sizes], [(400, 1600)])
    assert hidden.shape == (1, 2, 52, 200)


def test_full_size_has_the_published_numbers_of_weights():
    """LVIS v0.5 with 1,231 logits."""
    head = make_head("softmax", instance_counts=[7] * 1230)
    with torch.device("meta"):
        model = build_detector("htc_r50_fpn", head, semantic="stuff")
    stages = model.roi_heads.of_stages
    sizes = [
        sum(p.numel() for part in (stage.mask_head, stage.mask_predictor) for p in part.parameters())
        for stage in stages
    ]
    assert sizes == [2_939_087, 3_004_879, 3_004_879]
    assert sum(p.numel() for p in model.roi_heads.semantic.parameters()) == 2_802_103
    assert stages[0].box_predictor.cls_score.weight.numel() + 1231 == 1_261_775
