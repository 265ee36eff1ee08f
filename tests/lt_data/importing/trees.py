"""Small trees of Pascal VOC and YOLO annotations with their images."""

import json

from PIL import Image

SIZE = (64, 48)


def picture(path, size=SIZE, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (90, 120, 150)).save(path, **options)


def text(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def voc_object(name="cat", box=(1, 2, 11, 22), *, difficult=None, more=""):
    corners = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    mark = "" if difficult is None else f"<difficult>{difficult}</difficult>"
    return f"<object><name>{name}</name><pose>Left</pose>{mark}<bndbox>{corners}</bndbox>{more}</object>"


def voc(*objects, filename="", size=SIZE, head=""):
    told = "" if size is None else "<size><width>{}</width><height>{}</height><depth>3</depth></size>".format(*size)
    name = f"<filename>{filename}</filename>" if filename else ""
    return f"{head}<annotation><folder>x</folder>{name}{told}{''.join(objects)}</annotation>"


def voc_tree(folder, files, *, suffix=".png"):
    """Annotations in ``xml`` and an image beside each in ``images``; returns both folders."""
    for name, content in files.items():
        text(folder / "xml" / f"{name}.xml", content)
        picture(folder / "images" / f"{name}{suffix}")
    return folder / "xml", folder / "images"


def yolo_tree(folder, files, *, names=("cat", "dog")):
    """``labels``, ``images`` and ``classes.txt`` of one folder."""
    for name, content in files.items():
        text(folder / "labels" / f"{name}.txt", content)
        picture(folder / "images" / f"{name}.jpg")
    text(folder / "classes.txt", "".join(f"{name}\n" for name in names))
    return folder


def load(path):
    return json.loads(path.read_text())


def codes(report):
    return {finding.code: finding.examples for finding in report.findings}
