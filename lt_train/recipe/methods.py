"""Methods: presets that fill keys of a recipe; explicit keys beat them.

Each is a head, a sampler, a calibration, and a regime: what is trained, from where, and for how long. Where the text of
BAGS and its released code differ, ``variant`` says whose settings :func:`fills` gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from lt_train.recipe.method import Method

BASELINE = "--init-from RUN, a softmax baseline"
MODEL: Final = "Faster R-CNN R50-FPN"
TRAINED: Final = {
    "all": "all but conv1 and layer1",
    "head+reg": "the two fully connected layers, classifier and box regressor",
    "classifier": "the classifier",
    "scale": "a factor of each of the classifier's rows",
    "calibrated": "a second classification head beside the detector's own",
    "none": "nothing: fitted to a trained run",
}


def _fills(head: str, sampler: str = "shuffle", calibration: str = "none", train: str = "all") -> dict[str, Any]:
    return {
        "head": {"name": head},
        "sampler": {"name": sampler},
        "calibration": {"name": calibration},
        "train": train,
    }


# 10 epochs at a hundredth of the baseline's rate, one decay: the released code's; the text has one rate for all
_TUNE: Final = {"optim": {"lr": 1e-4}, "schedule": {"epochs": 10, "decay": [7]}}
_TUNE_OF_TEXT: Final = {"optim": {"lr": 0.01}}
# an epoch is one pass of the sampler: the text refers to LVIS, whose epochs hold every copy
_RFS_OF_CODE: Final = {"sampler": {"rounding": "bags"}, "schedule": {"epoch": "sampler"}}
_RFS_OF_TEXT: Final = {"sampler": {"rounding": "stochastic"}, "schedule": {"epoch": "sampler"}}
_CAP_OF_TEXT: Final = {"head": {"lower": 0.01}}
# what its loss means to compute; as released it reads the wrong labels and cannot train
_FOCAL_OF_CODE: Final = {"head": {"score": "softmax", "normalise": "elements"}}
# a softmax over many cosines is nearly flat: 1,230 classes have 0.0008 each; and where nobody published a threshold
_ALL_SCORES: Final = {"model": {"score_threshold": 0.0}}
# sigmoids and their products are small: what the configurations of methods that came after BAGS test with on LVIS
_LOW_SCORES: Final = {"model": {"score_threshold": 1e-4}}
# test settings of the text and of all configurations for Faster R-CNN R50-FPN
_TESTED: Final = {"model": {"score_threshold": 0.0, "num_detections": 300}}
# configurations for Mask R-CNN, of which the code has these two; the first has one image on each of 8 GPUs
_MASKS_OF_CODE: Final[Mapping[str, Mapping[str, Any]]] = {
    "softmax": {
        "model": {"score_threshold": 0.05, "num_detections": 100},
        "optim": {"batch": 8, "accumulate": 1, "base_batch": 8},
    },
    "bags": {"model": {"score_threshold": 0.001, "num_detections": 300}},
}
_BETA_1: Final = {"name": "bags", "others_ratio": 1.0}
_BALANCED: Final = {"name": "reweight", "weighting": "effective-number", "beta": 0.999}

METHODS: Final[Mapping[str, Method]] = {
    "softmax": Method(
        summary="Softmax cross-entropy over all classes and the background: the baseline.",
        source="Faster R-CNN (NeurIPS 2015), Mask R-CNN (ICCV 2017)",
        equal=_fills("softmax"),
        row=1,
        published="softmax",
    ),
    "x2": Method(
        summary="The baseline trained as long again: what more training alone gives.",
        source="BAGS (CVPR 2020), model 2",
        equal=_fills("softmax"),
        needs=BASELINE,
        row=2,
        published="softmax x2",
    ),
    "finetune-tail": Method(
        summary="The baseline tuned on the classes with fewer than 100 instances alone.",
        source="BAGS (CVPR 2020), model 3",
        equal={**_fills("softmax"), "data": {"classes_below": 100}, **_TUNE},
        text=_TUNE_OF_TEXT,
        needs=BASELINE,
        keeps_classifier=True,
        row=3,
        published="finetune tail",
    ),
    "rfs": Method(
        summary="Repeat-factor sampling: images with rare categories are seen more often.",
        source="LVIS (CVPR 2019), appendix B",
        equal=_fills("softmax", "repeat-factor"),
        code=_RFS_OF_CODE,
        text=_RFS_OF_TEXT,
        row=4,
        published="RFS",
    ),
    "rfs-finetune": Method(
        summary="Repeat-factor sampling for a second training that starts from the baseline.",
        source="BAGS (CVPR 2020), model 5",
        equal=_fills("softmax", "repeat-factor"),
        code=_RFS_OF_CODE,
        text=_RFS_OF_TEXT,
        needs=BASELINE,
        row=5,
        published="RFS-finetune",
    ),
    "irfs": Method(
        summary="Repeat factors that look at how many instances a category has as well as on how many images.",
        source="Instance-Aware Repeat Factor Sampling (2023)",
        # a threshold of its own: the factors of a dataset directory are those of images
        equal={**_fills("softmax"), "sampler": {"name": "repeat-factor", "instance_aware": True, "threshold": 0.001}},
    ),
    "class-aware": Method(
        summary="Class-aware sampling: a class is drawn, then one of its images, so that all classes are seen alike.",
        source="Relay Backpropagation (ECCV 2016)",
        equal=_fills("softmax", "class-aware"),
    ),
    "reweight": Method(
        summary="Softmax cross-entropy in which a region counts by the inverse count of its class.",
        source="BAGS (CVPR 2020), model 6",
        equal=_fills("reweight"),
        text=_CAP_OF_TEXT,
        needs=BASELINE,
        row=6,
        published="re-weight",
    ),
    "reweight-cls": Method(
        summary="Re-weighting by the effective number of instances; only the classifier is trained.",
        source="Class-Balanced Loss (CVPR 2019); BAGS, model 7",
        equal={**_fills("reweight", train="classifier"), "head": _BALANCED},
        # 4 images on each of 8 GPUs, at the rate of 16
        code={"optim": {"batch": 16, "accumulate": 2, "base_batch": 32}},
        text=_CAP_OF_TEXT,
        needs=BASELINE,
        row=7,
        published="re-weight-cls",
    ),
    "focal": Method(
        summary="Sigmoid focal loss for every class: easy regions are played down.",
        source="Focal Loss (ICCV 2017); BAGS, model 8",
        equal=_fills("focal"),
        code=_FOCAL_OF_CODE,
        needs=BASELINE,
        row=8,
        published="focal",
    ),
    "focal-cls": Method(
        summary="Sigmoid focal loss; only the classifier is trained.",
        source="Focal Loss (ICCV 2017); BAGS, model 9",
        equal=_fills("focal", train="classifier"),
        code=_FOCAL_OF_CODE,
        needs=BASELINE,
        row=9,
        published="focal-cls",
    ),
    "ncm-fc": Method(
        summary="Nearest class mean: cosine to the mean feature of each class, second fully connected layer.",
        source="BAGS (CVPR 2020), model 10",
        equal={**_fills("softmax", train="none"), "calibration": {"name": "ncm", "features": "fc"}, **_ALL_SCORES},
        text={"calibration": {"features": "fc-relu", "boxes": "proposals"}},
        needs=BASELINE,
        row=10,
        published="NCM-fc",
    ),
    "ncm-conv": Method(
        summary="Nearest class mean on the pooled feature map of a region.",
        source="BAGS (CVPR 2020), model 11",
        equal={**_fills("softmax", train="none"), "calibration": {"name": "ncm", "features": "conv"}, **_ALL_SCORES},
        text={"calibration": {"boxes": "proposals"}},
        needs=BASELINE,
        row=11,
        published="NCM-conv",
    ),
    "tau-norm": Method(
        summary="Every row of the classifier, the background's too, divided by its length to the power tau.",
        source="Decoupling (ICLR 2020); BAGS, model 12",
        equal={**_fills("softmax", train="none"), "calibration": {"name": "tau-norm", "background": "normalise"}},
        needs=BASELINE,
        row=12,
        published="tau-norm",
    ),
    "tau-norm-select": Method(
        summary="Tau-normalised scores only for regions that the baseline calls foreground and tau-norm calls tail.",
        source="BAGS (CVPR 2020), model 13",
        equal={**_fills("softmax", train="none"), "calibration": {"name": "tau-norm", "background": "select-tail"}},
        text={"calibration": {"background": "select-normalised"}},
        needs=BASELINE,
        row=13,
        published="tau-norm-select",
    ),
    "bags": Method(
        summary="Balanced group softmax: one softmax per group of classes with similar instance counts.",
        source="BAGS (CVPR 2020), section 4",
        equal=_fills("bags", train="classifier"),
        needs=BASELINE,
        row=14,
        published="BAGS",
    ),
    "bags-train-cls": Method(
        summary="BAGS with one 'others' per positive; a fresh classifier is trained.",
        source="BAGS (CVPR 2020), supplement, table 1, row 1",
        equal={**_fills("bags", train="classifier"), "head": _BETA_1},
        # its configuration lacks the switch that freezes the rest
        code={"train": "all"},
        needs=BASELINE,
        published="BAGS beta 1, train classifier",
    ),
    "bags-train-head": Method(
        summary="The same, with the box head and regressor trained too.",
        source="BAGS (CVPR 2020), supplement, table 1, row 2",
        equal={**_fills("bags", train="head+reg"), "head": _BETA_1},
        text={"train": "head"},
        needs=BASELINE,
        published="BAGS beta 1, train head",
    ),
    "bags-tune-head": Method(
        summary="A run of bags-train-cls goes on at a low rate with the box head and regressor.",
        source="BAGS (CVPR 2020), supplement, table 1, row 3",
        equal={**_fills("bags", train="head+reg"), "head": _BETA_1, **_TUNE},
        text={"train": "head", **_TUNE_OF_TEXT},
        needs="--init-from RUN, of bags-train-cls",
        keeps_classifier=True,
        published="BAGS beta 1, tune head",
    ),
    "bags-tune-all": Method(
        summary="A run of bags-train-cls goes on at a low rate with everything.",
        source="BAGS (CVPR 2020), supplement, table 1, row 4",
        equal={**_fills("bags"), "head": _BETA_1, **_TUNE},
        text=_TUNE_OF_TEXT,
        needs="--init-from RUN, of bags-train-cls",
        keeps_classifier=True,
        published="BAGS beta 1, tune all",
    ),
    "equalization": Method(
        summary="Equalization loss: rare classes are not pushed down by the objects of others. Won LVIS 2019.",
        source="Equalization Loss (CVPR 2020)",
        equal={**_fills("equalization"), **_LOW_SCORES},
    ),
    "equalization-v2": Method(
        summary="Each class weighs positives and negatives by the gradients that it has had of either so far.",
        source="Equalization Loss v2 (CVPR 2021)",
        equal={**_fills("equalization-v2"), **_LOW_SCORES},
    ),
    "seesaw": Method(
        summary="Softmax in which frequent classes push rare ones down less; whether it is an object is asked apart.",
        source="Seesaw Loss (CVPR 2021)",
        equal={**_fills("seesaw"), **_LOW_SCORES},
    ),
    "seesaw-cosine": Method(
        summary="Seesaw with a cosine classifier, as in all of its published configurations.",
        source="Seesaw Loss (CVPR 2021)",
        equal={**_fills("seesaw"), "head": {"name": "seesaw", "classifier": "cosine"}, **_LOW_SCORES},
    ),
    "balanced-softmax": Method(
        summary="Softmax that is trained with the instance counts as a prior, and tested without.",
        source="Balanced Meta-Softmax (NeurIPS 2020); Logit Adjustment (ICLR 2021)",
        equal={**_fills("balanced-softmax"), **_ALL_SCORES},
    ),
    "balanced-sigmoid": Method(
        summary="Sigmoids of logits that are shifted by how frequent a class is, in training alone.",
        source="Balanced Meta-Softmax (NeurIPS 2020), its code for detection",
        equal={**_fills("balanced-sigmoid"), **_LOW_SCORES},
    ),
    "droploss": Method(
        summary="Background pushes rare classes down only as often as rare objects occur in the batch.",
        source="DropLoss (AAAI 2021)",
        equal={**_fills("droploss"), **_LOW_SCORES},
    ),
    "federated": Method(
        summary="Sigmoids over the classes of the batch and some drawn ones, as on federated data sets.",
        source="CenterNet2 (2021), detectron2",
        equal={**_fills("federated"), **_LOW_SCORES},
    ),
    "ecm": Method(
        summary="Sigmoids with margins and weights that bound the error of ranking each class.",
        source="Effective Class Margins (ECCV 2022)",
        equal={**_fills("ecm"), **_LOW_SCORES},
    ),
    "gumbel": Method(
        summary="The Gumbel distribution in place of the sigmoid: long tails by themselves.",
        source="Gumbel Optimised Loss (ECCV 2022)",
        equal={**_fills("gumbel"), **_LOW_SCORES},
    ),
    "acsl": Method(
        summary="A class is pushed down only where another is confused with it; only the classifier is trained.",
        source="Adaptive Class Suppression Loss (CVPR 2021)",
        equal={**_fills("acsl", train="classifier"), **_ALL_SCORES},
        needs=BASELINE,
    ),
    "loce": Method(
        summary="Softmax whose margins follow the mean score that each class has reached so far; a second stage.",
        source="LOCE (ICCV 2021), equilibrium loss",
        equal={**_fills("loce", train="classifier"), **_LOW_SCORES},
        needs=BASELINE,
    ),
    "crt": Method(
        summary="A fresh classifier is trained on images of all classes in turn.",
        source="Decoupling (ICLR 2020), classifier re-training",
        equal={
            **_fills("softmax", "class-aware", train="classifier"),
            "head": {"name": "softmax", "fresh_classifier": True},
            **_LOW_SCORES,
        },
        needs=BASELINE,
    ),
    "lws": Method(
        summary="The rows of the baseline's classifier get a factor each, which alone is trained.",
        source="Decoupling (ICLR 2020), learnable weight scaling",
        equal={
            **_fills("softmax", "class-aware", train="scale"),
            "head": {"name": "softmax", "classifier": "scaled"},
            **_LOW_SCORES,
        },
        needs=BASELINE,
        keeps_classifier=True,
    ),
    "simcal": Method(
        summary="A second head beside the detector's own, trained on all classes alike, scores the rare ones.",
        source="SimCal (ECCV 2020); won LVIS 2019",
        equal={
            **_fills("softmax", "bi-level", train="calibrated"),
            "second_head": {"kind": "3fc-ft"},
            "optim": {"momentum": 0.0, "weight_decay": 0.0},
        },
        # the loop saves every epoch and ends at 120; it counts from 1 and decays where the 8th and the 11th begin
        code={"schedule": {"epoch": "sampler", "epochs": 120, "decay": [7, 10], "warmup": 0}},
        text={"schedule": {"epoch": "sampler", "warmup": 0}},
        needs=BASELINE,
        keeps_classifier=True,
    ),
    "grw": Method(
        summary="Softmax with weights by inverse frequency and a cosine classifier, which alone is trained.",
        source="DisAlign (CVPR 2021), generalized re-weighting",
        equal={
            **_fills("reweight", train="classifier"),
            "head": {
                "name": "reweight",
                "weighting": "inverse",
                "power": 0.8,
                "lower": None,
                "upper": None,
                "normalise": "weights",
                "classifier": "cosine",
                "learn_scale": True,
            },
            **_LOW_SCORES,
        },
        needs=BASELINE,
    ),
    "norcal": Method(
        summary="Scores divided by a power of the images that the class has in training.",
        source="NorCal (NeurIPS 2021)",
        equal={**_fills("softmax", calibration="norcal", train="none"), **_LOW_SCORES},
        needs=BASELINE,
    ),
    "logit-adjustment": Method(
        summary="The share of a class among the training instances is taken out of its logit, after training.",
        source="Logit Adjustment (ICLR 2021), post-hoc",
        equal={**_fills("softmax", calibration="logit-adjustment", train="none"), **_ALL_SCORES},
        needs=BASELINE,
    ),
    "fracal": Method(
        summary="Rare classes gain by their images; those whose boxes lie everywhere in the image lose.",
        source="FRACAL (CVPR 2025)",
        equal={**_fills("softmax", calibration="fracal", train="none"), **_LOW_SCORES},
        needs=BASELINE,
    ),
    "logn": Method(
        summary="The logits of each class are normalised by their mean and deviation over training regions.",
        source="LogN (IJCV 2024)",
        equal={**_fills("softmax", calibration="logn", train="none"), **_LOW_SCORES},
        needs=BASELINE,
    ),
}

# those that are fitted to a trained run: what ``lt-train calibrate`` offers
POST_HOC: Final = tuple(name for name, method in METHODS.items() if method.kind == "post-hoc")
# those whose head counts classes differently: what ``lt-data class-weights`` offers
REWEIGHTED: Final = tuple(name for name, method in METHODS.items() if method.equal["head"]["name"] == "reweight")


def fills(method: str, variant: str = "equal", *, masks: bool = False) -> dict[str, Any]:
    """Recipe keys and the values that a method gives them, unless the recipe or the command line sets them.

    Args:
        method: A key of ``METHODS``.
        variant: ``equal`` (one budget, the test settings of the recipe), or what the released ``code`` of BAGS or its
            ``text`` does; where one of them says nothing, it is as ``equal``.
        masks: Whether the detector predicts masks: the code tests Mask R-CNN in another way.

    Returns:
        Values by key, sections as mappings, lists as YAML has them.

    Source: BAGS (CVPR 2020), its supplement, and the configurations of its released code.
    """
    entry = METHODS[method]
    if variant == "equal":
        return dict(entry.equal)
    tested = _tested(method, masks=masks and variant == "code") if entry.published else {}
    return _over(_over(entry.equal, tested), entry.code if variant == "code" else entry.text)


def _tested(method: str, *, masks: bool) -> Mapping[str, Any]:
    """Test settings of a method that BAGS compares; of others its code and text say nothing."""
    return _MASKS_OF_CODE.get(method, _TESTED) if masks else _TESTED


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Both, section by section; what lies above is seen."""
    both = {**below, **above}
    for key, value in above.items():
        if isinstance(value, Mapping) and isinstance(below.get(key), Mapping):
            both[key] = _over(below[key], value)
    return both
