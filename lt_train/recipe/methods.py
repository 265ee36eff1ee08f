"""Methods: presets that fill keys of a recipe; explicit keys beat them.

Each is a head, a sampler, a calibration, and a regime: what is trained, from where, and for how long.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

BASELINE = "--init-from RUN, a softmax baseline"
MODEL: Final = "Faster R-CNN R50-FPN"
TRAINED: Final = {
    "all": "all but conv1 and layer1",
    "head+reg": "the two fully connected layers, classifier and box regressor",
    "classifier": "the classifier",
    "none": "nothing: fitted to a trained run",
}


@dataclass(frozen=True)
class Method:
    """One entry of ``lt-train methods``.

    Attributes:
        summary: One sentence.
        source: Where the method comes from.
        fills: Recipe keys and the values they take unless the recipe or the command line sets them.
        needs: What has to exist before, for people.
        keeps_classifier: Whether it goes on from the classifier of that run, so that a fresh one makes no sense.
        row: Number of the model in the comparison of BAGS (CVPR 2020); 0 for what it does not compare.
        published: How ``lt_train.evaluation.comparison.published`` calls the method; empty where nothing was published.
    """

    summary: str
    source: str
    fills: Mapping[str, Any]
    needs: str = "nothing"
    keeps_classifier: bool = False
    row: int = 0
    published: str = ""

    @property
    def starts_from_run(self) -> bool:
        """Whether it is a second stage, which goes on from a trained run."""
        return self.needs != "nothing"


def _fills(head: str, sampler: str = "shuffle", calibration: str = "none", train: str = "all") -> dict[str, Any]:
    return {
        "head": {"name": head},
        "sampler": {"name": sampler},
        "calibration": {"name": calibration},
        "train": train,
    }


# 10 epochs at a hundredth of the baseline's rate, one decay
_TUNE: Final = {"optim": {"lr": 1e-4}, "schedule": {"epochs": 10, "decay": [7]}}
_BETA_1: Final = {"name": "bags", "others_ratio": 1.0}
_BALANCED: Final = {"name": "reweight", "weighting": "effective-number", "beta": 0.999}

METHODS: Final[Mapping[str, Method]] = {
    "softmax": Method(
        summary="Softmax cross-entropy over all classes and the background: the baseline.",
        source="Faster R-CNN (NeurIPS 2015), Mask R-CNN (ICCV 2017)",
        fills=_fills("softmax"),
        row=1,
        published="softmax",
    ),
    "x2": Method(
        summary="The baseline trained as long again: what more training alone gives.",
        source="BAGS (CVPR 2020), model 2",
        fills=_fills("softmax"),
        needs=BASELINE,
        row=2,
        published="softmax x2",
    ),
    "finetune-tail": Method(
        summary="The baseline tuned on the classes with fewer than 100 instances alone.",
        source="BAGS (CVPR 2020), model 3",
        fills={**_fills("softmax"), "data": {"classes_below": 100}, **_TUNE},
        needs=BASELINE,
        keeps_classifier=True,
        row=3,
        published="finetune tail",
    ),
    "rfs": Method(
        summary="Repeat-factor sampling: images with rare categories are seen more often.",
        source="LVIS (CVPR 2019), appendix B",
        fills=_fills("softmax", "repeat-factor"),
        row=4,
        published="RFS",
    ),
    "rfs-finetune": Method(
        summary="Repeat-factor sampling for a second training that starts from the baseline.",
        source="BAGS (CVPR 2020), model 5",
        fills=_fills("softmax", "repeat-factor"),
        needs=BASELINE,
        row=5,
        published="RFS-finetune",
    ),
    "class-aware": Method(
        summary="Class-aware sampling: a class is drawn, then one of its images, so that all classes are seen alike.",
        source="Relay Backpropagation (ECCV 2016)",
        fills=_fills("softmax", "class-aware"),
    ),
    "reweight": Method(
        summary="Softmax cross-entropy in which a region counts by the inverse count of its class.",
        source="BAGS (CVPR 2020), model 6",
        fills=_fills("reweight"),
        needs=BASELINE,
        row=6,
        published="re-weight",
    ),
    "reweight-cls": Method(
        summary="Re-weighting by the effective number of instances; only the classifier is trained.",
        source="Class-Balanced Loss (CVPR 2019); BAGS, model 7",
        fills={**_fills("reweight", train="classifier"), "head": _BALANCED},
        needs=BASELINE,
        row=7,
        published="re-weight-cls",
    ),
    "focal": Method(
        summary="Sigmoid focal loss for every class: easy regions are played down.",
        source="Focal Loss (ICCV 2017); BAGS, model 8",
        fills=_fills("focal"),
        needs=BASELINE,
        row=8,
        published="focal",
    ),
    "focal-cls": Method(
        summary="Sigmoid focal loss; only the classifier is trained.",
        source="Focal Loss (ICCV 2017); BAGS, model 9",
        fills=_fills("focal", train="classifier"),
        needs=BASELINE,
        row=9,
        published="focal-cls",
    ),
    "ncm-fc": Method(
        summary="Nearest class mean: cosine to the mean feature of each class, second fully connected layer.",
        source="BAGS (CVPR 2020), model 10",
        fills={**_fills("softmax", train="none"), "calibration": {"name": "ncm", "features": "fc"}},
        needs=BASELINE,
        row=10,
        published="NCM-fc",
    ),
    "ncm-conv": Method(
        summary="Nearest class mean on the pooled feature map of a region.",
        source="BAGS (CVPR 2020), model 11",
        fills={**_fills("softmax", train="none"), "calibration": {"name": "ncm", "features": "conv"}},
        needs=BASELINE,
        row=11,
        published="NCM-conv",
    ),
    "tau-norm": Method(
        summary="Every row of the classifier, the background's too, divided by its length to the power tau.",
        source="Decoupling (ICLR 2020); BAGS, model 12",
        fills={**_fills("softmax", train="none"), "calibration": {"name": "tau-norm", "background": "normalise"}},
        needs=BASELINE,
        row=12,
        published="tau-norm",
    ),
    "tau-norm-select": Method(
        summary="Tau-normalised scores only for regions that the baseline calls foreground and tau-norm calls tail.",
        source="BAGS (CVPR 2020), model 13",
        fills={**_fills("softmax", train="none"), "calibration": {"name": "tau-norm", "background": "select-tail"}},
        needs=BASELINE,
        row=13,
        published="tau-norm-select",
    ),
    "bags": Method(
        summary="Balanced group softmax: one softmax per group of classes with similar instance counts.",
        source="BAGS (CVPR 2020), section 3",
        fills=_fills("bags", train="classifier"),
        needs=BASELINE,
        row=14,
        published="BAGS",
    ),
    "bags-train-cls": Method(
        summary="BAGS with one 'others' per positive; a fresh classifier is trained.",
        source="BAGS (CVPR 2020), supplement, table 1, row 1",
        fills={**_fills("bags", train="classifier"), "head": _BETA_1},
        needs=BASELINE,
        published="BAGS beta 1, train classifier",
    ),
    "bags-train-head": Method(
        summary="The same, with the box head and regressor trained too.",
        source="BAGS (CVPR 2020), supplement, table 1, row 2",
        fills={**_fills("bags", train="head+reg"), "head": _BETA_1},
        needs=BASELINE,
        published="BAGS beta 1, train head",
    ),
    "bags-tune-head": Method(
        summary="A run of bags-train-cls goes on at a low rate with the box head and regressor.",
        source="BAGS (CVPR 2020), supplement, table 1, row 3",
        fills={**_fills("bags", train="head+reg"), "head": _BETA_1, **_TUNE},
        needs="--init-from RUN, of bags-train-cls",
        keeps_classifier=True,
        published="BAGS beta 1, tune head",
    ),
    "bags-tune-all": Method(
        summary="A run of bags-train-cls goes on at a low rate with everything.",
        source="BAGS (CVPR 2020), supplement, table 1, row 4",
        fills={**_fills("bags"), "head": _BETA_1, **_TUNE},
        needs="--init-from RUN, of bags-train-cls",
        keeps_classifier=True,
        published="BAGS beta 1, tune all",
    ),
}

# those that are fitted to a trained run: what ``lt-train calibrate`` offers
POST_HOC: Final = tuple(name for name, method in METHODS.items() if method.fills["calibration"]["name"] != "none")
