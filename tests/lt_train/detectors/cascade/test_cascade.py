"""Cascades: the numbers of the stages, what is averaged, and that one stage, or three equal ones, are a single one."""

import copy
from itertools import pairwise

import pytest
import torch
from torchvision.ops import box_iou

from lt_data.errors import RecipeError
from lt_train.detectors import LongTailDetector, build_detector, set_trainable
from lt_train.detectors.cascade.roi_heads import SeenByStages
from lt_train.detectors.regions.box_loss import box_loss
from lt_train.detectors.regions.sampled import Regions
from lt_train.heads import make_head
from tests.lt_train.detectors.scenes import COUNTS, any_head, batch, scene, small

torch.set_num_threads(1)

NAMES = ["cascade_rcnn_small", "cascade_mask_rcnn_small", "htc_small"]
TOY_COUNTS = [50, 5, 500, 60, 6, 5000]
# boxes, objects and deltas by hand, in an image of 240 x 320
BOXES = torch.tensor([[10.0, 20, 110, 80], [200, 50, 260, 250], [0, 0, 40, 30]])
TRUTH = torch.tensor([[20.0, 15, 130, 95], [190, 60, 270, 240], [4, 2, 44, 38]])
DELTAS = torch.tensor([[0.5, -0.25, 1, 0.75], [-1, 0.5, 0.25, -0.5], [2, 1, -1, 3]])
# of each stage: regression targets, refined boxes, their overlap with the objects
BY_HAND = [
    (
        [[1.5, 0.833333, 0.476551, 1.438411], [0, 0, 1.438411, -0.526803], [1, 1.666667, 0, 0.911608]],
        [
            [3.929863, 13.644974, 126.070137, 83.355026],
            [192.461868, 69.516258, 255.538132, 240],
            [11.625385, 0, 44.374615, 45.331783],
        ],
        [0.720433, 0.746769, 0.662549],
    ),
    (
        [
            [1.637461, 1.864867, -1.046898, 1.376821],
            [1.902459, -0.558190, 2.376821, 0.543169],
            [-2.442806, -1.176169, 2.0, -2.304895],
        ],
        [
            [0.560562, 10.058941, 135.546448, 85.198303],
            [188.509674, 77.935646, 253.182709, 240],
            [16.458559, 0, 46.091286, 55.528236],
        ],
        [0.688161, 0.699358, 0.473501],
    ),
    (
        [
            [1.559421, 2.972811, -3.055072, 0.935554],
            [4.289085, -1.676819, 3.174363, 1.566616],
            [-7.439483, -4.237057, 4.477612, -6.468249],
        ],
        [
            [0, 7.502926, 142.450668, 86.514511],
            [185.829254, 83.279327, 251.594696, 240],
            [19.374491, 0, 47.086876, 63.541649],
        ],
        [0.645403, 0.641251, 0.383049],
    ),
]


@pytest.fixture(scope="module")
def cascade():
    return small("cascade_mask_rcnn_small").eval()


def around_stage(model, index=0):
    """The detector of one stage that a cascade's stage is by itself."""
    return LongTailDetector(model.backbone, model.rpn, model.roi_heads.of_stages[index], model.transform)


def scores_of(counts, head, logits, **options):
    roi_heads = small("cascade_rcnn_small", head, counts=counts, **options).roi_heads
    return roi_heads.scores_of(SeenByStages([], torch.empty(0), logits, [None] * 3))


# --- numbers ----------------------------------------------------------------------------------------------------------


def test_boxes_by_hand(cascade):
    boxes = BOXES
    for stage, (targets, refined, overlaps) in zip(cascade.roi_heads.of_stages, BY_HAND, strict=True):
        near = {"atol": 2e-4, "rtol": 1e-5}
        torch.testing.assert_close(stage.box_coder.encode_single(TRUTH, boxes), torch.tensor(targets), **near)
        boxes = stage.decoded(DELTAS, boxes, (240, 320))
        torch.testing.assert_close(boxes, torch.tensor(refined), **near)
        torch.testing.assert_close(box_iou(boxes, TRUTH).diagonal(), torch.tensor(overlaps), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("beta", "loss"), [(1.0, 1.860556), (1 / 9, 3.376928)])
def test_box_loss_by_hand(cascade, beta, loss):
    stage = cascade.roi_heads.of_stages[0]
    regions = Regions(
        [BOXES], [torch.tensor([2, 1, 6])], [torch.arange(3)], [stage.box_coder.encode_single(TRUTH, BOXES)], (3,)
    )
    assert stage.box_loss_beta == 1
    assert float(box_loss(DELTAS, regions, beta=beta)) == pytest.approx(loss, abs=2e-6)


def test_stages_match_and_weigh_as_in_the_paper(cascade):
    stages = cascade.roi_heads.of_stages
    assert [stage.proposal_matcher.high_threshold for stage in stages] == [0.5, 0.6, 0.7]
    assert [stage.proposal_matcher.low_threshold for stage in stages] == [0.5, 0.6, 0.7]
    assert cascade.roi_heads.loss_weights == (1.0, 0.5, 0.25)


BAGS_MEAN_OF_LOGITS = [0.268941, 0.243123, 0.166609, 0.221467, 0.264251, 0.181088, 0.108231]
BAGS_MEAN_OF_SCORES = [0.270821, 0.260429, 0.195421, 0.237105, 0.241749, 0.189781, 0.110330]
SOFTMAX_MEAN_OF_LOGITS = [0.038871, 0.105663, 0.287222, 0.124826, 0.135674, 0.147465, 0.160280]
SOFTMAX_MEAN_OF_SCORES = [0.033439, 0.090135, 0.252606, 0.157263, 0.141398, 0.169193, 0.155966]


@pytest.mark.parametrize(
    ("head", "columns", "averaged", "scores"),
    [
        ("bags", 12, "logits", BAGS_MEAN_OF_LOGITS),
        ("bags", 12, "probabilities", BAGS_MEAN_OF_SCORES),
        ("softmax", 7, "logits", SOFTMAX_MEAN_OF_LOGITS),
        ("softmax", 7, "probabilities", SOFTMAX_MEAN_OF_SCORES),
    ],
)
def test_averages_by_hand(head, columns, averaged, scores):
    logits = [((((3 + s) * torch.arange(columns)) % 11) - 5)[None] / 4 for s in range(3)]
    # half precision is what layers give; the values are exact in it
    found = scores_of(TOY_COUNTS, head, [part.half() for part in logits], stage_scores=averaged)
    torch.testing.assert_close(found[0], torch.tensor(scores), atol=1e-6, rtol=0)


# --- equalities -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cascade_rcnn_small", "cascade_mask_rcnn_small"])
def test_one_weighted_stage_trains_as_a_detector_of_one_stage(name):
    model, (images, targets) = small(name, "bags"), batch([1, 2])
    set_trainable(model, "all")
    model.roi_heads.loss_weights = (1, 0, 0)
    single = around_stage(model)
    assert type(single.roi_heads).__name__ == "LongTailRoIHeads"
    got, want = model(images, copy.deepcopy(targets)), single(images, copy.deepcopy(targets))
    assert {key.removeprefix("s0."): value for key, value in got.items() if not key.startswith(("s1.", "s2."))} == want
    assert all(not value for key, value in got.items() if key.startswith(("s1.", "s2.")))
    gradients = []
    for losses in (got, want):
        model.zero_grad()
        sum(losses.values()).backward()
        gradients.append({n: p.grad.clone() for n, p in single.named_parameters()})
    torch.testing.assert_close(*gradients, atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("averaged", ["logits", "probabilities"])
def test_three_equal_stages_that_move_nothing_detect_as_one(name, averaged):
    model = small(name, score_threshold=0.01, num_detections=20, stage_scores=averaged).eval()
    stages = model.roi_heads.of_stages
    for stage in stages:
        # the flow of masks from stage to stage is what makes them differ
        if getattr(stage.mask_head, "flow", None) is not None:
            stage.mask_head.flow = None
        missing = stage.load_state_dict(stages[0].state_dict(), strict=False)
        assert not missing.unexpected_keys
        assert not missing.missing_keys
        torch.nn.init.zeros_(stage.box_predictor.bbox_pred.weight)
    images, _ = batch([1, 2])
    with torch.no_grad():
        got, want = model(images), around_stage(model).eval()(images)
    assert len(got[0]["boxes"]) > 5
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_order_of_the_objects_does_not_matter(name):
    """With so large a sample that all are in it: which regions are drawn goes by their places."""
    model = small(name)
    set_trainable(model, "head+reg")
    for stage in model.roi_heads.of_stages:
        stage.fg_bg_sampler.batch_size_per_image = 1000
    images, targets = batch([1, 2])
    order = torch.tensor([2, 0, 3, 1])
    other = [{**t, "boxes": t["boxes"][order], "labels": t["labels"][order]} for t in targets]
    torch.testing.assert_close(model(images, targets), model(images, other), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_a_batch_without_objects_reaches_every_weight(name, ignored):
    """Several processes wait for the gradient of each weight; where all is ignored no stage has a region."""
    model = small(name, "bags")
    image, target = scene(1, objects=0)
    if ignored:
        target["ignore"] = torch.tensor([[-1e3, -1e3, 1e3, 1e3]])
    losses = model([image], [target])
    sum(losses.values()).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []
    assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters())
    if model.has_masks:
        assert [float(losses[f"s{i}.loss_mask"].detach()) for i in range(3)] == [0, 0, 0]


# --- what the stages see ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_stages_sample_what_the_one_before_refined_and_the_objects_anew(name, monkeypatch):
    model, (images, targets) = small(name), batch([1, 2])
    calls = []
    for index, stage in enumerate(model.roi_heads.of_stages):

        def propose(boxes, targets, *, purpose="roi", own=stage.propose, index=index):
            found = own(boxes, targets, purpose=purpose)
            calls.append((index, purpose, [len(part) for part in boxes], found))
            return found

        monkeypatch.setattr(stage, "propose", propose)
    with torch.no_grad():
        model(images, targets)
    interleaved = name.startswith("htc")
    steps = [(i, purpose) for i in range(3) for purpose in ("roi", "mask-roi")[: 2 if interleaved else 1]]
    assert [(index, purpose) for index, purpose, _, _ in calls] == steps
    boxes = [(sizes, found) for _, purpose, sizes, found in calls if purpose == "roi"]
    for (_, before), (sizes, _) in pairwise(boxes):
        for target, regions, size in zip(targets, before.boxes, sizes, strict=True):
            own = (regions[:, None] == target["boxes"][None]).all(dim=2).any(dim=1)
            assert own.sum() > 0
            assert size == len(regions) - int(own.sum())
    # every object is found anew by every stage
    for _, _, _, found in calls:
        for target, matched, n in zip(targets, found.matched, found.positives, strict=True):
            assert set(matched[:n].tolist()) == set(range(len(target["boxes"])))


def test_draws_of_each_stage_are_its_own():
    model, (images, targets) = small("cascade_rcnn_small", "bags"), batch([1, 2])
    stages = model.roi_heads.of_stages
    assert [stage.draw_key for stage in stages] == [(0,), (1,), (2,)]
    set_trainable(model, "classifier")
    before = model(images, targets)
    stages[1].draw_key = (7,)
    after = model(images, targets)
    changed = {key[:2] for key in before if not torch.equal(before[key], after[key])}
    # what stage 1 samples is what stage 2 starts from
    assert changed == {"s1", "s2"}


@pytest.mark.parametrize("name", NAMES)
def test_stage_two_computes_no_masks_and_no_boxes_but_refines(name):
    model, (images, targets) = small(name, "bags"), batch([1, 2])
    names = set_trainable(model, "classifier")
    stages = range(3)
    assert names == [
        f"roi_heads.stages.{i}.box_predictor.cls_score.{part}" for i in stages for part in ("weight", "bias")
    ]
    calls = []
    if model.has_masks:
        model.roi_heads.of_stages[2].mask_head.register_forward_hook(lambda *_: calls.append("masks"))
    bare = [{k: v for k, v in t.items() if k != "masks"} for t in targets]
    losses = model(images, bare)
    assert set(losses) == {f"s{i}.loss_group_{g}" for i in stages for g in range(5)}
    assert not calls
    # frozen regressors move the boxes of the later stages
    torch.nn.init.normal_(model.roi_heads.of_stages[0].box_predictor.bbox_pred.bias)
    moved = model(images, bare)
    assert torch.equal(moved["s0.loss_group_0"], losses["s0.loss_group_0"])
    assert not torch.equal(moved["s1.loss_group_0"], losses["s1.loss_group_0"])


def test_full_size_has_the_published_numbers_of_weights():
    """LVIS v0.5: BAGS, one classifier of 1,236 logits a stage."""
    head = make_head("bags", instance_counts=[(5, 50, 500, 5000)[i % 4] for i in range(1230)])
    with torch.device("meta"):
        model = build_detector("cascade_mask_rcnn_r50_fpn", head)
    size = lambda module: sum(p.numel() for p in module.parameters())  # noqa: E731
    for stage in model.roi_heads.of_stages:
        assert size(stage.box_head) == 13_895_680
        assert size(stage.box_predictor.bbox_pred) == 4_100
        assert size(stage.box_predictor.cls_score) == 1_266_900
        assert size(stage.mask_head) + size(stage.mask_predictor) == 2_939_087
    set_trainable(model, "classifier")
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 3_800_700


@pytest.mark.parametrize("head", ["equalization-v2", "bags", "droploss", "federated", "ecm"])
def test_each_stage_has_a_head_of_its_own(head):
    """One that carries counts, one that draws, and sigmoids."""
    model, (images, targets) = small("cascade_rcnn_small", head), batch([1, 2])
    losses = model(images, targets)
    names = {key.partition(".")[2] for key in losses if key[0] == "s"}
    assert {key for key in losses if key[0] == "s"} == {f"s{i}.{name}" for i in range(3) for name in names}
    heads = model.heads()
    assert [*heads] == [f"roi_heads.stages.{i}.head" for i in range(3)]
    assert len({id(found) for found in heads.values()}) == 3
    assert bool(model.head_state()) == model.head.carries_state
    with model.head_state_kept():
        before = model.head_state()
        model(images, targets)
        assert not before or any(not torch.equal(value, before[key]) for key, value in model.head_state().items())
    torch.testing.assert_close(model.head_state(), before)
    assert set(before) <= set(model.state_dict())


def test_initial_weights_of_the_stages_differ_and_come_from_the_generator():
    first, again = (small("cascade_mask_rcnn_small", seed=4).state_dict() for _ in range(2))
    assert all(torch.equal(value, again[key]) for key, value in first.items())
    for part in ("box_head.fc6", "box_predictor.cls_score", "mask_head.0.0", "mask_predictor.conv5_mask"):
        a, b = (first[f"roi_heads.stages.{i}.{part}.weight"] for i in (0, 2))
        assert not torch.equal(a, b)
        assert float(a.std()) == pytest.approx(float(b.std()), rel=0.05)


# --- calibrations -----------------------------------------------------------------------------------------------------


def with_calibration(name, **options):
    model = small("cascade_rcnn_small", score_threshold=0.0)
    for i, stage in enumerate(model.roi_heads.of_stages):
        torch.nn.init.normal_(stage.box_predictor.cls_score.weight, std=0.1, generator=torch.Generator().manual_seed(i))
    model.add_calibration(name, **options)
    return model


def test_tau_norm_averages_the_scaled_logits_of_the_stages():
    model, (images, _) = with_calibration("tau-norm", background="keep"), batch([1])
    model.start_calibration()
    model.eval()
    with torch.no_grad():
        batched, _ = model.transform(images, None)
        seen = model._look(batched)
        scaled = []
        for stage, logits in zip(model.roi_heads.of_stages, seen.logits, strict=True):
            lengths = stage.box_predictor.cls_score.weight.norm(dim=1)
            lengths[0] = 1
            scaled.append((logits - stage.box_predictor.cls_score.bias) / lengths)
        want = torch.stack(scaled).mean(dim=0).softmax(dim=1)
        torch.testing.assert_close(model.region_scores(images), want, atol=1e-6, rtol=1e-5)
    assert set(model.roi_heads.calibration.state_dict()) == {
        f"stages.{i}.{name}" for i in range(3) for name in ("lengths", "bias", "tail")
    }


@pytest.mark.parametrize("boxes", ["ground-truth", "proposals"])
def test_class_means_of_each_stage_are_of_its_own_features(boxes):
    model, (images, targets) = with_calibration("ncm", boxes=boxes, features="fc-relu"), batch([1, 2])
    set_trainable(model, "none")
    model.start_calibration()
    model.train()
    model.fit_calibration(images, targets)
    model.roi_heads.calibration.finish()
    parts = model.roi_heads.calibration.parts
    assert not torch.equal(parts[0].sums, parts[2].sums)
    objects = sum(len(t["labels"]) for t in targets)
    assert all(
        int(part.seen.sum()) == objects if boxes == "ground-truth" else objects <= int(part.seen.sum())
        for part in parts
    )
    model.eval()
    with torch.no_grad():
        batched, _ = model.transform(images, None)
        seen = model._look(batched)
        cosines = [
            torch.nn.functional.normalize(x, dim=1) @ torch.nn.functional.normalize(part.sums, dim=1).float().T
            for part, x in zip(parts, seen.calibration_features, strict=True)
        ]
        unseen = torch.stack([part.seen == 0 for part in parts]).any(dim=0)
        share = torch.stack(cosines).mean(dim=0).masked_fill(unseen, -torch.inf).softmax(dim=1)
        background = torch.stack(seen.logits).mean(dim=0).softmax(dim=1)[:, :1]
        want = torch.cat([background, (1 - background) * share], dim=1)
        torch.testing.assert_close(model.region_scores(images), want, atol=1e-5, rtol=1e-4)


def test_statistics_of_logits_are_of_their_averages():
    model, (images, targets) = with_calibration("logn"), batch([1, 2])
    set_trainable(model, "none")
    model.start_calibration()
    model.train()
    model.fit_calibration(images, targets)
    (pair,) = model.features_by_classifier(images, targets, kind="logits", regions="sampled")
    torch.testing.assert_close(model.calibration.sums[0], pair[0][:, 1:].double().sum(dim=0))
    with pytest.raises(RecipeError, match=r"set model\.stage_scores=logits"):
        small("cascade_rcnn_small", stage_scores="probabilities").add_calibration("logn")


def test_searching_an_option_detects_as_with_that_value():
    model, (images, _) = with_calibration("tau-norm"), batch([1])
    model.eval()
    with torch.no_grad():
        found = model.detections_with(images, "tau", [0.0, 1.0])
        model.calibration.choose("tau", 0.0)
        torch.testing.assert_close(found[0], model(images))
        assert not torch.equal(found[0][0]["scores"], found[1][0]["scores"])


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_options_of_other_detectors_are_refused():
    head = any_head("softmax", COUNTS)
    with pytest.raises(RecipeError, match=r"model\.stage_scores: got probabilities, and model\.name=mask_rcnn_small"):
        build_detector("mask_rcnn_small", head, stage_scores="probabilities")
    with pytest.raises(RecipeError, match=r"model\.semantic: .* allowed with the detectors htc"):
        build_detector("cascade_mask_rcnn_small", head, semantic="stuff")
