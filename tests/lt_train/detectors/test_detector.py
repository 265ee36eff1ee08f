"""The detector's contract: inputs, outputs, keyed draws, errors, what is computed."""

import pytest
import torch

from lt_data.errors import DataError, RecipeError
from lt_train.data.instance_masks import InstanceMasks
from lt_train.detectors import build_detector, set_trainable
from lt_train.heads import HEADS, make_head
from tests.lt_train.detectors.scenes import COUNTS, batch, scene, small

torch.set_num_threads(1)

SHARED_LOSSES = {"loss_box_reg", "loss_objectness", "loss_rpn_box_reg"}


def head_losses(head):
    labels = torch.zeros(1, dtype=torch.int64)
    return set(head.loss(torch.zeros(1, head.num_logits), labels, objects=labels - 1))


# every head on the small detectors, two of them on the others too
EVERY_HEAD = [
    pytest.param(name, head, marks=() if "small" in name or head in ("softmax", "bags") else pytest.mark.slow)
    for name in ("mask_rcnn_small", "faster_rcnn_small", "mask_rcnn_lite0", "faster_rcnn_lite0")
    for head in sorted(HEADS)
]


@pytest.mark.parametrize(("name", "head"), EVERY_HEAD)
def test_losses_and_detections(name, head):
    model = small(name, head, num_detections=20)
    images, targets = batch([1, 2])
    losses = model(images, targets)
    masks = {"loss_mask"} if name.startswith("mask") else set()
    assert set(losses) == head_losses(model.head) | SHARED_LOSSES | masks
    total = sum(losses.values())
    assert torch.isfinite(total)
    total.backward()
    # a group without a region in the batch does not train its logits; everything else trains
    classifier = "roi_heads.box_predictor.cls_score"
    idle = [n for n, p in model.named_parameters() if p.grad is None or not bool(p.grad.abs().sum() > 0)]
    assert not [n for n in idle if not n.startswith(classifier) and "mask_fcn_logits" not in n]
    model.eval()
    with torch.no_grad():
        detections = model(images)
    for image, found in zip(images, detections, strict=True):
        height, width = image.shape[-2:]
        assert set(found) == {"boxes", "labels", "scores"} | ({"mask_probs"} if masks else set())
        count = len(found["boxes"])
        assert 0 < count <= 20
        assert bool((found["boxes"] >= 0).all() and (found["boxes"] <= max(height, width)).all())
        assert 1 <= int(found["labels"].min()) <= int(found["labels"].max()) <= len(COUNTS)
        assert bool((found["scores"].diff() <= 0).all())
        if masks:
            assert found["mask_probs"].shape == (count, 28, 28)
            assert bool(((found["mask_probs"] >= 0) & (found["mask_probs"] <= 1)).all())


def test_boxes_come_back_in_the_original_image():
    model = small(side=96, num_detections=5)
    model.eval()
    image = scene(3, side=64)[0][:, :40]
    with torch.no_grad():
        boxes = model([image])[0]["boxes"]
    assert float(boxes[:, [0, 2]].max()) <= 64.001
    assert float(boxes[:, [1, 3]].max()) <= 40.001


def test_masks_of_a_label_are_those_of_its_channel():
    """The one channel that is computed equals that channel of torchvision's predictor."""
    model = small()
    roi_heads = model.roi_heads
    features = model.backbone(torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    boxes = [torch.tensor([[3.0, 4, 40, 50], [10, 10, 20, 30], [0, 0, 64, 64]])]
    labels = torch.tensor([5, 1, 6])
    got = roi_heads.masks(features, boxes, labels, [(64, 64)])
    all_channels = roi_heads.mask_predictor(roi_heads.mask_head(roi_heads.mask_roi_pool(features, boxes, [(64, 64)])))
    torch.testing.assert_close(got, all_channels[torch.arange(3), labels], atol=1e-5, rtol=1e-5)


# --- keyed draws ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", sorted(HEADS))
def test_keyed_training_ignores_and_leaves_the_global_generator(head):
    images, targets = batch([1, 2])
    for target in targets:
        target["short_side"] = 64
    model = small(head=head)
    model.transform.min_size = (48, 64, 80)
    results = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        with model.head.state_kept():
            results.append(model(images, targets))
        assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(results[0][key], results[1][key]) for key in results[0])


def test_draw_seed_changes_what_is_sampled():
    images, targets = batch([1, 2])
    model = small()
    first = model(images, targets)
    other = model(images, [{**t, "draw_seed": t["draw_seed"] + 50} for t in targets])
    assert not torch.equal(first["loss_objectness"], other["loss_objectness"])
    assert not torch.equal(first["loss_classifier"], other["loss_classifier"])


def test_sampled_regions_of_an_image_do_not_depend_on_its_batch():
    """The regions of image 1 are the same alone and as the second of a batch (statistics of batch norm are stored)."""
    images, targets = batch([1, 2])
    model = small()
    set_trainable(model, "head")

    def regions(pick):
        chosen = [images[i] for i in pick], [targets[i] for i in pick]
        inputs, resized = model.transform(*chosen)
        proposals, _ = model.rpn(inputs, model.backbone(inputs.tensors), resized)
        return model.roi_heads.propose(proposals, resized)

    alone, together = regions([1]), regions([0, 1])
    torch.testing.assert_close(alone.boxes[0], together.boxes[1], atol=1e-3, rtol=0)
    assert torch.equal(alone.labels[0], together.labels[1])


def test_micro_batches_reach_the_head():
    """Two images as micro-batches of one: the head's losses are the means of the losses by image."""
    images, targets = batch([1, 2])
    model = small(head="bags")
    model.head.options = model.head.options.model_copy(update={"others_ratio": float("inf")})
    set_trainable(model, "classifier")
    each = [model([i], [t]) for i, t in zip(images, targets, strict=True)]
    whole = model(images, targets)
    model.roi_heads.micro_batch_images = 1
    together = model(images, targets)
    for key, value in together.items():
        torch.testing.assert_close(value, torch.stack([losses[key] for losses in each]).mean(), atol=1e-5, rtol=1e-5)
    assert any(not torch.isclose(whole[key], together[key], atol=1e-3) for key in together)


def test_initial_weights_come_from_the_generator():
    state = torch.get_rng_state()
    first, again, other = small(seed=4), small(seed=4), small(seed=5)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    weight = "roi_heads.box_predictor.cls_score.weight"
    assert not torch.equal(first.state_dict()[weight], other.state_dict()[weight])
    assert float(first.state_dict()[weight].std()) == pytest.approx(0.01, rel=0.1)
    assert float(first.state_dict()[weight.replace("weight", "bias")].abs().sum()) == 0


# --- input errors -----------------------------------------------------------------------------------------------------


def test_bad_boxes_and_labels_are_named():
    images, targets = batch([1, 2])
    targets[1]["boxes"][2] = torch.tensor([10.0, 10, 10, 20])
    targets[1]["boxes"][3, 0] = float("nan")
    targets[0]["labels"][1] = 7
    with pytest.raises(DataError) as error:
        small()(images, targets)
    assert error.value.problems == [
        "image 101, object 1: label is 7; allowed are 1..6, check the category mapping",
        "image 102, object 2: box is [10, 10, 10, 20]; needed is x1 < x2 and y1 < y2, drop or repair the annotation",
        next(p for p in error.value.problems if p.startswith("image 102, object 3: box is [nan")),
    ]


def test_bad_shapes_and_missing_parts():
    images, targets = batch([1])
    model = small()
    with pytest.raises(DataError, match="none given"):
        model(images)
    with pytest.raises(DataError, match=r"image 101: boxes are \(4, 4\) and labels \(3,\)"):
        model(images, [{**targets[0], "labels": targets[0]["labels"][:3]}])
    with pytest.raises(DataError, match="masks: missing"):
        model(images, [{k: v for k, v in targets[0].items() if k != "masks"}])


def test_unknown_names():
    head = make_head("softmax", instance_counts=COUNTS)
    with pytest.raises(RecipeError, match="mask_rcnn_r50_fpn"):
        build_detector("mask_rcnn", head)


# --- what is computed -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "losses"),
    [
        ("all", {"loss_classifier", "loss_mask", *SHARED_LOSSES}),
        ("head+reg", {"loss_classifier", "loss_box_reg"}),
        ("head", {"loss_classifier", "loss_box_reg"}),
        ("classifier", {"loss_classifier"}),
    ],
)
def test_only_what_trains_is_computed(part, losses, monkeypatch):
    model = small()
    set_trainable(model, part)
    calls = []
    for name in ("mask_head", "box_head"):
        getattr(model.roi_heads, name).register_forward_hook(lambda *_, name=name: calls.append(name))
    monkeypatch.setattr(model.rpn, "losses", lambda *a, own=model.rpn.losses: calls.append("rpn") or own(*a))
    grad_modes = []
    model.backbone.register_forward_hook(lambda *_: grad_modes.append(torch.is_grad_enabled()))
    got = model(*batch([1, 2]))
    assert set(got) == losses
    assert grad_modes == [part == "all"]
    assert ("mask_head" in calls, "rpn" in calls) == (part == "all", part == "all")
    assert sum(got.values()).requires_grad


def test_stage_two_needs_no_masks_and_keeps_the_proposals_of_training():
    """The regions that the classifier sees are those it would see if everything was trained."""
    images, targets = batch([1, 2])
    model = small()
    set_trainable(model, "head")
    model.rpn._post_nms_top_n = {"training": 40, "testing": 7}
    seen = []
    model.roi_heads.box_roi_pool.register_forward_hook(lambda _, inputs, out: seen.append([len(b) for b in inputs[1]]))
    everything = model(images, targets)
    set_trainable(model, "classifier")
    bare = [{k: v for k, v in t.items() if k != "masks"} for t in targets]
    classifier_only = model(images, bare)
    assert torch.equal(everything["loss_classifier"], classifier_only["loss_classifier"])
    assert seen[0] == seen[1]
    assert min(seen[0]) > 7 + len(targets[0]["boxes"])


def test_losses_for_validation_under_no_grad():
    """Trainable parts decide, not the grad mode: all losses are there."""
    model = small()
    with torch.no_grad():
        losses = model(*batch([1]))
    assert {"loss_mask", *SHARED_LOSSES} < set(losses)


def test_image_without_objects_trains():
    model = small(head="bags")
    images, targets = scene(1, objects=0)
    assert isinstance(targets["masks"], InstanceMasks)
    losses = model([images], [targets])
    sum(losses.values()).backward()
    assert float(losses["loss_mask"].detach()) == 0
    assert float(losses["loss_group_0"].detach()) > 0


@pytest.mark.parametrize("regions", ["ground-truth", "proposals"])
def test_features_for_a_calibration(regions):
    """``fc-relu`` is what the classifier sees, ``fc`` what its ReLU gets, ``conv`` the pooled map."""
    model, (images, targets) = small(), batch([1, 2])
    model.train()
    found = {
        kind: model.labelled_features(images, targets, kind=kind, regions=regions)[0]
        for kind in ("fc", "fc-relu", "conv")
    }
    assert {kind: features.shape[1] for kind, features in found.items()} == model.roi_heads.calibration_sizes
    assert bool((found["fc"] < 0).any())
    assert torch.equal(found["fc"].relu(), found["fc-relu"])
    with torch.no_grad():
        pooled = found["conv"].reshape(len(found["conv"]), -1, *[model.roi_heads.box_roi_pool.output_size[0]] * 2)
        assert torch.equal(model.roi_heads.embed(pooled), found["fc-relu"])


def test_logits_for_a_calibration_are_those_of_all_sampled_regions():
    """Background, too; the objects among them are the proposals that stand for one."""
    model, (images, targets) = small(), batch([1, 2])
    model.train()
    logits, labels = model.labelled_features(images, targets, kind="logits", regions="sampled")
    assert logits.shape == (len(labels), len(COUNTS) + 1)
    assert bool((labels == 0).any())
    features, found = model.labelled_features(images, targets, kind="fc-relu", regions="proposals")
    assert torch.equal(labels[labels > 0], found)
    with torch.no_grad():
        torch.testing.assert_close(logits[labels > 0], model.roi_heads.classify(features), rtol=1e-4, atol=1e-5)


def test_scores_of_regions_are_those_that_detections_are_chosen_from():
    model, (images, _) = small(score_threshold=0.0), batch([1, 2])
    model.eval()
    with torch.no_grad():
        scores, found = model.region_scores(images), model(images)
    assert scores.shape[1] == len(COUNTS) + 1
    assert {float(s) for d in found for s in d["scores"]} <= {float(s) for s in scores[:, 1:].flatten()}
