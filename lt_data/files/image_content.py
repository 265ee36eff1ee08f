"""What an image file holds that no decoder takes: one short text instead of a decoder's own."""

from __future__ import annotations

from typing import Final

# how files begin that were meant to be an image
_STARTS: Final = (
    (b"version https://git-lfs", "a Git LFS pointer, not the image; fetch it with git lfs pull"),
    (b"<!doctype", "an HTML page, as failed downloads leave; fetch the image again"),
    (b"<html", "an HTML page, as failed downloads leave; fetch the image again"),
    (b"<?xml", "XML text, not an image; fetch the image again"),
    (b"<svg", "an SVG drawing, not an image of pixels; convert it"),
    (b"{", "JSON text, not an image; fetch the image again"),
    (b"%pdf", "a PDF document, not an image; convert it"),
    (b"pk\x03\x04", "a zip archive, not an image; unpack it"),
    (b"\x1f\x8b", "a gzip file, not an image; unpack it"),
    (b"\x93numpy", "a NumPy array, not an image; convert it"),
)
_SHOWN: Final = 8


def not_an_image(content: bytes) -> str:
    """What is in a file that is in no image format, and what to do.

    Args:
        content: The file's bytes, or its first hundred.
    """
    if not content:
        return "the file is empty; fetch the image again"
    if not content.strip(b"\0"):
        return "the file holds zeros only; fetch the image again"
    start = content.removeprefix(b"\xef\xbb\xbf").lstrip()[:64].lower()
    for first, text in _STARTS:
        if start.startswith(first):
            return f"the file holds {text}"
    return f"in no image format that Pillow reads (it starts with the bytes {content[:_SHOWN].hex(' ')})"


def why_unreadable(error: Exception, start: bytes) -> str:
    """Why a decoder refused a file, in one line.

    Args:
        error: What it raised.
        start: The first bytes of the file.
    """
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return not_an_image(start)
    return " ".join(str(error).split()) or type(error).__name__
