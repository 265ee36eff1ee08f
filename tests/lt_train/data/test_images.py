"""Image files: the pixels of Pillow, whoever decodes them; broken files in one line."""

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from lt_data.errors import DataError
from lt_data.files.pixels import ImageReading
from lt_train.data import images
from lt_train.data.images import read_image, resized_size


def write(folder):
    pixels = np.arange(30 * 40 * 3, dtype=np.uint8).reshape(30, 40, 3)
    Image.fromarray(pixels).save(folder / "5.png")


def by_pillow(path):
    return torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1)


def noisy(mode, side=61):
    smooth = np.add.outer(np.arange(side), 2 * np.arange(side))[..., None] + np.array([0, 40, 90, 17])
    values = (smooth + np.random.default_rng(0).integers(0, 60, (side, side, 4))).astype(np.uint8)
    return Image.fromarray(
        values if mode == "CMYK" else values[..., :3], mode=mode if mode == "CMYK" else "RGB"
    ).convert(mode)


@pytest.fixture(params=["torchcodec", "pillow"])
def decoder(request, monkeypatch):
    """With and without the extra."""
    if request.param == "pillow":
        monkeypatch.setattr(images, "fast_jpeg_decoder", lambda: None)
    else:
        assert images.fast_jpeg_decoder() is not None


@pytest.mark.usefixtures("decoder")
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", [{"quality": 40}, {"quality": 95, "subsampling": 0}, {"progressive": True}])
def test_jpegs_have_the_pixels_of_pillow(tmp_path, mode, options):
    path = tmp_path / "a.jpg"
    noisy(mode).save(path, **options)
    assert torch.equal(read_image(path, (61, 61)), by_pillow(path))


@pytest.mark.usefixtures("decoder")
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_stay_as_they_are_stored(tmp_path, orientation):
    """Annotations are of these pixels, whatever EXIF says of how the camera was held."""
    path, exif = tmp_path / "a.jpg", Image.Exif()
    exif[0x0112] = orientation
    noisy("RGB").crop((0, 0, 61, 40)).save(path, exif=exif)
    assert torch.equal(read_image(path, (61, 40)), by_pillow(path))


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "1"])
def test_other_modes_too(tmp_path, mode):
    path = tmp_path / "a.png"
    noisy("RGB").convert(mode).save(path)
    got = read_image(path, (0, 0))
    assert got.dtype == torch.uint8
    assert torch.equal(got, by_pillow(path))


def test_images_of_16_bits_are_scaled_by_their_type(tmp_path):
    values = np.array([[0, 128, 129], [257, 32768, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    got = read_image(tmp_path / "a.png", (3, 2))
    assert got.tolist() == [[[0, 0, 1], [1, 128, 255]]] * 3
    twelve = read_image(tmp_path / "a.png", (3, 2), ImageReading((0, 4095)))
    assert twelve[0].tolist() == [[0, 8, 8], [16, 255, 255]]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (np.array([[0, 70000]], np.int32), "32-bit integers from 0 to 70000, and nothing says which values are black"),
        (np.array([[-0.5, 1]], np.float32), "floats from -0.5 to 1, and nothing says which"),
        (np.array([[np.nan, 1]], np.float32), "floats that are not all finite"),
    ],
)
def test_values_whose_range_nothing_says_are_refused_in_one_line(tmp_path, values, says):
    path = tmp_path / "a.tif"
    Image.fromarray(values).save(path)
    with pytest.raises(DataError) as error:
        read_image(path, (0, 0))
    (line,) = error.value.problems
    assert line.startswith(f"{path}: {says}")


def test_a_range_says_what_integers_and_floats_are(tmp_path):
    Image.fromarray(np.array([[-100, 0, 100]], np.int32)).save(tmp_path / "i.tif")
    Image.fromarray(np.array([[0, 0.5, 1]], np.float32)).save(tmp_path / "f.tif")
    assert read_image(tmp_path / "i.tif", (3, 1), ImageReading((-100, 100)))[0].tolist() == [[0, 128, 255]]
    assert read_image(tmp_path / "f.tif", (3, 1))[0].tolist() == [[0, 128, 255]]
    assert read_image(tmp_path / "f.tif", (3, 1), ImageReading((0, 2)))[0].tolist() == [[0, 64, 128]]


def turned_file(folder, orientation, suffix="jpg"):
    """An image 61 px wide and 40 px high as it is stored, with an orientation."""
    path, exif = folder / f"{orientation}.{suffix}", Image.Exif()
    exif[0x0112] = orientation
    noisy("RGB").crop((0, 0, 61, 40)).save(path, exif=exif)
    return path


@pytest.mark.usefixtures("decoder")
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_images_are_turned_where_that_is_asked_for(tmp_path, orientation, suffix):
    path = turned_file(tmp_path, orientation, suffix)
    wanted = torch.from_numpy(np.array(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))).permute(2, 0, 1)
    height, width = wanted.shape[1:]
    for size in ((0, 0), (width, height)):
        assert torch.equal(read_image(path, size, ImageReading(exif="apply")), wanted)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_the_record_decides_whose_pixels_the_boxes_are_of(tmp_path, orientation):
    """A record with the size as stored has boxes of the stored pixels; one with the turned size needs them turned."""
    path = turned_file(tmp_path, orientation)
    assert torch.equal(read_image(path, (61, 40), ImageReading(exif="apply")), read_image(path, (61, 40)))
    with pytest.raises(DataError, match=r"says 40 x 61, which it is once turned .* use data\.exif=apply$"):
        read_image(path, (40, 61))


@pytest.mark.usefixtures("decoder")
def test_real_photographs(shared_data):
    paths = sorted((shared_data / "coco_real/train2017").glob("*.jpg"))[:40]
    assert paths
    for path in paths:
        assert torch.equal(read_image(path, (0, 0)), by_pillow(path)), path


@pytest.mark.usefixtures("decoder")
@pytest.mark.parametrize("share", [0.3, 0.95])
def test_a_jpeg_that_was_cut_off_is_refused(tmp_path, share):
    buffer = io.BytesIO()
    noisy("RGB", 200).save(buffer, "JPEG")
    content = buffer.getvalue()
    (tmp_path / "a.jpg").write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError, match="not a readable image"):
        read_image(tmp_path / "a.jpg", (200, 200))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"b\.jpg: not a readable image"):
        read_image(tmp_path / "b.jpg", (1, 1))


@pytest.mark.parametrize(("height", "width"), [(480, 640), (640, 480), (100, 2000), (333, 500), (1, 4000), (37, 53)])
def test_sizes_are_those_of_torchvision(height, width):
    image = torch.zeros(3, height, width)
    if height == 1:
        # torchvision fails where a side vanishes
        assert resized_size(height, width, 800, 1333) == (1, 1333)
        return
    resized, _ = GeneralizedRCNNTransform(800, 1333, [0.0], [1.0]).resize(image, None)
    assert resized_size(height, width, 800, 1333) == tuple(resized.shape[1:])


def test_image_of_another_size_or_no_image(tmp_path):
    write(tmp_path)
    with pytest.raises(DataError, match="40 x 30 pixels, its annotation says 10 x 10"):
        read_image(tmp_path / "5.png", (10, 10))
    assert read_image(tmp_path / "5.png", (0, 0)).shape == (3, 30, 40)
    (tmp_path / "5.png").write_bytes(b"not an image")
    with pytest.raises(DataError, match="not a readable image"):
        read_image(tmp_path / "5.png", (40, 30))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "the file is empty; fetch the image again"),
        (b"\n<!DOCTYPE html><html>", "the file holds an HTML page, as failed downloads leave; fetch the image again"),
        (b"version https://git-lfs.github.com/spec/v1\n", "the file holds a Git LFS pointer"),
        (b"\0" * 99, "the file holds zeros only"),
        (
            b"\1\2not an image",
            "in no image format that Pillow reads (it starts with the bytes 01 02 6e",
        ),
    ],
)
def test_what_is_in_a_file_that_is_no_image(tmp_path, content, says):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(DataError) as error:
        read_image(tmp_path / "a.jpg", (1, 1))
    assert str(error.value).startswith(f"{tmp_path}/a.jpg: not a readable image ({says}")


def test_an_image_beyond_pillows_limit_and_odd_decoder_errors(tmp_path, monkeypatch):
    """Neither error is an OSError."""
    write(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
        with pytest.raises(DataError, match=r"5\.png: not a readable image \(Image size \(1200 pixels\) exceeds limit"):
            read_image(tmp_path / "5.png", (40, 30))

    def broken(path):
        raise SyntaxError("cannot\nread")

    monkeypatch.setattr(Image, "open", broken)
    with pytest.raises(DataError, match=r"5\.png: not a readable image \(cannot read\)"):
        read_image(tmp_path / "5.png", (40, 30))
