"""Small real-looking annotation files, and seeded ways to damage them."""

import copy
import json
import random

from pycocotools import mask as coco_mask

from tests.lt_data.pools import annotation, pool


def coco_file():
    """Polygons, compressed and plain run lengths, a crowd, a category without instances."""
    content = pool({1: [1, 2, 2], 5: [1, (2, "crowd")], 9: [3], 12: []}, categories=[1, 2, 3, 90])
    plain, packed, left = content["annotations"][1], content["annotations"][4], 48 * 64 - 50 - 4
    plain["segmentation"] = {"size": [48, 64], "counts": [50, 4, 44, 4, 44, 4, left - 96]}
    rle = coco_mask.frPyObjects(plain["segmentation"], 48, 64)
    packed["segmentation"] = {"size": [48, 64], "counts": rle["counts"].decode()}
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
