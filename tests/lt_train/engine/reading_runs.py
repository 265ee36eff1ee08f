"""What a run left on the disk."""

import json

from lt_train.runs.checkpoint import load_checkpoint


def losses(run):
    lines = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def weights(run, which="last"):
    return load_checkpoint(run.checkpoint(which))["model"]
