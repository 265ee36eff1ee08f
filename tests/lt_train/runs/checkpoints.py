"""The smallest checkpoint of a training that is one."""

import torch


def content(*, done=1, **changed):
    """Its entries, without the format."""
    weight = torch.arange(6.0).reshape(2, 3)
    return {
        "model": {"layer.weight": weight},
        "recipe": {"seed": 0, "data": {}, "model": {"min_size": [64]}},
        "categories": {
            "ids": [3, 5],
            "names": ["cat", "dog"],
            "instances": [4, 1],
            "images": [2, 1],
            "frequencies": ["r", "r"],
            "frequency_source": "counted",
        },
        "train_sha256": "0" * 64,
        "optimizer": {
            "state": {0: {"momentum_buffer": weight}},
            "param_groups": [{"lr": 0.1, "params": [0]}],
        },
        "scaler": {},
        "done": done,
        "best": None,
        "evaluated": 0,
        "val_sha256": None,
        **changed,
    }
