"""Files of tensors with other tools' objects beside them: the tensors are read, no code of an object is.

torchvision's references save an ``argparse.Namespace``, mmengine its ``HistoryBuffer``, Lightning whatever a model was
made with.
"""

from __future__ import annotations

import pickle
import pickletools
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import torch

# pickles at the start of a file in PyTorch's format before 1.6: two marks, the machine, the content
OLD_FORMAT_PICKLES = 4


class Inert(dict[Any, Any]):
    """Stands where a file has an object or a function: it takes what that would have been given, and does nothing.

    Attributes:
        state: Plain data that the object would have been filled with, or ``None``.
    """

    state: Any = None

    def __new__(cls, *_args: Any, **_options: Any) -> Inert:
        """Ignores what the object would have been made from."""
        return super().__new__(cls)

    def __init__(self, *_args: Any, **_options: Any) -> None:
        super().__init__()

    def __hash__(self) -> int:  # type: ignore[override]
        """Objects may be keys."""
        return id(self)

    def __setstate__(self, state: Any) -> None:
        self.state = state


def load_inert(path: str | Path) -> Any:
    """What ``torch.save`` wrote, with an :class:`Inert` for everything that only code could rebuild.

    PyTorch's restricted reader does the work: it imports nothing, and calls nothing but its constructors of tensors.

    Raises:
        Exception: Whatever PyTorch raises for a file that it cannot read.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        names = object_names(path)
    with torch.serialization.safe_globals([(Inert, name) for name in sorted(names)]):
        return torch.load(path, map_location="cpu", weights_only=True)


def object_names(path: str | Path) -> set[str]:
    """Functions and classes that a file asks for, by their whole names; the file is looked through, not run."""
    names = set()
    # a file that ends or is damaged midway has the names so far; reading it will say what is wrong
    with Path(path).open("rb") as file, suppress(ValueError, EOFError, zipfile.BadZipFile):
        for stream in _pickles(file):
            for operation, argument, _ in pickletools.genops(stream):
                if operation.name == "GLOBAL" and isinstance(argument, str):
                    names.add(_whole_name(*argument.split(" ", 1)))
    return names


def _pickles(file: IO[bytes]) -> Iterator[IO[bytes]]:
    """The pickles of a file, each to be read up to its end."""
    if not zipfile.is_zipfile(file):
        file.seek(0)
        yield from [file] * OLD_FORMAT_PICKLES
        return
    with zipfile.ZipFile(file) as archive:
        for entry in archive.infolist():
            # PyTorch does not compress; what is compressed may be of any size
            if entry.filename.endswith("/data.pkl") and entry.compress_type == zipfile.ZIP_STORED:
                yield BytesIO(archive.read(entry))


def _whole_name(module: str, name: str) -> str:
    """``module.name``; names of Python 2, which old files have, as Python 3 calls them."""
    if (module, name) in NAME_MAPPING:
        return ".".join(NAME_MAPPING[module, name])
    return f"{IMPORT_MAPPING.get(module, module)}.{name}"
