"""The configuration in mmdetection's checkpoints: the text of a Python file, parsed and never run."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lt_data.errors import DataError
from lt_train.detectors.foreign.mmdetection_settings import has_legacy_anchors, unlike_ours
from lt_train.detectors.foreign.pixels import Pixels, pixels
from lt_train.detectors.foreign.settings import ABSENT, mappings, setting

# no configuration is as long as that
MOST_CHARACTERS = 200_000


@dataclass(frozen=True)
class Trained:
    """What a configuration says of a model.

    Attributes:
        pixels: Its input; ``None`` is unknown.
        legacy_anchors: Whether its anchors are version 1's in a later version.
        aligned: Whether it pools regions half a cell aside, as later versions do unless told otherwise.
    """

    pixels: Pixels | None = None
    legacy_anchors: bool = False
    aligned: bool = True


def trained_as(meta: object, *, where: str, cascade: bool = False) -> Trained:
    """What the configuration in ``meta`` says; ``Trained()`` if there is none that can be read.

    Args:
        meta: Of a checkpoint.
        where: The file, for messages.
        cascade: Whether the weights are of a detector of three stages.

    Raises:
        DataError: The model is one that ours cannot be.
    """
    texts = [meta.get(key) for key in ("config", "cfg")] if isinstance(meta, Mapping) else []
    config = next((parsed(text) for text in texts if isinstance(text, str)), None)
    if config is None or setting(config, "model") is ABSENT:
        return Trained()
    problems = unlike_ours(config, where=where, cascade=cascade)
    if problems:
        raise DataError(problems)
    aligned = setting(config, "model.roi_head.bbox_roi_extractor.roi_layer.aligned") is not False
    return Trained(_pixels(config, where), has_legacy_anchors(config), aligned)


def parsed(text: str) -> dict[str, Any] | None:
    """Names that a configuration's text sets, as dicts, lists and plain values; ``None`` if it is no such text.

    What is not written out (a name, a sum, another file) is left out.
    """
    # version 1 has the file's path in the first line
    for part in (text, text.partition("\n")[2]):
        found = _assigned(part) if len(part) <= MOST_CHARACTERS else {}
        if found:
            return found
    return None


def _assigned(text: str) -> dict[str, Any]:
    """Values of the names that lines of Python set; nothing if it is not Python."""
    try:
        with warnings.catch_warnings():
            # of odd escapes in somebody's text
            warnings.simplefilter("ignore")
            lines = [line for line in ast.parse(text).body if isinstance(line, ast.Assign)]
        pairs = [(line.targets[0], _value(line.value)) for line in lines]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}
    return {target.id: value for target, value in pairs if isinstance(target, ast.Name) and value is not ABSENT}


def _value(node: ast.expr) -> Any:
    """The value that is written out as a literal, or as a call of ``dict``; ``ABSENT`` for anything else."""
    if isinstance(node, ast.Call):
        if not (isinstance(node.func, ast.Name) and node.func.id == "dict" and not node.args):
            return ABSENT
        pairs = [(pair.arg, _value(pair.value)) for pair in node.keywords]
        return {key: value for key, value in pairs if key is not None and value is not ABSENT}
    if isinstance(node, ast.Dict):
        keys = [key.value if isinstance(key, ast.Constant) else None for key in node.keys]
        values = map(_value, node.values)
        return {k: v for k, v in zip(keys, values, strict=True) if isinstance(k, str) and v is not ABSENT}
    if isinstance(node, ast.List | ast.Tuple):
        return [value for value in map(_value, node.elts) if value is not ABSENT]
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        return ABSENT


def _pixels(config: Mapping[str, Any], where: str) -> Pixels | None:
    """The one statistics of pixels that a configuration names; ``None`` if it names none.

    Raises:
        DataError: It names several, or such that this model cannot have.
    """
    found = []
    for part in mappings(config):
        if isinstance(part.get("mean"), list) and "std" in part:
            # the preprocessor of version 3 leaves the order of the file, B, G, R, unless told otherwise
            rgb = part.get("bgr_to_rgb", part.get("to_rgb", "DataPreprocessor" not in str(part.get("type", ""))))
            found.append(pixels(part["mean"], part["std"], bgr=not rgb, where=where))
    if len(set(found)) > 1:
        raise DataError(
            f"weights {where}: its configuration names {len(set(found))} statistics of pixels; allowed is one, save "
            "the state_dict with the configuration of one model as meta"
        )
    return found[0] if found else None
