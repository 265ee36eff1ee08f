"""What other tools call keys of a recipe, methods and samplers, for those who come from there.

The names are those of detectron2, mmdetection, Ultralytics, Lightning, torchvision's references and the papers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from lt_train.options.errors import OtherNames

_KEYS: Final[Mapping[str, str]] = {
    "optim.lr": "lr lr0 base_lr learning_rate learningrate init_lr",
    "optim.momentum": "sgd_momentum",
    "optim.weight_decay": "wd decay_weight",
    "optim.batch": "batch bs batch_size batchsize ims_per_batch images_per_batch samples_per_gpu train_batch_size",
    "optim.base_batch": "base_batch_size",
    "optim.accumulate": "accumulate_grad_batches gradient_accumulation_steps accumulation accumulation_steps "
    "accumulative_counts grad_accum",
    "optim.clip": "clip_grad clip_grad_norm gradient_clip_val grad_clip max_norm clip_value clip_gradients",
    "optim.ema": "ema_decay model_ema model_ema_decay",
    "schedule.epochs": "epoch num_epochs max_epochs n_epochs total_epochs",
    "schedule.iterations": "iters iterations max_iter max_iters max_steps num_iterations total_steps steps",
    "schedule.decay": "milestones lr_steps lr_milestones step_milestones decay_epochs",
    "schedule.decay_factor": "lr_gamma gamma lrf lr_decay",
    "schedule.warmup": "warmup_iters warmup_steps warmup_epochs warmup_iterations",
    "schedule.warmup_start": "warmup_factor warmup_ratio warmup_bias_lr start_factor",
    "model.name": "arch architecture backbone detector meta_architecture model_name",
    "model.weights": "pretrained checkpoint load_from pretrained_weights init_weights weights_backbone",
    "model.min_size": "imgsz img_size image_size img_scale min_size_train short_side input_size",
    "model.max_size": "max_size_train long_side",
    "model.min_size_range": "multi_scale multiscale scale_range ratio_range ms_range",
    "model.test_min_size": "min_size_test test_short_side",
    "model.test_max_size": "max_size_test",
    "model.dcn": "deform deformable deform_conv stage_with_dcn deform_on_per_stage",
    "model.score_threshold": "conf conf_thres score_thr score_thresh box_score_thresh score_thresh_test",
    "model.num_detections": "max_det max_dets max_per_img detections_per_image box_detections_per_img",
    "data.workers": "num_workers workers_per_gpu n_workers",
    "data.groups": "edges bins group_edges",
    "data.flip": "fliplr flip_ratio flip_prob hflip random_flip horizontal_flip",
    "data.augment.scale": "lsj scale_jitter large_scale_jitter",
    "data.augment.crop": "random_crop crop_size randomcrop",
    "data.augment.brightness": "hsv_v color_jitter colour_jitter photometric photometricdistortion",
    "data.augment.saturation": "hsv_s",
    "data.augment.hue": "hsv_h",
    "data.augment.paste.objects": "copy_paste copypaste copy_paste_prob",
    "data.train.annotations": "train_ann train_ann_file train_annotations train_json",
    "data.val.annotations": "val_ann val_ann_file val_annotations val_json",
    "data.train.images": "train_img_dir train_images train_image_dir",
    "data.val.images": "val_img_dir val_images val_image_dir",
    "compute.precision": "amp fp16 bf16 half mixed_precision use_amp dtype",
    "compute.compile": "torch_compile",
    "seed": "random_seed manual_seed",
    "device": "gpu gpus accelerator cuda",
    "eval.every": "eval_period val_interval check_val_every_n_epoch eval_interval evaluation_interval",
    "log_every": "log_interval print_freq log_period log_every_n_steps",
    "trackers": "logger loggers tracker log_with",
    "method": "algorithm preset long_tail",
    "head": "loss loss_cls loss_type classifier criterion",
    "sampler.name": "sampler_train",
}
# inside data.train and data.val
_FILES: Final[Mapping[str, str]] = {
    **dict.fromkeys(("ann_file", "annotation", "annfile", "ann", "json", "json_file", "labels"), "annotations"),
    **dict.fromkeys(("image", "img", "img_dir", "image_dir", "img_prefix", "image_root", "data_root"), "images"),
}
# as all values below: in small letters, with hyphens -> the method
OTHER_METHODS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("balanced-group-softmax", "balancedgroupsoftmax", "group-softmax", "bgs", "gs"), "bags"),
    **dict.fromkeys(("repeat-factor", "repeat-factor-sampling"), "rfs"),
    **dict.fromkeys(("instance-aware-repeat-factor-sampling", "instance-aware-rfs"), "irfs"),
    **dict.fromkeys(("baseline", "none", "ce", "cross-entropy"), "softmax"),
    **dict.fromkeys(("class-balanced", "class-balanced-loss", "cb", "cb-loss"), "reweight-cls"),
    **dict.fromkeys(("ncm", "nearest-class-mean"), "ncm-fc"),
    **dict.fromkeys(("tau", "tau-normalisation", "tau-normalization", "taunorm"), "tau-norm"),
    **dict.fromkeys(("focal-loss", "sigmoid-focal"), "focal"),
    **dict.fromkeys(("class-balanced-sampling", "cas", "class-aware-sampling"), "class-aware"),
}
# the same for what is one of several in a recipe
OTHER_VALUES: Final[Mapping[str, str]] = {
    **OTHER_METHODS,
    **dict.fromkeys(("random", "randomsampler", "default"), "shuffle"),
    **dict.fromkeys(("rfs", "repeatfactortrainingsampler", "repeat-factor-training-sampler"), "repeat-factor"),
    **dict.fromkeys(("classawaresampler", "class-balanced", "classbalanceddataset"), "class-aware"),
    **dict.fromkeys(("fasterrcnn", "faster-rcnn", "fasterrcnn-resnet50-fpn"), "faster_rcnn_r50_fpn"),
    **dict.fromkeys(
        ("fasterrcnn-mobilenet-v3-large-fpn", "mobilenet", "mobilenetv3"), "faster_rcnn_mobilenet_v3_large_fpn"
    ),
    **dict.fromkeys(("maskrcnn", "mask-rcnn", "maskrcnn-resnet50-fpn"), "mask_rcnn_r50_fpn"),
}


def _keys() -> dict[str, str]:
    """The key of a recipe by what others call it; dots where the section is needed to know."""
    anywhere = {name: key for key, names in _KEYS.items() for name in names.split()}
    files = {f"data.{part}.{name}": f"data.{part}.{key}" for part in ("train", "val") for name, key in _FILES.items()}
    return {**anywhere, **files}


_ABSENT: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        ("num_classes", "n_classes", "nc", "number_of_classes"),
        "the classes are the categories of data.train.annotations",
    ),
    **dict.fromkeys(
        ("patience", "early_stopping", "early_stop", "early_stopping_patience"),
        "a run takes all of its schedule, and keeps the checkpoint with the best AP as best (see eval.every)",
    ),
}
OTHER_NAMES: Final = OtherNames(_keys(), OTHER_VALUES, _ABSENT)


def key_of(name: str) -> str | None:
    """The key of a recipe that a name means: one of ours as it is, or what other tools call it; ``None`` for others.

    Args:
        name: As somebody types it for an option, such as ``learning-rate``.
    """
    plain = name.lower().replace("-", "_")
    ours = {key.rpartition(".")[2]: key for key in _KEYS} | {key: key for key in _KEYS}
    return OTHER_NAMES.keys.get(plain) or ours.get(plain)
