"""Loading weights: files, checkpoints, torchvision's own formats, other classes, other groups."""

import copy
import re

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models.detection import maskrcnn_resnet50_fpn

from lt_data.errors import DataError, RecipeError
from lt_train.detectors import build_detector, initialise_from, load_weights
from lt_train.detectors.norm import StoredStatsBatchNorm2d, fold_zero_eps
from lt_train.detectors.weights import read_state_dict
from lt_train.heads import make_head
from tests.lt_train.detectors.scenes import COUNTS, batch, small

torch.set_num_threads(1)

CLASSIFIER = "roi_heads.box_predictor.cls_score"
REGRESSOR = "roi_heads.box_predictor.bbox_pred"
MASKS = "roi_heads.mask_predictor.mask_fcn_logits"


def differing(model, state):
    """Layers of the model whose values are not those of the state."""
    own = model.state_dict()
    return {k.rpartition(".")[0] for k in own if k in state and not torch.equal(own[k], state[k])}


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"model": s, "step": 3}])
def test_a_file_gives_the_same_model(tmp_path, wrap):
    source, target = small(seed=0), small(seed=1)
    torch.save(wrap(source.state_dict()), tmp_path / "weights.pt")
    report = load_weights(target, tmp_path / "weights.pt")
    assert report.reinitialised == ()
    assert report.loaded == sum(
        not ("num_batches" in k or k.startswith("roi_heads.head.")) for k in source.state_dict()
    )
    assert not differing(target, source.state_dict())
    images, _ = batch([1])
    torch.testing.assert_close(source.eval()(images), target.eval()(images))


def test_stage_two_starts_from_stage_one():
    """Softmax to BAGS: only the classifier is new, the box regressor and the mask logits are kept."""
    softmax = small(head="softmax", seed=0)
    bags = small(head="bags", seed=1)
    buffers = {k: v.clone() for k, v in bags.state_dict().items() if k.startswith("roi_heads.head.")}
    fresh = bags.state_dict()[f"{CLASSIFIER}.weight"].clone()
    report = initialise_from(bags, softmax.state_dict())
    assert report.reinitialised == (CLASSIFIER,)
    assert differing(bags, softmax.state_dict()) == {CLASSIFIER}
    assert torch.equal(bags.state_dict()[f"{CLASSIFIER}.weight"], fresh)
    assert all(torch.equal(v, bags.state_dict()[k]) for k, v in buffers.items())


def test_other_classes_keep_everything_else():
    report = initialise_from(small(counts=[5] * 9), small().state_dict())
    assert report.reinitialised == (CLASSIFIER, REGRESSOR, MASKS)


def test_equal_width_with_other_classes_starts_anew():
    """Softmax over 10 classes and BAGS over 6 classes in 4 groups are both 11 or 12 logits wide."""
    softmax, bags = small(counts=[5] * 11), small(head="bags", counts=COUNTS)
    assert softmax.head.num_logits == bags.head.num_logits
    assert initialise_from(bags, softmax.state_dict()).reinitialised == (CLASSIFIER, REGRESSOR, MASKS)


def test_equal_width_with_other_groups_starts_anew():
    """The columns of a BAGS classifier mean other classes when the counts move a class to another group."""
    source = small(head="bags", counts=[5, 50, 500, 5000])
    target = small(head="bags", counts=[50, 5, 500, 5000], seed=1)
    assert initialise_from(target, source.state_dict()).reinitialised == (CLASSIFIER,)
    assert target.head.label_to_bin[1].tolist() == [0, 0, 1, 0, 0]
    same = small(head="bags", counts=[6, 60, 600, 6000], seed=1)
    assert initialise_from(same, source.state_dict()).reinitialised == ()
    assert same.head.instance_counts.tolist() == [6, 60, 600, 6000]


def test_missing_unexpected_and_misshapen_weights_are_named():
    state = small().state_dict()
    del state["backbone.lateral.0.bias"]
    state["backbone.extra.weight"] = torch.zeros(1)
    with pytest.raises(DataError) as error:
        initialise_from(small(), state)
    assert [re.sub(";.*", "", p) for p in error.value.problems] == [
        "weights state dict: backbone.lateral.0.bias is missing",
        "weights state dict: backbone.extra.weight has no place in the model",
    ]
    state = small().state_dict()
    state["roi_heads.box_head.fc7.weight"] = torch.zeros(3, 256)
    with pytest.raises(DataError, match=r"fc7.weight is \(3, 256\), the model has \(256, 256\)"):
        initialise_from(small(), state)


def test_mask_weights_do_not_fit_a_box_model():
    with pytest.raises(DataError, match="mask_head"):
        initialise_from(small("faster_rcnn_small"), small().state_dict())


class Harmful:
    """Pickles into a call."""

    def __reduce__(self):
        return (print, ("executed",))


def test_files_that_are_no_weights(tmp_path, capsys):
    (tmp_path / "text.pt").write_text("no weights")
    torch.save({"model": Harmful()}, tmp_path / "harmful.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"model": {"a": 1}}, tmp_path / "numbers.pt")
    for name, message in [
        ("text.pt", "is no file of tensors"),
        ("harmful.pt", "is no file of tensors"),
        ("list.pt", "holds no state dict"),
        ("numbers.pt", "holds no state dict"),
        ("absent.pt", "cannot read .*allowed are none, imagenet, coco"),
    ]:
        with pytest.raises(DataError, match=message):
            read_state_dict(tmp_path / name)
    assert "executed" not in capsys.readouterr().out


# --- ResNet-50 --------------------------------------------------------------------------------------------------------


def r50(head="softmax", **options):
    return build_detector("mask_rcnn_r50_fpn", make_head(head, instance_counts=COUNTS), **options)


@pytest.fixture(scope="module")
def coco_state():
    """What torchvision's COCO file looks like: 91 classes, names of the first release, statistics that vary."""
    torch.manual_seed(0)
    stock = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=91)
    state = {k: v for k, v in stock.state_dict().items() if "num_batches_tracked" not in k}
    for key in [k for k in state if k.endswith("running_var")]:
        state[key] = torch.logspace(-7, 0, len(state[key]))
        # as trained: channels of little variance have little weight
        state[key.replace("running_var", "weight")] = state[key].sqrt()
    return {first_release_name(k): v for k, v in state.items()}


def first_release_name(key):
    key = re.sub(r"rpn\.head\.conv\.0\.0\.", "rpn.head.conv.", key)
    key = re.sub(r"(fpn\.(?:inner|layer)_blocks\.\d)\.0\.", r"\1.", key)
    return re.sub(r"mask_head\.(\d)\.0\.", lambda m: f"mask_head.mask_fcn{int(m[1]) + 1}.", key)


@pytest.fixture
def published(monkeypatch, coco_state):
    """Serves the made-up files where torchvision would download, and records what was asked for."""
    asked = []
    resnet = {k.removeprefix("backbone.body."): v for k, v in coco_state.items() if k.startswith("backbone.body.")}
    resnet |= {"fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}

    def serve(url, *args, **options):
        asked.append((url, options))
        return dict(resnet if "resnet50-" in url else coco_state)

    monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", serve)
    return asked


def test_coco_weights(published, coco_state):
    model = r50("bags", weights="coco")
    assert published == [
        (
            "https://download.pytorch.org/models/maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth",
            {"progress": True, "check_hash": True},
        )
    ]
    assert model.load_report.reinitialised == (CLASSIFIER, REGRESSOR, MASKS)
    own = model.state_dict()
    assert torch.equal(own["rpn.head.conv.0.0.weight"], coco_state["rpn.head.conv.weight"])
    assert torch.equal(own["roi_heads.mask_head.3.0.bias"], coco_state["roi_heads.mask_head.mask_fcn4.bias"])
    assert torch.equal(own["roi_heads.box_head.fc6.weight"], coco_state["roi_heads.box_head.fc6.weight"])
    assert model.pretrained


def test_coco_trunk_equals_torchvisions_with_eps_zero(published, coco_state):
    """torchvision runs these weights with eps 0; ours has 1e-5 and folded weights."""
    stock = maskrcnn_resnet50_fpn(weights="COCO_V1")
    ours = r50(weights="coco")
    assert {m.eps for m in ours.modules() if isinstance(m, StoredStatsBatchNorm2d)} == {1e-5}
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(ours.backbone.body(image), stock.eval().backbone.body(image), atol=1e-4, rtol=1e-3)


def test_a_local_copy_of_torchvisions_file_is_the_same(published, coco_state, tmp_path):
    path = tmp_path / "maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth"
    torch.save(coco_state, path)
    local, served = r50(weights=path), r50(weights="coco")
    assert local.load_report == served.load_report
    assert differing(local, served.state_dict()) <= {CLASSIFIER, REGRESSOR, MASKS}


def test_imagenet_weights_fill_the_trunk(published, coco_state):
    model = r50(weights="imagenet")
    assert "resnet50-0676ba61" in published[0][0]
    state = model.state_dict()
    assert torch.equal(state["backbone.body.layer4.2.conv3.weight"], coco_state["backbone.body.layer4.2.conv3.weight"])
    assert torch.equal(state["backbone.body.bn1.running_var"], coco_state["backbone.body.bn1.running_var"])
    assert {CLASSIFIER, "rpn.head.cls_logits", "backbone.fpn.inner_blocks.0.0"} < set(model.load_report.reinitialised)
    assert not any(layer.startswith("backbone.body") for layer in model.load_report.reinitialised)


def test_names_without_loading_download_nothing(published):
    model = r50(weights="coco", load_pretrained=False)
    assert published == []
    assert model.pretrained
    assert model.load_report.loaded == 0


def test_failed_download_is_one_line(monkeypatch):
    def refuse(url, *args, **options):
        raise OSError("no route to host")

    monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", refuse)
    head = make_head("softmax", instance_counts=COUNTS)
    message = "cannot download .*bf2d0c1e.*no route to host.*give its path"
    with torch.device("meta"), pytest.raises(DataError, match=message):
        build_detector("mask_rcnn_r50_fpn", head, weights="coco")


def test_small_models_have_no_published_weights():
    with pytest.raises(RecipeError, match="'coco' exists for the ResNet-50 models"):
        small(weights="coco")


def test_folding_leaves_the_input_and_zero_variance_alone():
    state = {"bn.weight": torch.tensor([2.0, 3.0]), "bn.running_var": torch.tensor([0.0, 1e-5])}
    before = copy.deepcopy(state)
    folded = fold_zero_eps(state)
    assert state["bn.weight"].equal(before["bn.weight"])
    torch.testing.assert_close(folded["bn.weight"], torch.tensor([2.0, 3.0 * 2**0.5]))


def test_checkpoint_of_ordinary_batch_norm_fits_stored_statistics():
    """A run without pretrained weights can start one with them, and the other way round."""
    source = nn.BatchNorm2d(4)
    source.running_mean += 1
    target = StoredStatsBatchNorm2d(4)
    target.load_state_dict(source.state_dict())
    assert torch.equal(target.running_mean, source.running_mean)
    back = nn.BatchNorm2d(4)
    back.load_state_dict(target.state_dict())
    assert torch.equal(back.running_mean, source.running_mean)
