"""The official ``lvis`` package, made to run: its release 0.5.3 uses ``numpy.float``, which NumPy removed in 1.24.

A copy of its modules is loaded for this package alone: nobody else's ``lvis`` or ``numpy`` changes, the package's
``logging.basicConfig`` does not run, and neither OpenCV nor matplotlib, which only its drawing needs, is imported.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
import sys
import warnings
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

import numpy as np

_LOGGERS = ("lvis.lvis", "lvis.results", "lvis.eval")


class _NumPyWithFloat:
    """NumPy as ``lvis`` knows it."""

    float = float

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


def find_lvis() -> ModuleSpec | None:
    """Where the package is; None if it is not installed. Nothing is imported."""
    return PathFinder.find_spec("lvis")


@functools.cache
def lvis_eval() -> ModuleType:
    """The package's module ``lvis.eval``, with ``LVIS``, ``LVISResults`` and ``LVISEval`` in it.

    Raises:
        ModuleNotFoundError: It is not installed.
    """
    spec = find_lvis()
    if spec is None:
        raise ModuleNotFoundError("No module named 'lvis'", name="lvis")
    package = ModuleType("lvis")
    package.__path__ = list(spec.submodule_search_locations or ())
    others = _taken_out()
    sys.modules["lvis"] = package
    try:
        module = importlib.import_module("lvis.eval")
    finally:
        _taken_out()
        sys.modules.update(others)
    module.__dict__["np"] = _NumPyWithFloat()
    return module


def _taken_out() -> dict[str, ModuleType]:
    """The modules of the name ``lvis``, no longer importable by it."""
    names = [name for name in sys.modules if name.partition(".")[0] == "lvis"]
    return {name: sys.modules.pop(name) for name in names}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps the package's messages from the log."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [logger.disabled for logger in loggers]
    with warnings.catch_warnings():
        # it calls a method of loggers that Python renamed
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            for logger in loggers:
                logger.disabled = True
            yield
        finally:
            for logger, disabled in zip(loggers, before, strict=True):
                logger.disabled = disabled
