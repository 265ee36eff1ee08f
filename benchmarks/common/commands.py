"""The commands of this checkout, as a study runs them."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path

from lt_train.studies.commands import Command, Start, shares

ROOT = Path(__file__).resolve().parents[2]


def own_commands(jobs: int = 1) -> Start:
    """Starts the commands of this checkout, installed or not; so many run beside each other."""
    folders = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    commands = {"lt-train": (sys.executable, "-m", "cli.train")}
    environments = [{**share, "PYTHONPATH": folders} for share in shares(jobs)]
    return partial(Command, commands=commands, environments=environments)
