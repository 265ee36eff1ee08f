"""A grid of instances: which ones, what is cut out, outlines of every kind of mask, and what is refused."""

import hashlib
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as rle

from lt_data.annotations.file import Categories
from lt_data.errors import DataError, OutputError
from lt_data.files.pixels import ImageReading
from lt_data.pictures.show import choose_instances, close_names, cut_window, decode_rle, find_category, mask_outlines
from lt_data.pictures.show import show_category as show
from tests.lt_data.pools import annotation, as_lvis_05, pool, save

COLOURS = {1: (200, 30, 40), 2: (20, 150, 60), 3: (30, 60, 210)}
BOX, MASK = (230, 159, 0), (86, 180, 233)


@pytest.fixture
def folder(tmp_path):
    """Three images of one colour each: cats on the first, a crowd of cats on the second, a dog on the third."""
    content = pool({1: [], 2: [], 3: []}, categories=[5, 7], names={5: "cat", 7: "dog"})
    for image in content["images"]:
        image["file_name"] = f"{image['id']}.png"
        Image.new("RGB", (64, 48), COLOURS[image["id"]]).save(tmp_path / image["file_name"])
    content["annotations"] = [
        annotation(1, 1, 5, box=(10.0, 10.0, 20.0, 12.0)),
        annotation(2, 1, 5, box=(40.0, 20.0, 8.0, 20.0)),
        annotation(3, 2, 5, crowd=1, box=(5.0, 5.0, 30.0, 30.0)),
        annotation(4, 3, 7, box=(5.0, 5.0, 30.0, 30.0)),
    ]
    save(content, tmp_path / "pool.json")
    return tmp_path


def change(folder, number, **fields):
    """Changes one annotation; a field set to ``None`` goes."""
    content = json.loads((folder / "pool.json").read_text(encoding="utf-8"))
    record = content["annotations"][number - 1]
    record.update(fields)
    for key in [key for key, value in record.items() if value is None]:
        del record[key]
    save(content, folder / "pool.json")


def colours(path):
    with Image.open(path) as picture:
        return {colour for _, colour in picture.convert("RGB").getcolors(1 << 22) or []}


def draw(folder, name="out.png", category="cat", **options):
    return show(folder / "pool.json", category, folder, folder / name, **options)


def text(folder, **options):
    """The picture as SVG, which holds its texts as comments."""
    return draw(folder, "out.svg", **options).read_text(encoding="utf-8")


def test_images_of_lvis_05_are_found_and_it_is_said_once(folder):
    content = json.loads((folder / "pool.json").read_text(encoding="utf-8"))
    save(as_lvis_05(content, folder), folder / "pool.json")
    notes = []
    assert COLOURS[1] in colours(draw(folder, note=notes.append))
    assert len(notes) == 1
    assert "1 of 1 images are not there under their file_name and were found by the path in their coco_url" in notes[0]


def test_images_of_16_bits_are_drawn_by_their_range_and_turned_where_asked_for(folder):
    content, exif = json.loads((folder / "pool.json").read_text(encoding="utf-8")), Image.Exif()
    exif[0x0112] = 6
    values = np.full((64, 48), 3000, np.uint16)
    Image.fromarray(values).save(folder / "1.png", exif=exif)
    as_stored, ranged = colours(draw(folder)), draw(folder, "b.png", reading=ImageReading((0, 4000), "apply"))
    assert (12, 12, 12) in as_stored
    assert (191, 191, 191) in colours(ranged)
    assert content["images"][0]["width"] == 64
    assert "listed as" not in text(folder, reading=ImageReading((0, 4000), "apply"), force=True)
    assert "listed as 64" in text(folder, force=True)
    Image.fromarray(values.astype(np.int32)).save(folder / "1.png", "TIFF")
    with pytest.raises(DataError, match="1.png: 32-bit integers from 3000 to 3000, and nothing says"):
        draw(folder, "c.png")


@pytest.mark.parametrize("nothing", [[], [[]]])
def test_no_mask_is_no_mask_that_cannot_be_drawn(nothing):
    assert mask_outlines(nothing) == []


def test_instances_are_drawn_and_crowds_and_others_are_not(folder):
    seen = colours(draw(folder))
    assert COLOURS[1] in seen
    assert COLOURS[2] not in seen
    assert COLOURS[3] not in seen
    assert {BOX, MASK} <= seen
    drawn = text(folder)
    assert "cat (id 5): 2 of 2 instances in pool.json" in drawn
    assert drawn.count("<!-- image 1") == 2
    assert "20 \u00d7 12 px" in drawn


def test_the_same_bytes_again(folder):
    assert draw(folder, "a.png").read_bytes() == draw(folder, "b.png").read_bytes()
    assert draw(folder, "a.svg").read_bytes() == draw(folder, "b.svg").read_bytes()


def test_a_dataset_directory_is_taken_by_its_annotations(folder):
    dataset = folder / "lt"
    dataset.mkdir()
    with pytest.raises(DataError, match=r"no annotations\.json in it"):
        show(dataset, "dog", folder, folder / "out.png")
    (dataset / "annotations.json").write_bytes((folder / "pool.json").read_bytes())
    assert COLOURS[3] in colours(show(dataset, "7", folder, folder / "out.png"))


def test_limit_and_seed_choose_by_hash(folder):
    # the two instances of the cat: the smaller hash comes first
    for seed in range(6):
        first = min((1, 2), key=lambda i: hashlib.sha256(f"{seed}:{i}".encode()).digest())
        drawn = text(folder, seed=seed, limit=1, force=True)
        assert ("20 \u00d7 12 px" in drawn) == (first == 1)
        assert ("8 \u00d7 20 px" in drawn) == (first == 2)


@given(st.lists(st.integers(-(2**53), 2**53), unique=True, max_size=30), st.integers(1, 10), st.integers(-5, 5))
def test_the_choice_depends_on_ids_alone(ids, limit, seed):
    ids = np.array(ids, np.int64)
    chosen = ids[choose_instances(ids, np.arange(len(ids)), limit, seed)].tolist()
    turned = ids[::-1]
    assert chosen == turned[choose_instances(turned, np.arange(len(ids)), limit, seed)].tolist()
    assert chosen == sorted(ids.tolist(), key=lambda i: hashlib.sha256(f"{seed}:{i}".encode()).digest())[:limit]


def categories(*pairs):
    ids, names = zip(*pairs, strict=True)
    return Categories(np.array(ids), names, None, np.full(len(ids), -1))


def test_a_category_is_found_by_name_before_id():
    listed = categories((4, "cat"), (7, "4"), (9, "dog"))
    assert find_category(listed, "cat", "f") == 0
    assert find_category(listed, "4", "f") == 1
    assert find_category(listed, "9", "f") == 2


def test_an_unknown_category_is_met_with_close_names():
    listed = categories((1, "dog"), (2, "hot dog"), (3, "Dogsled"), (4, "cat"), (5, "horse"))
    with pytest.raises(DataError, match=r"f: --category: no category .* 'dogg' \(5 categories\); did you mean dog"):
        find_category(listed, "dogg", "f")
    with pytest.raises(DataError, match="for example dog, hot dog"):
        find_category(listed, "xyzzy", "f")
    assert close_names(listed.names, "DOG") == ["dog", "hot dog", "Dogsled"]
    assert close_names(listed.names, "a dog on ice") == ["dog", "hot dog", "Dogsled"]
    assert close_names(listed.names, "hrose") == ["horse"]
    with pytest.raises(DataError, match=r"2 categories are called 'cat'; give one's id: 3, 8"):
        find_category(categories((3, "cat"), (8, "cat")), "cat", "f")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"limit": 0}, DataError, "--limit: got 0; allowed are 1 to 100"),
        ({"limit": 101}, DataError, "allowed are 1 to 100"),
        ({"category": "cow"}, DataError, "no category has the name or id 'cow'"),
        ({"name": "out.gif"}, OutputError, r"written as \.png or \.svg"),
        ({"name": "1.png"}, OutputError, r"1\.png: exists"),
    ],
)
def test_what_cannot_be_done_is_told_and_writes_nothing(folder, options, error, message):
    before = sorted(folder.iterdir())
    with pytest.raises(error, match=message):
        draw(folder, **options)
    assert sorted(folder.iterdir()) == before


def test_a_name_that_is_the_id_of_another_category_is_told(folder):
    content = pool({1: [1], 2: [2]}, names={1: "0", 2: "1"})
    for image in content["images"]:
        Image.new("RGB", (64, 48), COLOURS[image["id"]]).save(folder / image["file_name"])
    save(content, folder / "pool.json")
    lines = []
    draw(folder, "a.png", category="1", note=lines.append)
    assert lines == ["--category 1: taken as the name of id 2; the category with id 1 is '0'"]
    lines.clear()
    draw(folder, "b.png", category="2", note=lines.append)
    draw(folder, "c.png", category="0", note=lines.append)
    assert lines == []


def test_a_category_of_crowds_alone_has_nothing_to_show(folder):
    change(folder, 4, iscrowd=1)
    with pytest.raises(DataError, match=r"category 7 'dog' has no instance \(crowds, which are not drawn: 1\)"):
        draw(folder, category="dog")


def test_images_that_are_missing_or_no_images_are_told(folder):
    (folder / "3.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"3\.png: cannot be read as an image"):
        draw(folder, category="dog")
    (folder / "3.png").unlink()
    with pytest.raises(DataError, match=r"3\.png: image is missing"):
        draw(folder, category="dog")


def test_an_image_of_another_size_than_listed_is_noted(folder):
    Image.new("RGB", (50, 40), COLOURS[3]).save(folder / "3.png")
    assert "listed as 64 \u00d7 48, is 50 \u00d7 40" in text(folder, category="dog")
    assert "listed as" not in text(folder, category="cat", force=True)


def test_boxes_and_masks_that_cannot_be_drawn_are_noted_and_the_image_is_shown(folder):
    change(folder, 4, bbox=None, segmentation=[[1, 2, 3]])
    assert "no box, mask not drawable" in text(folder, category="dog")
    seen = colours(draw(folder, category="dog"))
    assert COLOURS[3] in seen
    assert BOX in seen  # in the legend
    assert MASK not in seen


@pytest.mark.parametrize("segmentation", [None, []])
def test_an_instance_without_mask_is_drawn_without_one(folder, segmentation):
    change(folder, 4, segmentation=segmentation)
    assert MASK not in colours(draw(folder, category="dog"))
    assert "drawable" not in text(folder, category="dog")


numbers = st.floats(-200, 400)
sides = st.integers(1, 300)


@given(st.tuples(numbers, numbers, st.floats(0.5, 300), st.floats(0.5, 300)), st.tuples(sides, sides))
def test_the_cut_lies_in_the_image_and_holds_the_box(box, size):
    x1, y1, x2, y2 = cut_window(box, size)
    assert 0 <= x1 < x2 <= size[0]
    assert 0 <= y1 < y2 <= size[1]
    x, y, width, height = box
    if x >= size[0] or y >= size[1] or x + width <= 0 or y + height <= 0:
        assert (x1, y1, x2, y2) == (0, 0, *size)
    else:
        # half a pixel is lost to whole pixels, and the margin is wider where it can be
        assert x1 <= max(x, 0) + 0.5
        assert x2 >= min(x + width, size[0]) - 0.5
        assert y1 <= max(y, 0) + 0.5
        assert y2 >= min(y + height, size[1]) - 0.5


@pytest.mark.parametrize("box", [(math.nan,) * 4, (1.0, 1.0, 0.0, 5.0), (1.0, 1.0, 1e300, 5.0), (900.0, 1.0, 5.0, 5.0)])
def test_without_a_box_to_cut_the_whole_image_is_shown(box):
    assert cut_window(box, (60, 40)) == (0, 0, 60, 40)


def encode(mask):
    code = rle.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(code["size"]), "counts": code["counts"].decode("ascii")}


def uncompressed(mask):
    flat = mask.flatten(order="F").tolist()
    counts, value = [0], 0
    for pixel in flat:
        if pixel == value:
            counts[-1] += 1
        else:
            counts.append(1)
            value = pixel
    return {"size": list(mask.shape), "counts": counts}


masks = st.tuples(st.integers(1, 12), st.integers(1, 12)).flatmap(
    lambda size: st.lists(st.integers(0, 1), min_size=size[0] * size[1], max_size=size[0] * size[1]).map(
        lambda pixels: np.array(pixels).reshape(size)
    )
)


@given(masks)
def test_both_kinds_of_rle_give_the_mask(mask):
    np.testing.assert_array_equal(decode_rle(encode(mask)), mask)
    np.testing.assert_array_equal(decode_rle(uncompressed(mask)), mask)


@given(masks, st.integers(0, 30), st.sampled_from("~0Pz\u00e9"))
def test_damaged_runs_give_no_mask_or_a_whole_one(mask, place, letter):
    code = encode(mask)
    cut = {**code, "counts": code["counts"][:-1]}
    assert decode_rle(cut) is None
    place = min(place, len(code["counts"]))
    changed = decode_rle({**code, "counts": code["counts"][:place] + letter + code["counts"][place + 1 :]})
    assert changed is None or (changed.shape == mask.shape and changed.max() <= 1)


@pytest.mark.parametrize(
    "broken",
    [
        {"size": [4, 4], "counts": [3, 4]},
        {"size": [4, 4], "counts": [-1, 17]},
        {"size": [4, 4], "counts": [16.0]},
        {"size": [4, 4], "counts": None},
        {"size": [4], "counts": [4]},
        {"size": [2**19, 2**19], "counts": [2**38]},
        {"size": ["4", 4], "counts": [16]},
        {"counts": [16]},
        "nonsense",
        [[1, 2, 3, 4]],
        [[1, 2, 3, 4, 5, 6, 7]],
        [[1, 2, 3, 4, 5, "6"]],
        [[1, 2, 3, 4, 5, 10**400]],
        [[1, 2, 3, 4, 5, math.inf]],
        [1, 2, 3, 4, 5, 6],
    ],
)
def test_what_is_no_mask_has_no_outline(broken):
    assert mask_outlines(broken) is None


def test_outlines_of_polygons_are_their_points():
    first, second = [1, 2, 5.5, 2, 5, 7], [10, 10, 12, 10, 12, 13, 10, 13]
    outlines = mask_outlines([first, second])
    assert [points.tolist() for points in outlines] == [
        [[1, 2], [5.5, 2], [5, 7]],
        [[10, 10], [12, 10], [12, 13], [10, 13]],
    ]


@given(st.integers(0, 5), st.integers(0, 5), st.integers(1, 9), st.integers(1, 9))
def test_the_outline_of_an_rle_runs_along_the_edges_of_its_pixels(x, y, width, height):
    mask = np.zeros((16, 15), np.uint8)
    mask[y : y + height, x : x + width] = 1
    (points,) = mask_outlines(encode(mask))
    assert points.min(axis=0).tolist() == [x, y]
    assert points.max(axis=0).tolist() == [x + width, y + height]
    horizontal, vertical = points.T
    area = abs(np.dot(horizontal, np.roll(vertical, 1)) - np.dot(vertical, np.roll(horizontal, 1))) / 2
    # each of the four corners is cut by half of a half pixel squared
    assert area == pytest.approx(width * height - 0.5)


def test_real_instances_are_drawn(shared_data, tmp_path):
    folder = shared_data / "coco_real"
    annotations = folder / "annotations" / "instances_train2017_with_images.json"
    out = show(annotations, "person", folder / "train2017", tmp_path / "person.svg", limit=3)
    drawn = out.read_text(encoding="utf-8")
    assert "person (id 1): 3 of 210 instances" in drawn
    assert "listed as" not in drawn
    assert "drawable" not in drawn
