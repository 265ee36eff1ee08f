"""Weights of detectron2: names, rows and pixels; without its configuration, or with strides elsewhere, a refusal."""

import pickle

import pytest
import torch
import yaml

from lt_data.errors import DataError
from lt_train.detectors import load_weights
from lt_train.detectors.foreign.detectron2 import from_detectron2, names
from tests.lt_train.detectors.foreign.made import (
    as_detectron2,
    assert_same_detections,
    detectron2_shapes,
    r50,
    weights_of,
)

torch.set_num_threads(1)

# twice the deviation that we divide by: halves are exact
TWICE = [2 * 57.375, 2 * 57.12, 2 * 58.395]
CONFIG = {
    "INPUT": {"FORMAT": "BGR"},
    "MODEL": {
        "PIXEL_MEAN": [103.53, 116.28, 123.675],
        "PIXEL_STD": TWICE,
        "META_ARCHITECTURE": "GeneralizedRCNN",
        "BACKBONE": {"NAME": "build_resnet_fpn_backbone", "FREEZE_AT": 2},
        "PROPOSAL_GENERATOR": {"NAME": "RPN", "MIN_SIZE": 0},
        "RESNETS": {"DEPTH": 50, "STRIDE_IN_1X1": False, "RES5_DILATION": 1, "NORM": "FrozenBN"},
        "FPN": {"FUSE_TYPE": "sum"},
        "ANCHOR_GENERATOR": {
            "SIZES": [[32], [64], [128], [256], [512]],
            "ASPECT_RATIOS": [[0.5, 1.0, 2.0]],
            "OFFSET": 0.0,
        },
        "RPN": {
            "BBOX_REG_WEIGHTS": [1.0, 1.0, 1.0, 1.0],
            "HEAD_NAME": "StandardRPNHead",
            "IN_FEATURES": ["p2", "p3", "p4", "p5", "p6"],
        },
        "ROI_HEADS": {"NAME": "StandardROIHeads", "IN_FEATURES": ["p2", "p3", "p4", "p5"]},
        "ROI_BOX_HEAD": {
            "BBOX_REG_WEIGHTS": [10.0, 10.0, 5.0, 5.0],
            "NAME": "FastRCNNConvFCHead",
            "POOLER_TYPE": "ROIAlignV2",
            "USE_SIGMOID_CE": False,
        },
        "ROI_MASK_HEAD": {
            "NAME": "MaskRCNNConvUpsampleHead",
            "POOLER_RESOLUTION": 14,
            "POOLER_TYPE": "ROIAlignV2",
        },
    },
}


def changed(path, value):
    """The configuration with another value, or without the setting."""
    config = yaml.safe_load(yaml.safe_dump(CONFIG))
    part = config
    *outer, last = path.split(".")
    for key in outer:
        part = part[key]
    if value is None:
        del part[last]
    else:
        part[last] = value
    return config


def written(folder, config=CONFIG):
    (folder / "config.yaml").write_text(config if isinstance(config, str) else yaml.safe_dump(config))
    return folder / "model_final.pth"


def zeros(masks=True):
    return {key: torch.zeros(()).expand(shape) for key, shape in detectron2_shapes(6, masks=masks).items()}


def refusal(state, path):
    with pytest.raises(DataError) as error:
        from_detectron2(state, path)
    (line,) = error.value.problems
    assert line.startswith(f"weights {path}: ")
    assert len(line) < 500
    return line


@pytest.mark.parametrize("masks", [True, False])
def test_every_name_has_a_place_and_every_weight_a_name(tmp_path, masks):
    model = r50(0, masks=masks)
    own = weights_of(model)
    table = names(masks=masks)
    assert table.keys() == detectron2_shapes(6, masks=masks).keys()
    assert sorted(table.values()) == sorted(key for key in own if not key.endswith("num_batches_tracked"))
    found = from_detectron2(zeros(masks), written(tmp_path)).state
    assert {key: value.shape for key, value in found.items()} == {key: own[key].shape for key in found}


def test_a_checkpoint_gives_the_same_detections(tmp_path):
    source, target = r50(0), r50(1)
    state = as_detectron2(weights_of(source))
    # what sees blue first, divided by twice as much
    state["backbone.bottom_up.stem.conv1.weight"] = 2 * state["backbone.bottom_up.stem.conv1.weight"].flip(1)
    state = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    state["proposal_generator.anchor_generator.cell_anchors.0"] = torch.zeros(3, 4)
    state["pixel_mean"] = torch.zeros(3, 1, 1)
    torch.save({"model": state, "iteration": 9, "optimizer": {}}, written(tmp_path))
    report = load_weights(target, tmp_path / "model_final.pth")
    assert report.reinitialised == ()
    assert report.loaded == len(detectron2_shapes(6, masks=True))
    assert "half a cell" in report.notes[0]
    assert_same_detections(source, target)


def test_weights_alone_do_not_show_what_they_saw(tmp_path):
    line = refusal(zeros(), tmp_path / "model_final.pth")
    assert "detectron2's config.yaml cannot be read beside it (No such file or directory)" in line


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (
            "MODEL.RESNETS.STRIDE_IN_1X1",
            True,
            "STRIDE_IN_1X1=True; allowed is False, since this model",
        ),
        ("MODEL.RESNETS.STRIDE_IN_1X1", None, "has no MODEL.RESNETS.STRIDE_IN_1X1; needed is the whole file"),
        (
            "MODEL.ANCHOR_GENERATOR.SIZES",
            [[16], [32]],
            "SIZES=[[16], [32]]; allowed is [[32], [64]",
        ),
        ("MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS", [1, 1, 1, 1], "BBOX_REG_WEIGHTS=[1, 1, 1, 1]"),
        (
            "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION",
            7,
            "POOLER_RESOLUTION=7; allowed is 14, since",
        ),
        (
            "MODEL.ROI_BOX_HEAD.POOLER_TYPE",
            "ROIPool",
            "POOLER_TYPE='ROIPool'; allowed are 'ROIAlignV2', 'ROIAlign', since this model has regions pooled",
        ),
        ("MODEL.ROI_MASK_HEAD.POOLER_TYPE", "ROIPool", "MODEL.ROI_MASK_HEAD.POOLER_TYPE='ROIPool'"),
        ("MODEL.RESNETS.NORM", "GN", "MODEL.RESNETS.NORM='GN'; allowed are 'FrozenBN', 'BN',"),
        ("MODEL.META_ARCHITECTURE", "RetinaNet", "META_ARCHITECTURE='RetinaNet'"),
        ("MODEL.BACKBONE.NAME", "build_own_backbone", "BACKBONE.NAME='build_own_backbone'"),
        ("MODEL.PROPOSAL_GENERATOR.NAME", "RRPN", "PROPOSAL_GENERATOR.NAME='RRPN'"),
        ("MODEL.RPN.HEAD_NAME", "OwnHead", "HEAD_NAME='OwnHead'"),
        ("MODEL.RPN.IN_FEATURES", ["p3", "p4", "p5", "p6", "p7"], "RPN.IN_FEATURES=['p3'"),
        ("MODEL.ROI_HEADS.NAME", "CascadeROIHeads", "ROI_HEADS.NAME='CascadeROIHeads'"),
        ("MODEL.ROI_HEADS.IN_FEATURES", ["p2"], "ROI_HEADS.IN_FEATURES=['p2']; allowed is ['p2', 'p3', 'p4', 'p5']"),
        ("MODEL.ROI_BOX_HEAD.NAME", "OwnHead", "ROI_BOX_HEAD.NAME='OwnHead'"),
        ("MODEL.ROI_MASK_HEAD.NAME", "PointRendMaskHead", "ROI_MASK_HEAD.NAME='PointRendMaskHead'"),
        ("INPUT.FORMAT", None, "INPUT.FORMAT in its config.yaml is missing; allowed are BGR and RGB"),
        ("INPUT.FORMAT", "L" * 9999, "is 'LLL"),
        ("INPUT.FORMAT", "RGB", "its input is R, G, B less [103.53, 116.28, 123.675], this model takes [123.675"),
        ("MODEL.PIXEL_STD", [1.0, 1.0], "std [1.0, 1.0]; needed are three numbers each"),
        ("MODEL.PIXEL_MEAN", "0,0,0", "mean '0,0,0'"),
    ],
)
def test_settings_that_shapes_cannot_show(tmp_path, path, value, says):
    assert says in refusal(zeros(), written(tmp_path, changed(path, value)))
    from_detectron2(zeros(), written(tmp_path))


@pytest.mark.parametrize("norm", ["BN", "SyncBN", "nnSyncBN"])
def test_batch_norms_of_any_kind_are_batch_norms(tmp_path, norm):
    assert from_detectron2(zeros(), written(tmp_path, changed("MODEL.RESNETS.NORM", norm))).state


def test_regions_that_are_pooled_as_here_need_no_note(tmp_path):
    path = written(tmp_path, changed("MODEL.ROI_BOX_HEAD.POOLER_TYPE", "ROIAlign"))
    assert from_detectron2(zeros(), path).notes == ()


def test_a_mask_setting_says_nothing_of_boxes(tmp_path):
    path = written(tmp_path, changed("MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION", 7))
    assert from_detectron2(zeros(masks=False), path).state


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "MODEL: [", "MODEL: {RESNETS: 5}", "a: &a [*a]", "\xff\xfe", "!!python/object/apply:os.system [echo]",
        "[" * 5000, "x" * 300_000,
    ],
)  # fmt: skip
def test_a_configuration_that_is_none(tmp_path, text):
    path = tmp_path / "model_final.pth"
    (tmp_path / "config.yaml").write_bytes(text.encode("latin-1"))
    assert "config.yaml has no MODEL.RESNETS.STRIDE_IN_1X1" in refusal(zeros(), path)


def test_aliases_in_a_configuration_stay_short(tmp_path):
    bomb = "a: &a [x, x, x, x, x, x, x, x]\n" + "".join(
        f"{new}: &{new} [{', '.join([f'*{old}'] * 8)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    )
    text = bomb + "MODEL: {RESNETS: {STRIDE_IN_1X1: *i}}\n"
    assert "STRIDE_IN_1X1=[" in refusal(zeros(), written(tmp_path, text))


def test_tuples_of_older_configurations(tmp_path):
    text = yaml.safe_dump(CONFIG) + "DATASETS:\n  TRAIN: !!python/tuple\n  - coco_2017_train\n"
    assert from_detectron2(zeros(), written(tmp_path, text)).state


def test_missing_and_other_weights_are_named(tmp_path):
    state = zeros()
    del state["roi_heads.box_head.fc2.bias"]
    state["backbone.bottom_up.res6.0.conv1.weight"] = torch.zeros(1)
    with pytest.raises(DataError) as error:
        from_detectron2(state, written(tmp_path))
    assert [line.split()[2] for line in error.value.problems] == [
        "roi_heads.box_head.fc2.bias",
        "backbone.bottom_up.res6.0.conv1.weight",
    ]


class Harmful:
    """Pickles into a call."""

    def __reduce__(self):
        return (print, ("executed",))


def test_published_weights_are_a_pickle(tmp_path, capsys):
    (tmp_path / "model_final_f10217.pkl").write_bytes(pickle.dumps({"model": {"a": Harmful()}}, protocol=2))
    with pytest.raises(DataError) as error:
        load_weights(r50(0, masks=False), tmp_path / "model_final_f10217.pkl")
    (line,) = error.value.problems
    assert "model_final_f10217.pkl is a pickle, as detectron2 publishes its weights" in line
    assert "executed" not in capsys.readouterr().out
