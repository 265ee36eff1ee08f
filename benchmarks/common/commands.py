"""The commands of this checkout, as a study runs them."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path

from lt_train.studies.steps import Call, run_command

ROOT = Path(__file__).resolve().parents[2]


def own_commands() -> Call:
    """Runs the commands of this checkout, installed or not."""
    folders = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    commands = {"lt-train": (sys.executable, "-m", "cli.train")}
    return partial(run_command, commands=commands, environment={**os.environ, "PYTHONPATH": folders})
