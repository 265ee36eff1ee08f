"""A run on images of more than 8 bits that EXIF turns is, bit by bit, the run on the same pictures as usual files."""

import json

import numpy as np
import pytest
from PIL import Image

from lt_data.errors import DataError
from lt_train.engine.fit import fit
from lt_train.inference.evaluate_run import evaluate_run
from lt_train.inference.predict_images import predict_images
from lt_train.recipe.sections import Files

# how EXIF 6 stores a picture: turned to the left
TURNED = 6


@pytest.fixture(scope="module")
def pools(tiny_pool, tmp_path_factory):
    """The tiny pool in gray, a little less high than wide: as 8-bit files, and with 12 bits, each other turned."""
    folder = tmp_path_factory.mktemp("depth")
    content = json.loads((tiny_pool / "annotations.json").read_text())
    for kind in ("usual", "deep"):
        (folder / kind).mkdir()
    for row, record in enumerate(content["images"]):
        with Image.open(tiny_pool / "images" / record["file_name"]) as image:
            gray = np.asarray(image.convert("L"))[:-4]
        record |= {"file_name": f"{row}.png", "width": gray.shape[1], "height": gray.shape[0]}
        Image.fromarray(gray).save(folder / "usual" / record["file_name"])
        exif, deep = Image.Exif(), 16 * gray.astype(np.uint16)
        if row % 2:
            exif[0x0112] = TURNED
            deep = np.ascontiguousarray(np.rot90(deep))
        Image.fromarray(deep).save(folder / "deep" / record["file_name"], exif=exif)
    (folder / "a.json").write_text(json.dumps(content))
    return folder


def files(folder, kind):
    return [f"data.{part}.{key}={value}" for part in ("train", "val") for key, value in (
        ("annotations", folder / "a.json"), ("images", folder / kind),
    )]  # fmt: skip


def losses(run):
    rows = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    return [row["loss"] for row in rows if "loss" in row]


def test_training_evaluating_and_predicting_read_images_alike(tiny_recipe, pools, tmp_path):
    usual = fit(tiny_recipe(*files(pools, "usual")), tmp_path / "usual")
    keys = ["data.image_range=0,4080", "data.exif=apply"]
    deep = fit(tiny_recipe(*files(pools, "deep"), *keys), tmp_path / "deep")
    assert losses(usual) == losses(deep)
    assert "6 of 12 images are turned or mirrored by EXIF" in deep.log.read_text()
    for run in (usual, deep):
        given = Files(annotations=pools / "a.json", images=pools / run.path.name)
        evaluate_run(run.path, files=given, out=run.path / "again")
        predict_images(run.path, pools / run.path.name, run.path / "found", pictures=1)
    for name in ("eval/predictions.json", "again/predictions.json", "found/predictions.json", "found/images.json"):
        assert (usual.path / name).read_bytes() == (deep.path / name).read_bytes(), name
    pictures = [np.asarray(Image.open(run.path / "found/pictures/0.png.png")) for run in (usual, deep)]
    assert np.array_equal(*pictures)


def test_values_without_a_range_are_refused_before_a_run_is_made(tiny_recipe, pools, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    content = json.loads((pools / "a.json").read_text())
    for record in content["images"]:
        with Image.open(pools / "usual" / record["file_name"]) as image:
            values = 300 * np.asarray(image).astype(np.int32)
        record["file_name"] = record["file_name"].replace("png", "tif")
        Image.fromarray(values).save(images / record["file_name"])
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="32-bit integers from .* data.image_range=LOW,HIGH"):
        fit(tiny_recipe(*files(tmp_path, "images")), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_turned_images_whose_record_has_the_other_size_are_refused_with_the_key(tiny_recipe, pools, tmp_path):
    with pytest.raises(DataError, match="once turned by its EXIF orientation; use data.exif=apply"):
        fit(tiny_recipe(*files(pools, "deep"), "data.image_range=0,4080"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
