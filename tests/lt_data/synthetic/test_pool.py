"""The procedural pool: valid COCO, right counts, the same bytes again, nothing overwritten."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from lt_data.annotations.file import read_annotations
from lt_data.errors import DataError, OutputError
from lt_data.masks.outlines import signed_area, simplify, trace_outlines
from lt_data.synthetic.pool import category_quotas, write_pool
from lt_data.synthetic.scenes import draw_scene
from lt_data.synthetic.shapes import SHAPES, TEXTURES, shape_categories


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pool(tmp_path_factory.mktemp("pool") / "out", images=40, seed=3, minimum_instances=2).parent


@pytest.fixture(scope="module")
def coco(pool: Path) -> COCO:
    return COCO(str(pool / "annotations.json"))


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def counts_of(annotations: Path) -> list[int]:
    content = json.loads(annotations.read_text(encoding="utf-8"))
    counts = Counter(a["category_id"] for a in content["annotations"])
    return [counts[c["id"]] for c in content["categories"]]


def test_pool_is_read_by_our_own_parser(pool: Path) -> None:
    file = read_annotations(pool / "annotations.json")
    assert len(file.image_ids) == 40
    assert len(set(file.categories.names)) == 24
    assert not file.crowd.any()


def test_polygons_areas_and_boxes_agree_with_pycocotools(coco: COCO) -> None:
    for annotation in coco.anns.values():
        assert all(len(polygon) >= 6 and len(polygon) % 2 == 0 for polygon in annotation["segmentation"])
        mask = coco.annToMask(annotation)
        assert mask.sum() == pytest.approx(annotation["area"], rel=0.08)
        x, y, width, height = annotation["bbox"]
        assert min(x, y) >= 0
        assert max(x + width, y + height) <= 128.01
        points = np.concatenate([np.reshape(polygon, (-1, 2)) for polygon in annotation["segmentation"]])
        assert points.min(axis=0).tolist() == [x, y]
        assert points.max(axis=0).tolist() == pytest.approx([x + width, y + height])
        rows, columns = np.nonzero(mask)
        # a pixel that is covered in part may stick out of the box
        assert columns.min() >= x - 1
        assert columns.max() <= x + width
        assert rows.min() >= y - 1
        assert rows.max() <= y + height


def test_visible_parts_do_not_overlap(coco: COCO) -> None:
    total = twice = 0
    for annotations in coco.imgToAnns.values():
        layers = sum(coco.annToMask(a).astype(int) for a in annotations)
        total, twice = total + int((layers > 0).sum()), twice + int((layers > 1).sum())
    # only the rounding of outlines to whole pixels is shared
    assert 0 < twice < 0.01 * total


def test_images_are_the_files_listed(pool: Path, coco: COCO) -> None:
    names = [image["file_name"] for image in coco.imgs.values()]
    assert names == [f"{i:012d}.jpg" for i in range(1, 41)]
    assert sorted(p.name for p in (pool / "images").iterdir()) == names
    for image in coco.imgs.values():
        with Image.open(pool / "images" / image["file_name"]) as picture:
            assert (picture.format, picture.mode, picture.size) == ("JPEG", "RGB", (128, 128))


def test_same_arguments_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_pool(tmp_path / name, images=8, size=64, seed=seed)
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")
    assert not set(files_of(tmp_path / "a").values()) & set(files_of(tmp_path / "c").values())


def test_counts_follow_the_exponent_and_the_minimum(tmp_path: Path) -> None:
    options = {"images": 60, "size": 64}
    uniform = counts_of(write_pool(tmp_path / "uniform", exponent=0, **options))
    tailed = counts_of(write_pool(tmp_path / "tailed", exponent=2, minimum_instances=3, **options))
    assert max(uniform) - min(uniform) <= 1
    assert min(uniform) >= 10
    by_rank = [count for _, count in sorted(zip((c.rank for c in shape_categories(24)), tailed, strict=True))]
    assert by_rank == sorted(by_rank, reverse=True)
    assert by_rank[-1] == 3
    assert by_rank[0] == pytest.approx(4 * by_rank[1], abs=4)
    assert sum(uniform) == sum(tailed)


def test_background_and_number_of_objects_do_not_depend_on_how_many_images_there_are(tmp_path: Path) -> None:
    pictures, objects = [], []
    free = np.ones((128, 128), bool)
    for images in (12, 16):
        path = write_pool(tmp_path / str(images), images=images, instances_per_image=(2, 3))
        annotations = json.loads(path.read_text(encoding="utf-8"))["annotations"]
        boxes = [a["bbox"] for a in annotations if a["image_id"] == 3]
        objects.append(len(boxes))
        for x, y, width, height in np.array(boxes).astype(int).tolist():
            free[max(y - 8, 0) : y + height + 9, max(x - 8, 0) : x + width + 9] = False
        with Image.open(path.parent / "images" / "000000000003.jpg") as picture:
            pictures.append(np.asarray(picture))
    assert objects[0] == objects[1]
    assert (pictures[0] != pictures[1]).any()
    # a JPEG block of 8 x 8 px that no object touches has the same pixels
    assert free.sum() > 1000
    np.testing.assert_array_equal(pictures[0][free], pictures[1][free])


def test_progress_and_number_of_objects(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    path = write_pool(
        tmp_path / "p", images=30, size=64, instances_per_image=(2, 4), progress=lambda *step: seen.append(step)
    )
    assert seen == [(i, 30) for i in range(1, 31)]
    content = json.loads(path.read_text(encoding="utf-8"))
    per_image = Counter(a["image_id"] for a in content["annotations"])
    assert set(per_image) == set(range(1, 31))
    assert set(per_image.values()) == {2, 3, 4}


def test_every_number_of_categories_has_frequent_and_rare_look_alikes() -> None:
    for count in (*range(20, 31), 31, 45, 59, 60):
        categories = shape_categories(count)
        assert [c.category_id for c in categories] == list(range(1, count + 1))
        assert sorted(c.rank for c in categories) == list(range(count))
        assert len({c.name for c in categories}) == count
        families = {c.family.name for c in categories}
        for family in families:
            ranks = [c.rank for c in categories if c.family.name == family]
            assert len(ranks) in (2, 3)
            assert min(ranks) < len(families)
            assert max(ranks) >= count - len(families)


def test_crowded_images_find_room() -> None:
    categories = shape_categories(24)[:12]
    for seed in range(5):
        scene = draw_scene(categories, 64, np.random.default_rng(seed))
        assert len(scene.outlines) == 12
        assert all(scene.outlines)


def test_of_two_objects_most_is_seen() -> None:
    square, disc = (next(c for c in shape_categories(24) if c.family.shape == shape) for shape in ("square", "disc"))
    covered = 0
    for seed in range(30):
        below, above = draw_scene([square, disc], 128, np.random.default_rng(seed)).outlines
        # a square keeps half of its area, 0.7 of which at least lies in the image
        width, height = np.ptp(np.concatenate(below), axis=0)
        assert sum(abs(signed_area(part)) for part in below) > 0.2 * width * height
        (disc_outline,) = above
        covered += len(below) > 1 or len(below[0]) > 8
        assert abs(signed_area(disc_outline)) > 0.7 * np.pi * (0.05 * 128) ** 2
    assert 0 < covered < 30


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_are_closed_and_of_similar_size(shape: str) -> None:
    down, across = np.mgrid[-40:41, -40:41].astype(np.float32)
    inside = SHAPES[shape](across, down, 30.0) < 0
    assert 1000 < inside.sum() < 3000
    edge = np.ones((81, 81), bool)
    edge[2:-2, 2:-2] = False
    assert not (inside & edge).any()


@pytest.mark.parametrize("texture", TEXTURES)
def test_textures_are_shares_and_differ(texture: str) -> None:
    down, across = np.mgrid[-20:21, -20:21].astype(np.float32)
    share = TEXTURES[texture](across, down, 10.0)
    assert share.min() >= 0
    assert share.max() <= 1
    assert (share.std() > 0.1) == (texture != "plain")
    others = [TEXTURES[name](across, down, 10.0) for name in TEXTURES if name != texture]
    assert all(np.abs(share - other).mean() > 0.1 for other in others)


def test_a_hole_is_cut_to_its_outline() -> None:
    down, across = np.mgrid[-20:21, -20:21].astype(np.float32)
    coverage = np.clip(0.5 - SHAPES["ring"](across, down, 15.0), 0, 1)
    outlines = trace_outlines(coverage, (100, 50))
    assert len(outlines) == 1
    # pi (1 - 0.42^2) r^2
    assert abs(signed_area(outlines[0])) == pytest.approx(np.pi * (1 - 0.42**2) * 15**2, rel=0.02)
    assert outlines[0].mean(axis=0) == pytest.approx([120.5, 70.5], abs=1.5)


def test_outlines_of_whole_pixels_run_along_their_edges() -> None:
    coverage = np.zeros((6, 8), np.float32)
    coverage[1:4, 2:7] = 1
    (outline,) = trace_outlines(coverage, (0, 0))
    assert outline.min(axis=0).tolist() == [2, 1]
    assert outline.max(axis=0).tolist() == [7, 4]
    assert abs(signed_area(outline)) == pytest.approx(15, abs=0.51)


def test_simplify_keeps_corners_and_drops_what_lies_between() -> None:
    side = np.linspace(0, 10, 21)[:-1]
    zero, ten = np.zeros(20), np.full(20, 10.0)
    x = np.concatenate([side, ten, 10 - side, zero])
    y = np.concatenate([zero, side, ten, 10 - side])
    assert simplify(np.stack([x, y], axis=1)).tolist() == [[0, 0], [10, 0], [10, 10], [0, 10]]


def test_quotas_by_hand() -> None:
    assert category_quotas([1, 1, 1], 10, 0).tolist() == [4, 3, 3]
    assert category_quotas([6, 3, 1], 10, 0).tolist() == [6, 3, 1]
    # the last would have 0.1: it gets 2, the others share 8 as 6 : 3
    assert category_quotas([6, 3, 0.1], 10, 2).tolist() == [5, 3, 2]
    assert category_quotas([5, 1, 1], 6, 2).tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"images": 0}, "images: got 0"),
        ({"categories": 19}, "categories: got 19; allowed are 20 to 60"),
        ({"categories": 61}, "categories: got 61"),
        ({"imbalance": 0.5}, "imbalance: got 0.5; allowed are numbers from 1"),
        ({"size": 63}, "size: got 63"),
        ({"exponent": -0.1}, "exponent: got -0.1"),
        ({"exponent": float("nan")}, "exponent: got nan"),
        ({"instances_per_image": (4, 3)}, "instances_per_image: got 4, 3"),
        ({"instances_per_image": (1, 13)}, "instances_per_image: got 1, 13"),
        ({"minimum_instances": -1}, "minimum_instances: got -1"),
        ({"minimum_instances": 5}, "use more images, or fewer categories"),
    ],
)
def test_arguments_out_of_range_are_refused(tmp_path: Path, options: dict[str, object], words: str) -> None:
    with pytest.raises(DataError, match=words):
        write_pool(tmp_path / "p", **{"images": 10, **options})  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        write_pool(tmp_path / "p", images=0, size=1)
    assert len(caught.value.problems) == 2


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "p"
    out.mkdir()
    (out / "mine.txt").write_text("kept")
    with pytest.raises(OutputError, match="not empty"):
        write_pool(out, images=10)
    assert files_of(tmp_path) == {"p/mine.txt": b"kept"}
    with pytest.raises(OutputError, match="is a file"):
        write_pool(out / "mine.txt", images=10)


def test_an_empty_folder_is_filled_and_a_failure_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_pool(tmp_path / "p", images=8, size=64, progress=stop)
    assert files_of(tmp_path) == {}
    assert [p.name for p in tmp_path.iterdir()] == ["p"]
    assert write_pool(tmp_path / "p", images=8, size=64).is_file()


def test_the_folder_may_be_text(tmp_path):
    assert write_pool(str(tmp_path / "p"), images=8, size=64) == tmp_path / "p" / "annotations.json"
