"""With the softmax head, the losses and detections of stock torchvision, for the same weights and random state."""

import copy

import pytest
import torch
from torch import nn
from torchvision.models.detection import MaskRCNN, maskrcnn_resnet50_fpn
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.roi_heads import paste_masks_in_image

from lt_train.detectors import DETECTORS, LongTailDetector, build_detector
from lt_train.detectors.build import stock_model
from lt_train.heads import make_head
from tests.lt_train.detectors.scenes import COUNTS, scene

torch.set_num_threads(1)

LOSSES = {"loss_classifier", "loss_box_reg", "loss_mask", "loss_objectness", "loss_rpn_box_reg"}


def samples(objects=(3, 0, 5)):
    """Images and targets without keys: everything draws from the global generator. One has no ground truth."""
    pairs = [scene(10 + i, objects=n, keyed=False) for i, n in enumerate(objects)]
    return [image for image, _ in pairs], [target for _, target in pairs]


def as_stock(target):
    stock = {key: target[key] for key in ("boxes", "labels")}
    if "masks" in target:
        stock["masks"] = torch.from_numpy(target["masks"].bitmaps())
    return stock


def blur_classes(model):
    """Random weights leave the outputs almost constant; these make scores, boxes and masks vary."""
    generator = torch.Generator().manual_seed(3)
    for name, parameter in model.named_parameters():
        if "box_predictor" in name or name.startswith("rpn.head"):
            nn.init.normal_(parameter, std=0.05, generator=generator)


def pair(spec="mask_rcnn_small", **settings):
    """A stock model and ours with equal weights."""
    torch.manual_seed(0)
    stock = stock_model(DETECTORS[spec], len(COUNTS), **{"min_size": 64, "max_size": 128, **settings})
    blur_classes(stock)
    head = make_head("softmax", instance_counts=COUNTS)
    return stock, LongTailDetector.from_stock(copy.deepcopy(stock), head)


@pytest.fixture(scope="module")
def resnet_pair():
    """Five levels, three anchors each, 256 channels: the stock configuration on a short trunk."""
    torch.manual_seed(0)
    backbone = resnet_fpn_backbone(
        backbone_name="resnet18", weights=None, norm_layer=nn.BatchNorm2d, trainable_layers=5
    )
    stock = MaskRCNN(backbone, num_classes=len(COUNTS) + 1, min_size=(48, 64), max_size=128, box_detections_per_img=7)
    blur_classes(stock)
    return stock, LongTailDetector.from_stock(copy.deepcopy(stock), make_head("softmax", instance_counts=COUNTS))


def losses_of(model, images, targets):
    torch.manual_seed(1)
    model.train()
    losses = model(images, targets)
    after = torch.rand(())
    model.zero_grad()
    sum(losses.values()).backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    return losses, gradients, after


def compare_training(stock, ours, images, targets):
    want, want_gradients, want_after = losses_of(stock, images, [as_stock(t) for t in targets])
    got, got_gradients, after = losses_of(ours, images, targets)
    assert set(got) == set(want)
    torch.testing.assert_close(got, want, atol=1e-6, rtol=1e-6)
    # the same number of draws was taken
    assert torch.equal(after, want_after)
    torch.testing.assert_close(got_gradients, want_gradients, atol=1e-5, rtol=1e-4)
    assert all(float(value.detach()) > 0 for value in want.values())


def test_training_losses_and_gradients():
    stock, ours = pair()
    images, targets = samples()
    compare_training(stock, ours, images, targets)
    assert set(losses_of(ours, images, targets)[0]) == LOSSES


def test_training_losses_of_faster_rcnn():
    stock, ours = pair("faster_rcnn_small")
    images, targets = samples()
    compare_training(stock, ours, images, [{k: v for k, v in t.items() if k != "masks"} for t in targets])


def test_training_losses_with_resized_run_lengths():
    """Bitmaps as run lengths are resized as torchvision does, so that equality holds at another size too."""
    stock, ours = pair(min_size=96)
    images, targets = samples()
    for target in targets:
        masks = target["masks"]
        rles = masks._rles(range(len(masks)))
        target["masks"] = type(masks).from_segmentations(rles, masks.height, masks.width)
    compare_training(stock, ours, images, targets)


def test_training_losses_with_random_sizes_on_a_resnet(resnet_pair):
    """Several training sizes: the size is drawn from the global generator as torchvision does."""
    stock, ours = resnet_pair
    images, targets = samples((2, 0))
    for target in targets:
        masks = target["masks"]
        target["masks"] = type(masks).from_segmentations(masks._rles(range(len(masks))), 64, 64)
    compare_training(stock, ours, images, targets)


def test_no_ground_truth_in_the_batch():
    stock, ours = pair()
    images, targets = samples((0, 0))
    want = losses_of(stock, images, [as_stock(t) for t in targets])[0]
    got = losses_of(ours, images, targets)[0]
    torch.testing.assert_close(got, want, atol=1e-6, rtol=1e-6)


# --- with regions to ignore -------------------------------------------------------------------------------------------


def test_no_regions_to_ignore():
    stock, ours = pair()
    images, targets = samples()
    compare_training(stock, ours, images, [{**target, "ignore": torch.zeros(0, 4)} for target in targets])


def covered(box, regions):
    """Intersection over own area, one number at a time."""
    x1, y1, x2, y2 = box
    for a, b, c, d in regions:
        intersection = max(0.0, min(x2, c) - max(x1, a)) * max(0.0, min(y2, d) - max(y1, b))
        if intersection / ((x2 - x1) * (y2 - y1)) >= 0.5:
            return True
    return False


def ignoring(assign, regions, *, labels_at):
    """A stock method that labels boxes, with -1 for negatives that a region covers."""

    def assign_and_ignore(boxes, *rest):
        found = assign(boxes, *rest)
        for label, part, image_regions in zip(found[labels_at], boxes, regions, strict=True):
            for i, box in enumerate(part.tolist()):
                if label[i] == 0 and covered(box, image_regions):
                    label[i] = -1
        return found

    return assign_and_ignore


def test_training_losses_with_regions_to_ignore():
    """Stock torchvision with a slow version of the rule put into its two assignments is the oracle."""
    stock, ours = pair()
    images, targets = samples()
    regions = [[[0.0, 0, 41.3, 64], [20, 20, 64, 50.7]], [[0, 0, 64, 29.1]], []]
    plain = losses_of(ours, images, targets)[0]
    for target, part in zip(targets, regions, strict=True):
        if part:
            target["ignore"] = torch.tensor(part)
    stock.rpn.assign_targets_to_anchors = ignoring(stock.rpn.assign_targets_to_anchors, regions, labels_at=0)
    heads = stock.roi_heads
    heads.assign_targets_to_proposals = ignoring(heads.assign_targets_to_proposals, regions, labels_at=1)
    compare_training(stock, ours, images, targets)
    assert not torch.equal(losses_of(ours, images, targets)[0]["loss_classifier"], plain["loss_classifier"])


def compare_detections(stock, ours, images):
    stock.eval()
    ours.eval()
    with torch.no_grad():
        wanted, got = stock(images), ours(images)
    for image, want, have in zip(images, wanted, got, strict=True):
        assert len(want["boxes"]) > 0
        torch.testing.assert_close(have["boxes"], want["boxes"], atol=1e-4, rtol=1e-6)
        torch.testing.assert_close(have["scores"], want["scores"], atol=1e-6, rtol=1e-6)
        assert torch.equal(have["labels"], want["labels"])
        pasted = paste_masks_in_image(have["mask_probs"][:, None], have["boxes"], image.shape[-2:])
        torch.testing.assert_close(pasted, want["masks"], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("settings", [{"box_score_thresh": 0.0}, {"box_score_thresh": 0.15}, {"min_size": 90}])
def test_detections(settings):
    stock, ours = pair(**{"box_detections_per_img": 50, **settings})
    images = [*samples()[0], torch.rand(3, 40, 72, generator=torch.Generator().manual_seed(0))]
    compare_detections(stock, ours, images)


def test_detections_on_a_resnet(resnet_pair):
    compare_detections(*resnet_pair, samples((2, 0))[0])


def test_limited_candidates_give_the_same_detections():
    """NMS is greedy by score: as long as enough survive, lower pairs cannot matter."""
    stock, ours = pair(box_score_thresh=0.0, box_detections_per_img=10)
    ours.roi_heads.pre_nms_topk = 150
    images, _ = samples()
    compare_detections(stock, ours, images)
    ours.roi_heads.pre_nms_topk = 5
    with torch.no_grad():
        assert all(len(d["boxes"]) <= 5 for d in ours(images))


def test_names_of_weights_are_torchvisions():
    with torch.device("meta"):
        stock = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=len(COUNTS) + 1)
        ours = build_detector("mask_rcnn_r50_fpn", make_head("softmax", instance_counts=COUNTS))
    own = {k: v.shape for k, v in ours.state_dict().items() if not k.startswith("roi_heads.head.")}
    assert own == {k: v.shape for k, v in stock.state_dict().items()}
