"""Image files: the pixels of Pillow, whoever decodes them; broken files in one line."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from lt_data.errors import DataError
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


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "1", "I;16"])
def test_other_modes_too(tmp_path, mode):
    path = tmp_path / "a.png"
    image = (
        Image.fromarray(np.arange(900, dtype=np.uint16).reshape(30, 30))
        if mode == "I;16"
        else noisy("RGB").convert(mode)
    )
    image.save(path)
    got = read_image(path, (0, 0))
    assert got.dtype == torch.uint8
    assert torch.equal(got, by_pillow(path))


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
