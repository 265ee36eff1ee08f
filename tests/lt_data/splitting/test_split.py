"""Files in, files out: bytes, groups, LVIS fields, records, what is refused."""

import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from lt_data import SplitOptions, split_annotations
from lt_data.annotations.file import read_annotations
from lt_data.errors import DataError, OutputError
from tests.lt_data.pools import annotation, pool, save

ROOT = Path(__file__).resolve().parents[3]


def random_images(count, seed=0):
    """Images with up to six objects of a long tail of categories; every seventh has none."""
    rng = random.Random(seed)
    return {
        image: []
        if i % 7 == 0
        else [
            (category, "crowd") if rng.random() < 0.1 else category
            for category in rng.choices(range(1, 13), [2**-k for k in range(12)], k=rng.randint(1, 6))
        ]
        for i, image in enumerate(rng.sample(range(10**6), count))
    }


def split(path, out, force=False, **options):
    return split_annotations(path, out, options=SplitOptions(**options), force=force)


def load(path):
    return json.loads(path.read_text(encoding="utf-8"))


def ids(content, key="images"):
    return [record["id"] for record in content[key]]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    content = pool(random_images(90), categories=range(1, 15))
    return save(content, tmp_path_factory.mktemp("source") / "all.json")


def named(names, folder, **fields):
    """A file with an image of one object for each name, and other fields of its image record."""
    content = pool({number: [1, 2] for number in range(1, len(names) + 1)})
    for i, (image, name) in enumerate(zip(content["images"], names, strict=True)):
        image["file_name"] = name
        image.update({key: values[i] for key, values in fields.items() if values[i] is not ...})
    return save(content, folder / "named.json")


def refused(path, out, error=DataError, **options):
    with pytest.raises(error) as caught:
        split(path, out, **options)
    (problem,) = caught.value.problems
    return problem


def test_both_files_are_the_input_record_for_record(source, tmp_path):
    record = split(source, tmp_path / "out", val="0.2")
    whole = read_annotations(source)
    records = {key: Counter() for key in ("images", "annotations")}
    for name in ("train.json", "val.json"):
        part = read_annotations(tmp_path / "out" / name)
        assert set(part.annotation_image_ids.tolist()) <= set(part.image_ids.tolist())
        assert {k: bytes(v) for k, v in part.members.items() if k not in records} == {
            k: bytes(v) for k, v in whole.members.items() if k not in records
        }
        for key, found in records.items():
            found.update(map(bytes, getattr(part, f"{key[:-1]}_records")))
    assert records["images"] == Counter(map(bytes, whole.image_records))
    assert records["annotations"] == Counter(map(bytes, whole.annotation_records))
    train, val = record.sides
    assert (train.images, val.images) == (72, 18)
    # 13 images of 90 without an object, and those with crowds only
    empty = train.images_without_instances + val.images_without_instances
    assert abs(val.images_without_instances - empty / 5) < 1
    assert load(tmp_path / "out/split.json") == record.content()


def test_the_record_counts_what_the_files_hold(source, tmp_path):
    record = split(source, tmp_path / "out", val=0.3, seed=5)
    for side in record.sides:
        content = load(tmp_path / f"out/{side.name}.json")
        objects = [a for a in content["annotations"] if not a["iscrowd"]]
        assert (side.images, side.instances) == (len(content["images"]), len(objects))
        assert side.crowds == len(content["annotations"]) - len(objects)
        instances = Counter(a["category_id"] for a in objects)
        images = Counter(category for category, _ in {(a["category_id"], a["image_id"]) for a in objects})
        for row in record.categories:
            assert (row.instances[side.name], row.images[side.name]) == (
                instances[row.category_id],
                images[row.category_id],
            )
        assert side.categories == len(instances)
    held = {each.category_id: sum(each.images.values()) for each in record.categories}
    lacking = {each.category_id: each.why for each in record.not_on_all_sides}
    assert lacking == {c: "1 image only" if n else "no instance" for c, n in held.items() if n < 2}
    assert lacking[14] == "no instance"


def test_bytes_do_not_depend_on_hash_seed_or_on_the_order_of_the_file(source, tmp_path):
    code = "import sys; from lt_data import SplitOptions, split_annotations as s; from pathlib import Path; "
    code += "s(Path(sys.argv[1]), Path(sys.argv[2]), options=SplitOptions(folds=3, seed=7))"
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", code, source, tmp_path / seed], check=True, env=environment, cwd=ROOT)
    files = sorted(path.relative_to(tmp_path / "1") for path in (tmp_path / "1").rglob("*.json"))
    assert len(files) == 7
    assert all((tmp_path / "1" / path).read_bytes() == (tmp_path / "2" / path).read_bytes() for path in files)
    content = load(source)
    for key in ("images", "annotations", "categories"):
        random.Random(3).shuffle(content[key])
    split(save(content, tmp_path / "shuffled.json"), tmp_path / "3", folds=3, seed=7)
    for path in files:
        if path.name != "split.json":
            assert sorted(ids(load(tmp_path / "3" / path))) == sorted(ids(load(tmp_path / "1" / path)))
    split(source, tmp_path / "4", folds=3, seed=8)
    assert ids(load(tmp_path / "4/fold_0/val.json")) != ids(load(tmp_path / "1/fold_0/val.json"))


def test_each_fold_validates_on_its_part_and_trains_on_the_others(source, tmp_path):
    record = split(source, tmp_path / "out", folds=4)
    seen = []
    for k, side in enumerate(record.sides):
        train, val = (load(tmp_path / f"out/fold_{k}/{name}.json") for name in ("train", "val"))
        assert sorted(ids(train) + ids(val)) == sorted(ids(load(source)))
        assert side.images == len(val["images"]) in (22, 23)
        seen += ids(val)
    assert sorted(seen) == sorted(ids(load(source)))
    # every class of four images or more is in all folds
    assert all(sum(row.images.values()) < 4 for row in record.categories if 0 in row.images.values())


GROUPED = [
    ("folder", [f"clip{i // 5}/{i:03}.jpg" for i in range(30)]),
    ("roboflow", [f"{'ab'[i % 2]}/dog_{i // 3}_jpg.rf.{i:032x}.jpg" for i in range(30)]),
    ("^(.*)_", [f"cam{i % 6}_{i}.jpg" for i in range(30)]),
    (r"cam\d", [f"x/cam{i % 6}-{i}.jpg" for i in range(30)]),
]


def test_groups_that_leave_another_share_are_told(tmp_path):
    path = named(["a/1.jpg", "a/2.jpg", "a/3.jpg", "b/1.jpg", "b/2.jpg", "b/3.jpg"], tmp_path)
    (note,) = split(path, tmp_path / "far", val=0.2, group_by="folder").notes
    assert note.startswith("validation has 50.0% of the images instead of 20.0%: ")
    assert "up to 3 of 6 do" in note
    assert split(path, tmp_path / "near", val=0.5, group_by="folder").notes == []


@pytest.mark.parametrize(("group_by", "names"), GROUPED, ids=lambda value: str(value)[:9])
def test_groups_stay_together(group_by, names, tmp_path):
    """The group of a name, spelled out for each of the rules."""
    group = {
        "folder": lambda name: name.split("/")[0],
        "roboflow": lambda name: name.split("/")[1].split("_jpg")[0],
        "^(.*)_": lambda name: name.split("_")[0],
        r"cam\d": lambda name: name[2:6],
    }[group_by]
    record = split(named(names, tmp_path), tmp_path / "out", val=0.34, group_by=group_by)
    sides = [load(tmp_path / f"out/{name}.json")["images"] for name in ("train", "val")]
    train, val = ({group(image["file_name"]) for image in side} for side in sides)
    assert not train & val
    assert record.rule.groups == len(train | val) < 30
    assert abs(len(sides[1]) - 0.34 * 30) < max(Counter(map(group, names)).values())


def test_groups_by_a_field(tmp_path):
    """Whole numbers and texts are different; a field may lie in another."""
    names = [f"{i}.jpg" for i in range(8)]
    path = named(names, tmp_path, extra=[{"video": v} for v in (1, 1, 1, "1", "1", "2", "2", "2")])
    assert split(path, tmp_path / "out", val=0.4, group_by="extra.video").rule.groups == 3
    path = named(names, tmp_path, video=[1, 1, 1, ..., None, 2, 2, 2])
    assert "2 of 8 images have no field 'video'" in refused(path, tmp_path / "no", val=0.4, group_by="video")


def test_copies_of_one_photo_are_told_unless_they_are_kept_together(tmp_path):
    path = named([f"dog_{i // 2}_jpg.rf.{i:032x}.jpg" for i in range(10)], tmp_path)
    (note,) = split(path, tmp_path / "a", val=0.2).notes
    assert "10 images are Roboflow's copies (.rf. names) of 5 photos" in note
    assert note.endswith("--group-by roboflow")
    assert split(path, tmp_path / "b", val=0.2, group_by="roboflow").notes == []


def test_images_of_one_file_and_names_that_do_not_match(tmp_path):
    path = named(["a.jpg", "./a.jpg", "b.jpg", "c.jpg", "clip1_d.jpg", "clip1_e.jpg"], tmp_path)
    record = split(path, tmp_path / "a", val=0.5)
    assert (record.rule.groups, len(record.notes)) == (5, 1)
    record = split(path, tmp_path / "b", val=0.5, group_by="clip[0-9]")
    assert record.rule.groups == 5
    assert "fits 2 of 6 file names" in record.notes[0]


def test_lvis_fields_say_what_each_file_holds(tmp_path):
    """As in a build: counts and frequency of the file itself; lists of an image go with it."""
    content = pool({i: [1, 1, 2] if i < 8 else [1] for i in range(20)}, categories=[1, 2, 3])
    for image in content["images"]:
        image.update(neg_category_ids=[3], not_exhaustive_category_ids=[2])
    for category in content["categories"]:
        category.update(frequency="f", image_count=999, instance_count=999)
    record = split(save(content, tmp_path / "lvis.json"), tmp_path / "out", val=0.25)
    assert record.rule.rewritten_category_fields == ["frequency", "image_count", "instance_count"]
    for name in ("train", "val"):
        part = load(tmp_path / f"out/{name}.json")
        for category in part["categories"]:
            of = [a["image_id"] for a in part["annotations"] if a["category_id"] == category["id"]]
            frequency = "c" if len(set(of)) > 10 else "r"
            assert (category["instance_count"], category["image_count"]) == (len(of), len(set(of)))
            assert category["frequency"] == frequency
        assert all(image["neg_category_ids"] == [3] for image in part["images"])


@pytest.mark.parametrize("val", ["0", "1", "-0.2", "1.5", "nan", "a fifth", 20])
def test_shares_out_of_range(val, source, tmp_path):
    problem = refused(source, tmp_path / "out", val=val)
    assert problem.startswith("--val: got ")
    assert "between 0 and 1" in problem
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_split_is_refused_in_one_line(source, tmp_path):
    out = tmp_path / "out"
    assert "--folds: got 1" in refused(source, out, folds=1)
    assert "90 images, fewer than the 91 sides of --folds 91" in refused(source, out, folds=91)
    assert "got both or none" in refused(source, out, folds=2, val=0.5)
    assert "puts all 90 images into one group" in refused(source, out, val=0.2, group_by="folder")
    assert "fits no file name" in refused(source, out, val=0.2, group_by="^(frame)")
    assert "is no regular expression" in refused(source, out, val=0.2, group_by="(")
    assert "have no field 'video' for --group-by" in refused(source, out, val=0.2, group_by="video")
    two = named([f"{'ab'[i % 2]}/{i}.jpg" for i in range(6)], tmp_path)
    assert "into 2 groups, too few for 3 sides" in refused(two, out, folds=3, group_by="folder")
    crowds = save(pool({1: [(1, "crowd")], 2: [(1, "crowd")]}), tmp_path / "crowds.json")
    assert "2 annotations are crowds" in refused(crowds, out, val=0.5)
    one = save(pool({1: [1]}), tmp_path / "one.json")
    assert "has 1 images, fewer than the 2 sides of --val 0.5" in refused(one, out, val=0.5)
    same = named(["a.jpg"] * 4, tmp_path)
    assert "name 1 files" in refused(same, out, val=0.5)
    assert not out.exists()


def test_only_what_a_split_wrote_is_replaced(source, tmp_path):
    out = tmp_path / "out"
    split(source, out, folds=3)
    assert "--force" in refused(source, out, OutputError, val=0.2)
    split(source, out, val=0.2, force=True)
    assert sorted(path.name for path in out.iterdir()) == ["split.json", "train.json", "val.json"]
    (out / "train.json").write_text("{}")
    assert "train.json changed since the split" in refused(source, out, OutputError, val=0.2, force=True)
    (out / "mine.txt").write_text("")
    assert "no split wrote (mine.txt)" in refused(source, out, OutputError, val=0.2, force=True)
    inside = save(load(source), tmp_path / "data.json")
    assert "no split wrote" in refused(inside, tmp_path, OutputError, val=0.2, force=True)
    again = tmp_path / "again"
    split(source, again, val=0.5)
    assert "holds the input" in refused(again / "train.json", again, OutputError, val=0.2, force=True)


def test_an_annotation_follows_its_image_wherever_it_stands(tmp_path):
    content = pool({i: [1, 2] for i in range(10)})
    content["annotations"].append(annotation(999, 0, 1, crowd=1))
    split(save(content, tmp_path / "all.json"), tmp_path / "out", val=0.5)
    for name in ("train", "val"):
        part = load(tmp_path / f"out/{name}.json")
        assert {a["image_id"] for a in part["annotations"]} == set(ids(part))
        assert (999 in ids(part, "annotations")) == (0 in ids(part))


@pytest.mark.parametrize(("name", "both"), [("coco_real/annotations/instances_train2017.json", 80), (None, 59)])
def test_real_files(shared_data, name, both, tmp_path):
    """COCO: every class on both sides. LVIS: those of two images or more but five, whose images others need."""
    record = split(shared_data / (name or "lvis_val_100/lvis_val_100.json"), tmp_path / "out", val=0.2)
    assert len(record.categories) - len(record.not_on_all_sides) >= both
    assert record.notes == []
