"""Names with something before them, as Lightning and data-parallel training have."""

import argparse

import pytest
import torch
import torchvision

from lt_data.errors import DataError
from lt_train.detectors import load_weights
from lt_train.detectors.weight_files import read_weights
from tests.lt_train.detectors.foreign.made import r50
from tests.lt_train.detectors.scenes import small


def wrapped(state, prefix):
    return {prefix + key: value for key, value in state.items()}


def lightning(path, state):
    """What a Trainer of Lightning saves."""
    content = {
        "epoch": 3,
        "global_step": 99,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": state,
        "loops": {"fit_loop": {"state_dict": {}}},
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_path": "x.ckpt"}},
        "optimizer_states": [{"state": {}, "param_groups": []}],
        "hparams_name": "kwargs",
        "hyper_parameters": {"args": argparse.Namespace(lr=0.1)},
    }
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    ("prefix", "name"),
    [
        *(("model.", "mask_rcnn_small"), ("module.", "mask_rcnn_small"), ("net._orig_mod.", "mask_rcnn_small")),
        *(("detector.model.", "mask_rcnn_small"), ("model.", "faster_rcnn_lite0")),
    ],
)
def test_a_checkpoint_gives_the_same_model(tmp_path, prefix, name):
    source, target = small(name, seed=0), small(name, seed=1)
    beside = {"criterion.weight": torch.ones(7), "accuracy.total": torch.zeros(())}
    path = lightning(tmp_path / "last.ckpt", wrapped(source.state_dict(), prefix) | beside)
    report = load_weights(target, path)
    assert report.reinitialised == ()
    assert report.notes == (f"weights under {prefix}*; left aside: criterion.weight, accuracy.total",)
    assert all(torch.equal(value, target.state_dict()[key]) for key, value in source.state_dict().items())


def test_a_weight_that_is_missing_is_missing_behind_a_prefix(tmp_path):
    state = wrapped(small().state_dict(), "model.")
    del state["model.rpn.head.bbox_pred.bias"]
    with pytest.raises(DataError, match=r"last.ckpt: rpn.head.bbox_pred.bias is missing"):
        load_weights(small(), lightning(tmp_path / "last.ckpt", state))


def test_two_detectors_are_one_too_many(tmp_path):
    state = small().state_dict()
    for other in ("teacher.", ""):
        both = wrapped(state, "student.") | wrapped(state, other)
        with pytest.raises(DataError, match=r"they are of 2 models \(.*\); allowed is one"):
            load_weights(small(), lightning(tmp_path / "last.ckpt", both))


def test_a_classifier_of_lightning_fills_the_trunk(tmp_path):
    trunk = torchvision.models.resnet50(num_classes=5).state_dict()
    model = r50(0, weights=lightning(tmp_path / "a.ckpt", wrapped(trunk, "model.")))
    assert torch.equal(model.state_dict()["backbone.body.layer4.2.conv3.weight"], trunk["layer4.2.conv3.weight"])
    assert not any(layer.startswith("backbone.body") for layer in model.load_report.reinitialised)


def test_caffes_trunk_alone_is_refused(tmp_path):
    """mmdetection and detectron2 convert it with torchvision's names; strides and pixels are others."""
    trunk = torchvision.models.resnet50().state_dict()
    trunk["bn1.weight"] = torch.full((64,), 0.3)
    torch.save(trunk, tmp_path / "resnet50_msra-5891d200.pth")
    with pytest.raises(DataError, match=r"bn1 has mean 0 and variance 1, as the ResNet-50 of caffe"):
        read_weights(tmp_path / "resnet50_msra-5891d200.pth")
    trunk["bn1.running_mean"] += 0.1
    torch.save(trunk, tmp_path / "other.pth")
    assert len(read_weights(tmp_path / "other.pth").state) == len(trunk)
