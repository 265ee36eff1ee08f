"""Whatever happens to a file, every function works or says what is wrong in one line a problem.

Small real-looking files are damaged in many ways: bytes flipped, cut and doubled, keys removed and renamed, values of
other types and sizes, records nested, doubled and swapped. All draws are seeded.
"""

import copy
import gzip
import json
import random
import zipfile
from pathlib import Path

import pytest
from pools import annotation, pool, save

from lt_data.annotations import read_annotations
from lt_data.checks import check, format_report, structural_problems
from lt_data.coco_lt import BuildOptions, build_coco_lt, format_build
from lt_data.counts import header_mismatches
from lt_data.errors import DataError, LtError
from lt_data.group_stats import format_stats, group_stats


def coco_file():
    """Polygons, compressed and plain run lengths, a crowd, a category without instances."""
    content = pool({1: [1, 2, 2], 5: [1, (2, "crowd")], 9: [3], 12: []}, categories=[1, 2, 3, 90])
    content["annotations"][1]["segmentation"] = {"size": [48, 64], "counts": [50, 10, 48 * 64 - 60]}
    content["annotations"][4]["segmentation"] = {"size": [48, 64], "counts": "R1:\\S_1"}
    content["annotations"].append(annotation(2**53, 9, 3, box=(0.5, 0.25, 63.0, 47.5)))
    content["licenses"] = [{"id": 1, "name": 'a "]}{["', "url": ""}]
    return content


def lvis_file():
    """Images named by URL only, header fields, lists of absent categories."""
    content = pool({i: [1, 2, 1] if i % 2 else [3] for i in range(1, 6)}, names={1: "z\u00fcg\u2028", 2: "\U0001f600"})
    for image in content["images"]:
        image["coco_url"] = "http://images.example.org/train2017/" + image.pop("file_name")
        image["neg_category_ids"], image["not_exhaustive_category_ids"] = [1], []
    for category in content["categories"]:
        category.update(frequency="r", image_count=3, instance_count=6, synonyms=["a"], synset="a.n.01")
    for record in content["annotations"]:
        del record["iscrowd"]
    return content


def real_file(shared_data):
    """Six images of a real file with what is in them."""
    content = json.loads((shared_data / "coco_real/annotations/instances_val2017.json").read_text())
    content["images"] = content["images"][:6]
    kept = {image["id"] for image in content["images"]}
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in kept][:30]
    return content


VALUES = (
    *(None, True, False, "", "1", "x", "a\nb\u2028c", "../../x.jpg", "C:\\x", "a\0b", "\ud800", "http://[x", "NaN"),
    *(-1, 0, 1, 2, 1.0, 1.5, -0.0, 1e300, float("nan"), float("inf"), 2**31, 2**53, 2**53 + 1, 2**63, 2**64, -(2**63)),
    *(-(2**70), 10**25, 10**400, [], {}, [[]], [{}], [None], {"a": 1}, [1, 2, 3, 4], "x" * 5000),
)


def nodes(content):
    """Every (container, key) of a nested value."""
    found, open_ends = [], [content]
    while open_ends:
        value = open_ends.pop()
        keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
        for key in keys:
            found.append((value, key))
            open_ends.append(value[key])
    return found


def pick(draw, content):
    """A node; lists of numbers are long, so that nodes high up are drawn more often than they are there."""
    places = nodes(content)
    return draw.choice(places) if draw.random() < 0.5 else draw.choice(places[: 60 + len(places) // 10])


def change_value(draw, content):
    container, key = pick(draw, content)
    container[key] = copy.deepcopy(draw.choice(VALUES))


def delete(draw, content):
    container, key = pick(draw, content)
    del container[key]


def rename(draw, content):
    container, key = draw.choice([(c, k) for c, k in nodes(content) if isinstance(c, dict)])
    container[draw.choice(["a", "", "id", "a\nb", "\ud800", "images", "bbox", key.upper()])] = container.pop(key)


def nest(draw, content):
    container, key = pick(draw, content)
    for _ in range(draw.choice([1, 1, 2, 30])):
        container[key] = draw.choice([[container[key]], {"a": container[key]}, {str(key): container[key]}])


def duplicate(draw, content):
    container, key = draw.choice([(c, k) for c, k in nodes(content) if isinstance(c, list)])
    container.insert(draw.randrange(len(container) + 1), copy.deepcopy(container[key]))


def exchange(draw, content):
    (first, i), (second, j) = pick(draw, content), pick(draw, content)
    first[i], second[j] = copy.deepcopy(second[j]), copy.deepcopy(first[i])


STRUCTURE = (change_value, delete, rename, nest, duplicate, exchange)


def flip(draw, data):
    for _ in range(draw.choice([1, 1, 4])):
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)


def truncate(draw, data):
    del data[draw.randrange(len(data)) :]


def cut(draw, data):
    start = draw.randrange(len(data))
    del data[start : start + draw.choice([1, 2, 20])]


def double(draw, data):
    start = draw.randrange(len(data))
    data[start:start] = data[start : start + draw.choice([1, 3, 40])]


WORDS = (
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"9" * 30,
    b"9" * 5000,
    b"\xff",
    b"\x00",
    b'"',
    b"\\",
    b"[" * 2000,
    b"{",
    b"null",
)


def insert(draw, data):
    start = draw.randrange(len(data))
    data[start:start] = draw.choice(WORDS)


def replace_number(draw, data):
    digits = [i for i, byte in enumerate(data) if 48 <= byte < 58]
    if digits:
        start = draw.choice(digits)
        data[start : start + 1] = draw.choice(WORDS)


BYTES = (flip, truncate, cut, double, insert, replace_number)


def mutant(content, seed):
    """Damaged bytes and the names of what was done to them."""
    draw = random.Random(seed)
    content = copy.deepcopy(content)
    done = []
    if draw.random() < 0.7:
        for _ in range(draw.choice([1, 1, 1, 2, 5])):
            if nodes(content):
                done.append(draw.choice(STRUCTURE))
                try:
                    done[-1](draw, content)
                except (IndexError, ValueError):
                    done.pop()
    data = bytearray(as_json(content, ascii_only=draw.random() < 0.5))
    if not done or draw.random() < 0.1:
        done.append(draw.choice(BYTES))
        done[-1](draw, data)
    return bytes(data), [step.__name__ for step in done]


def as_json(content, *, ascii_only):
    chunks = json.JSONEncoder(ensure_ascii=ascii_only).iterencode(content)
    return "".join(chunks).encode("utf-8", "surrogatepass")


def read(path):
    file = read_annotations(path)
    assert len(file.boxes) == len(file.areas) == len(file.annotation_ids)
    for index in range(len(file.annotation_ids)):
        file.segmentation(index)
    assert set(file.members) >= {"images", "annotations", "categories"}
    header_mismatches(file)


def count(path):
    stats = group_stats(path)
    return [format_stats(stats, style) for style in ("table", "csv", "json")]


def build(path):
    built = build_coco_lt(path, None, options=BuildOptions(on_shortage="cap"))
    return [format_build(built), *built.warnings]


def build_from_reference(path):
    build_coco_lt(path, None, reference=path)


def look(path):
    report = check(path)
    json.loads(format_report(report, "json"))
    return [format_report(report), format_report(report, "json"), *structural_problems(path)]


COMMANDS = (read, count, build, build_from_reference, look)


def escapes(path):
    """What a file makes go wrong: exceptions that are not ours, problems of several lines, text that cannot be shown."""
    wrong = []
    for command in COMMANDS:
        try:
            texts = command(path) or []
        except LtError as error:
            texts = error.problems
            wrong += [(command.__name__, "several lines", text) for text in texts if len(text.splitlines()) != 1]
        except Exception as error:
            wrong.append((command.__name__, type(error).__name__, str(error)[:200]))
            continue
        for text in texts:
            try:
                text.encode("utf-8")
            except UnicodeEncodeError:
                wrong.append((command.__name__, "cannot be shown", ascii(text)[:200]))
    return wrong


def refusal(function, path):
    try:
        return bool(function(path))
    except DataError:
        return True


def reading_fails(path):
    read_annotations(path).boxes  # noqa: B018


CONTENTS = {"coco": coco_file, "lvis": lvis_file}


def run_mutants(content, seeds, path):
    for seed in seeds:
        data, steps = mutant(content, seed)
        path.write_bytes(data)
        assert escapes(path) == [], f"seed {seed}: {steps}, the file is {path}"
        assert refusal(reading_fails, path) == refusal(structural_problems, path), f"seed {seed}: {steps}, {path}"


@pytest.mark.parametrize("batch", range(4))
@pytest.mark.parametrize("name", CONTENTS)
def test_damaged_files(tmp_path, name, batch):
    run_mutants(CONTENTS[name](), range(100 * batch, 100 * batch + 50), tmp_path / "a.json")


def test_damaged_real_file(tmp_path, shared_data):
    run_mutants(real_file(shared_data), range(40), tmp_path / "a.json")


@pytest.mark.slow
@pytest.mark.parametrize("batch", range(10))
@pytest.mark.parametrize("name", CONTENTS)
def test_many_damaged_files(tmp_path, name, batch):
    run_mutants(CONTENTS[name](), range(1000 * (batch + 1), 1000 * (batch + 1) + 400), tmp_path / "a.json")


@pytest.mark.slow
def test_many_damaged_real_files(tmp_path, shared_data):
    run_mutants(real_file(shared_data), range(1000, 2000), tmp_path / "a.json")
