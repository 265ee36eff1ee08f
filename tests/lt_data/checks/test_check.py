"""What `lt-data check` finds: one file for every code, and real files."""

import json
import warnings

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from lt_data.annotations.file import read_annotations
from lt_data.annotations.findings import CODES, Finding
from lt_data.annotations.problems import problem_lines, structural_problems
from lt_data.checks.check import check_file, format_report
from lt_data.errors import DataError
from tests.lt_data.findings import base, codes, found
from tests.lt_data.pools import annotation, pool, save


def on_annotation(**fields):
    """A base file whose second annotation has these fields; None removes a field."""

    def make():
        content = base()
        content["annotations"][1].update(fields)
        content["annotations"][1] = {k: v for k, v in content["annotations"][1].items() if v is not None}
        return content

    return make


def on_list(key, row, **fields):
    def make():
        content = base()
        content[key][row].update(fields)
        content[key][row] = {k: v for k, v in content[key][row].items() if v is not None}
        return content

    return make


def replaced(**members):
    return lambda: {**base(), **members}


def without(member):
    return lambda: {k: v for k, v in base().items() if k != member}


def no_numbers():
    content = base()
    content["annotations"][1]["bbox"][2] = float("nan")
    content["info"] = 'NaN and -Infinity in "words" stay'
    return content


def appended(key, *records):
    def make():
        content = base()
        content[key] += records
        return content

    return make


def with_headers(**fields):
    """Every category states its true counts, and the first one these."""

    def make():
        content = base()
        for category in content["categories"]:
            category.update(instance_count=2, image_count=2, frequency="r")
        content["categories"][0].update(fields)
        return content

    return make


def text_ids():
    content = base()
    for image in content["images"]:
        image["id"] = f"cam-{image['id']}"
    for record in content["annotations"]:
        record["image_id"] = f"cam-{record['image_id']}"
    return content


def with_image_lists(row=0, **fields):
    """A file whose images all have both lists of LVIS, and one image these."""

    def make():
        content = base()
        for image in content["images"]:
            image.update(neg_category_ids=[], not_exhaustive_category_ids=[])
        content["images"][row].update(fields)
        return content

    return make


def shifted(by):
    """A file whose annotations count the categories from another number."""

    def make():
        content = base()
        for record in content["annotations"]:
            record["category_id"] += by
        return content

    return make


def with_boxes(form):
    """Twelve objects all over a 64 x 48 image, their boxes written in this form."""

    def make():
        content = pool({1: [1] * 12})
        for number, record in enumerate(content["annotations"]):
            x, y = 4 + 10 * (number % 6), 20 * (number // 6)
            record.update(bbox=form(min(x, 54), y, 10, 8), area=80)
            del record["segmentation"]
        return content

    return make


def most_are_crowds():
    content = base()
    for record in content["annotations"][:3]:
        record["iscrowd"] = 1
    return content


def without_masks(**fields):
    """A file without masks whose second annotation has these fields."""

    def make():
        content = on_annotation(**fields)()
        for record in content["annotations"]:
            del record["segmentation"]
        return content

    return make


RLE = {"size": [48, 64], "counts": [0, 10, 48 * 64 - 10]}
SQUARE = [1, 2, 4, 2, 4, 6, 1, 6]
IMAGE = {"id": 4, "file_name": "d.jpg", "width": 64, "height": 48}

# code: (file, count, part of the first example)
CASES = {
    "LT001": (without("images"), 1, "'images' (found: 'info', 'annotations', 'categories')"),
    "LT002": (replaced(annotations={"a": 1}), 1, "'annotations': Expected `array`, got `object`"),
    "LT003": (replaced(images=[*base()["images"], 7]), 1, "images[3]: Expected `object`, got `int`"),
    "LT004": (no_numbers, 1, "NaN"),
    "LT005": (replaced(categories=[]), 1, "categories: []"),
    "LT006": (on_annotation(image_id=None), 1, "annotations[1]: image_id is missing"),
    "LT007": (on_annotation(category_id="2"), 1, "annotations[1]: category_id is '2' (Expected `int`, got `str`)"),
    "LT008": (on_annotation(id=2**53 + 1), 1, "annotations[1]: id is 9007199254740993"),
    "LT010": (text_ids, 3, "images[0]: 'cam-1'"),
    "LT011": (on_list("images", 1, height="48"), 1, "images[1]: height is '48'"),
    # both keys are written as "1"
    "LT009": (lambda: {**base(), "1": [2, {"2": 3}], 1: {}, "2": 4}, 1, "'1'"),
    "LT101": (appended("images", {**IMAGE, "id": 2}, {**IMAGE, "id": 2}), 1, "id 2: images[1], images[3], images[4]"),
    "LT102": (on_annotation(id=1), 1, "id 1: annotations[0], annotations[1]"),
    "LT103": (appended("categories", {"id": 2, "name": "x"}), 1, "id 2: categories[1], categories[2]"),
    "LT104": (on_annotation(image_id=17), 1, "annotations[1] (id 2): image_id 17"),
    "LT105": (on_annotation(category_id=17), 1, "annotations[1] (id 2): category_id 17"),
    "LT106": (appended("categories", {"id": 0, "name": "x"}), 1, "categories[2] (id 0)"),
    "LT107": (appended("categories", {"id": 90, "name": "x"}), 1, "categories: 87 of 1..90 are not used"),
    "LT108": (on_annotation(id=0), 1, "annotations[1] (id 0)"),
    "LT109": (
        appended("annotations", annotation(9, 1, 2)),
        1,
        "(id 9): image 1, category 2, bbox [1, 2, 3, 4]",
    ),
    "LT110": (shifted(1), 1, "listed are 1..2, used 2..3: -1 on every category_id would fit"),
    "LT111": (appended("categories", base()["categories"][1]), 1, "id 2: categories[1], categories[2]"),
    "LT201": (on_list("images", 1, file_name="000000000001.jpg"), 1, "images[0] (id 1), images[1] (id 2)"),
    "LT202": (on_list("images", 1, file_name="a/../../b.jpg"), 1, "images[1] (id 2): 'a/../../b.jpg'"),
    "LT203": (on_list("images", 1, file_name=None), 1, "images[1] (id 2)"),
    "LT204": (on_list("images", 1, width=0), 1, "images[1] (id 2): width 0, height 48"),
    "LT205": (on_list("categories", 0, name="category 2"), 1, "categories[0] (id 1) 'category 2', categories[1]"),
    "LT206": (on_list("categories", 0, name=None), 1, "categories[0] (id 1)"),
    "LT207": (appended("categories", {"id": 3, "name": "x\n"}), 1, r"categories[2] (id 3) 'x\n'"),
    "LT208": (appended("images", IMAGE), 1, "images[3] (id 4)"),
    "LT209": (on_annotation(iscrowd=1), 1, "annotations[1] (id 2)"),
    "LT210": (with_headers(image_count=5), 1, "categories[0] (id 1) 'category 1': image_count 5, counted 2"),
    "LT211": (with_headers(frequency="f"), 1, "categories[0] (id 1) 'category 1': frequency f, by 2 images r"),
    "LT212": (with_headers(frequency="often"), 1, "categories[0] (id 1) 'category 1': frequency 'often'"),
    "LT213": (
        on_list("categories", 1, name="Category  1"),
        1,
        "'category 1', categories[1] (id 2) 'Category  1'",
    ),
    "LT214": (on_list("images", 1, file_name="./000000000001.jpg"), 1, "images[1] (id 2): './000000000001.jpg'"),
    "LT215": (with_image_lists(not_exhaustive_category_ids=[17]), 1, "(id 1): not_exhaustive_category_ids has 17"),
    "LT216": (with_image_lists(neg_category_ids=[1]), 1, "images[0] (id 1): neg_category_ids has 1"),
    "LT217": (with_image_lists(neg_category_ids="[3]"), 1, "images[0] (id 1): neg_category_ids is '[3]'"),
    "LT218": (with_image_lists(neg_category_ids=None), 1, "images[0] (id 1)"),
    "LT219": (on_annotation(ignore=1), 1, "annotations[1] (id 2)"),
    "LT220": (replaced(annotations=[]), 1, "annotations: []"),
    "LT221": (most_are_crowds, 1, "annotations: 3 of 4 are crowds"),
    "LT222": (
        with_image_lists(1, neg_category_ids=[2], not_exhaustive_category_ids=[1, 2]),
        1,
        "images[1] (id 2): each of its lists has 2",
    ),
    "LT301": (on_annotation(bbox=None), 1, "annotations[1] (id 2)"),
    "LT302": (on_annotation(bbox=[1, 2, 3]), 1, "annotations[1]: bbox is [1, 2, 3]"),
    "LT303": (no_numbers, 1, "annotations[1]: bbox is [1.0, 2.0, NaN, 4.0]"),
    "LT304": (on_annotation(bbox=[1, 2, 3, 0]), 1, "annotations[1] (id 2): bbox [1, 2, 3, 0]"),
    "LT305": (on_annotation(bbox=[64, 2, 3, 4]), 1, "bbox [64, 2, 3, 4], image 64 x 48"),
    "LT306": (on_annotation(bbox=[1, 2, 3, 48]), 1, "bbox [1, 2, 3, 48], image 64 x 48"),
    "LT307": (with_boxes(lambda x, y, w, h: [x, y, x + w, y + h]), 6, "bbox [34, 0, 44, 8], image 64 x 48"),
    "LT308": (with_boxes(lambda x, y, w, h: [x + w / 2, y + h / 2, w, h]), 2, "bbox [59, 4, 10, 8], image 64 x 48"),
    "LT309": (with_boxes(lambda x, y, w, h: [x / 64, y / 48, w / 64, h / 48]), 12, "bbox [0.0625, "),
    "LT310": (on_annotation(bbox=[1, 2, 0.5, 4], segmentation=None), 1, "annotations[1] (id 2): bbox [1, 2, 0.5, 4]"),
    "LT311": (without_masks(area=640), 1, "annotations[1] (id 2): area 640, bbox [1, 2, 3, 4]"),
    "LT401": (on_annotation(segmentation=[SQUARE, [1, 2, 3, 4]]), 1, "annotations[1] (id 2)"),
    "LT402": (on_annotation(segmentation=[SQUARE[:7]]), 1, "annotations[1] (id 2)"),
    "LT403": (on_annotation(segmentation={"size": [48, 64], "counts": [48 * 64]}), 1, "annotations[1] (id 2)"),
    "LT404": (on_annotation(segmentation={**RLE, "size": [64, 48]}), 1, "size [64, 48], image 64 x 48"),
    "LT405": (on_annotation(segmentation=SQUARE), 1, "annotations[1]: segmentation is [1, 2, 4, 2"),
    "LT406": (on_annotation(bbox=[30, 30, 3, 4]), 1, "bbox [30, 30, 3, 4], mask [1, 2, 3, 4]"),
    "LT407": (on_annotation(segmentation=[[1, 2, 40, 2, 40, 6, 1, 6]]), 1, "mask [1, 2, 39, 4]"),
    "LT408": (on_annotation(bbox=[1, 2, 40, 4]), 1, "bbox [1, 2, 40, 4], mask [1, 2, 3, 4]"),
    "LT409": (on_annotation(segmentation=None), 1, "annotations[1] (id 2)"),
    "LT410": (on_annotation(area=640), 1, "annotations[1] (id 2): area 640, mask 12"),
    "LT411": (on_annotation(area=None), 1, "annotations[1] (id 2): area nan"),
}


def test_a_sound_file_has_nothing_to_find(tmp_path):
    report = check_file(save(base(), tmp_path / "a.json"))
    assert report.findings == ()
    assert not report.has_errors
    assert (report.images, report.annotations, report.categories) == (3, 4, 2)
    assert "3 images, 4 annotations, 2 categories; kinds of findings: error 0, warning 0, info 0" in format_report(
        report
    )


@pytest.mark.parametrize("code", CASES)
def test_every_code_is_found(tmp_path, code):
    make, count, says = CASES[code]
    finding = found(tmp_path, make())[code]
    assert finding.count == count
    assert says in finding.examples[0]
    assert (finding.severity, finding.title, finding.fix) == (CODES[code].severity, CODES[code].title, CODES[code].fix)


# what one mistake is allowed to bring along
ALONG = {
    "LT004": {"LT303"},
    "LT303": {"LT004"},
    "LT002": {"LT207", "LT208"},
    "LT220": {"LT207"},
    "LT221": {"LT207"},
    "LT310": {"LT409"},
    "LT005": {"LT105"},
    "LT003": {"LT203", "LT204"},
    "LT006": {"LT208"},
    "LT011": {"LT204"},
    "LT101": {"LT201"},
    "LT105": {"LT207"},
    "LT106": {"LT207"},
    "LT107": {"LT207"},
    "LT304": {"LT403"},
    "LT305": {"LT406"},
    "LT306": {"LT408"},
    "LT402": {"LT403"},
    "LT404": {"LT407"},
    "LT407": {"LT410"},
}


@pytest.mark.parametrize("code", CASES)
def test_one_mistake_is_not_told_many_times(tmp_path, code):
    others = set(found(tmp_path, CASES[code][0]())) - {code}
    assert {c for c in others if CODES[c].severity != "info"} <= ALONG.get(code, set())


@pytest.mark.parametrize("code", [code for code in CASES if code != "LT004"])
def test_what_is_structural_is_what_reading_refuses(tmp_path, code):
    path = save(CASES[code][0](), tmp_path / "a.json")
    lines = structural_problems(path)
    assert any(code in line for line in lines) == CODES[code].structural
    assert all("\n" not in line and str(path) in line for line in lines)
    if lines:
        with pytest.raises(DataError):
            assert read_annotations(path).boxes is None
    else:
        assert read_annotations(path).boxes.shape[1] == 4


NO_MASK = [None, [], [[]], [[], []]]


@pytest.mark.parametrize("nothing", NO_MASK, ids=json.dumps)
def test_boxes_without_masks_are_no_mistake(tmp_path, nothing):
    """Exports of boxes say so in several ways."""
    content = base()
    for record in content["annotations"]:
        record["segmentation"] = nothing
    assert found(tmp_path, content) == {}
    del content["annotations"][0]["segmentation"]
    assert found(tmp_path, content) == {}


@pytest.mark.parametrize("masks", [True, False])
def test_areas_that_are_widths_are_told_where_no_mask_says_otherwise(tmp_path, masks):
    """Thin objects have masks far smaller than their boxes."""
    content = pool({i: [1] for i in range(1, 21)})
    for record in content["annotations"]:
        record.update(bbox=[1, 2, 30, 40], area=30)
        record["segmentation"] = [[1, 2, 31, 42, 29, 42]] if masks else None
    assert {code: f.count for code, f in found(tmp_path, content).items()} == ({} if masks else {"LT311": 20})


@pytest.mark.parametrize("nothing", NO_MASK, ids=json.dumps)
def test_no_mask_beside_masks_is_one_warning(tmp_path, nothing):
    findings = found(tmp_path, on_annotation(segmentation=nothing)())
    assert {code: (f.severity, f.count) for code, f in findings.items()} == {"LT409": ("warning", 1)}


@pytest.mark.parametrize("shape", [SQUARE, [[[1, 2], [4, 2], [4, 6]]]], ids=json.dumps)
def test_polygons_of_another_nesting_are_told_as_such(tmp_path, shape):
    findings = found(tmp_path, on_annotation(segmentation=shape)())
    assert {code: (f.severity, f.count) for code, f in findings.items()} == {"LT405": ("error", 1)}


def test_every_code_has_a_case():
    of_other_files = {"LT501", "LT502", "LT503", "LT504", "LT505", "LT506", "LT507", "LT601", "LT602", "LT603", "LT604"}
    of_imports = {code for code in CODES if code.startswith("LT7")}
    assert set(CASES) | of_other_files | of_imports == set(CODES)


def test_two_files_that_share_images_and_disagree_on_categories(tmp_path):
    other = base()
    other["images"][1]["width"] = 63
    other["images"][2]["file_name"] = "other.jpg"
    other["categories"] = [{"id": 1, "name": "Category 1"}, {"id": 9, "name": "x"}]
    findings = found(tmp_path, base(), other=save(other, tmp_path / "val.json"))
    expected = {
        "LT601": ["'000000000001.jpg': images[0] (id 1), images[0] (id 1) of val.json"],
        "LT602": ["'000000000002.jpg': images[1] (id 2), images[1] (id 2) of val.json"],
        "LT603": ["id 1: 'category 1', in val.json 'Category 1'"],
        "LT604": ["id 2: 'category 2', not in val.json", "id 9: only in val.json"],
    }
    assert {code: list(finding.examples) for code, finding in findings.items()} == expected


def test_files_of_one_name_at_two_addresses_are_two_pictures(tmp_path):
    here, there = pool({1: [1]}), pool({1: [1]})
    here["images"][0]["coco_url"] = "http://x.org/train/1.jpg"
    there["images"][0]["coco_url"] = "http://x.org/val/1.jpg"
    findings = found(tmp_path, here, other=save(there, tmp_path / "val.json"))
    assert set(findings) == {"LT602"}


def test_a_dataset_directory_is_its_annotation_file(tmp_path):
    save(on_annotation(area=None)(), tmp_path / "annotations.json")
    report = check_file(tmp_path, other=tmp_path)
    assert report.path == tmp_path / "annotations.json"
    assert set(codes(report)) == {"LT411", "LT601"}
    assert structural_problems(tmp_path / "annotations.json") == []


def test_counts_are_whole_and_examples_are_three(tmp_path):
    content = pool({i: [1] for i in range(1, 1200)})
    for record in content["annotations"][700:]:
        record["bbox"] = [1, 2, 0, 4]
    report = check_file(save(content, tmp_path / "a.json"))
    finding = codes(report)["LT304"]
    assert finding.count == 499
    assert [text.split(":")[0] for text in finding.examples] == [
        f"annotations[{i}] (id {i + 1})" for i in (700, 701, 702)
    ]


def test_one_broken_record_leaves_the_others_of_its_chunk_alone(tmp_path):
    content = pool({i: [1, 2] for i in range(1, 700)})
    content["annotations"][600].update(area="12", image_id=None)
    content["annotations"][601]["bbox"] = [1, 2, 3, 0]
    findings = found(tmp_path, content)
    assert findings["LT007"].count == findings["LT302"].count == 1
    assert "annotations[600]: image_id is None" in findings["LT007"].examples[0]
    assert findings["LT304"].examples == ("annotations[601] (id 602): bbox [1, 2, 3, 0]",)
    assert set(findings) == {"LT007", "LT302", "LT304"}


def test_errors_come_first_and_decide(tmp_path):
    content = on_annotation(bbox=[1, 2, 40, 4], iscrowd=1)()
    report = check_file(save(content, tmp_path / "a.json"))
    assert [f.severity for f in report.findings] == ["warning", "info"]
    assert not report.has_errors
    content["annotations"][0]["bbox"] = [0, 0, 0, 0]
    report = check_file(save(content, tmp_path / "a.json"))
    assert [f.code for f in report.findings] == ["LT304", "LT408", "LT209"]
    assert report.has_errors
    assert len(problem_lines(report)) == 1


def test_table_and_json(tmp_path):
    report = check_file(save(CASES["LT104"][0](), tmp_path / "a.json"))
    table = format_report(report).splitlines()
    assert table[0] == "error    LT104         1  an image_id is not listed in images"
    assert table[1].strip() == "fix: add the image records, or remove these annotations"
    assert table[2].strip() == "annotations[1] (id 2): image_id 17"
    content = json.loads(format_report(report, "json"))
    assert content["kinds"] == {"error": 1, "warning": 0, "info": 0}
    assert (
        Finding(**{**content["findings"][0], "examples": tuple(content["findings"][0]["examples"])}) in report.findings
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("nonsense", "not a JSON object"),
        ("[]", "object"),
        ('{"a": NaN', "not a JSON object"),
        ('{"name": "package", "version": 1}', "is missing"),
        (json.dumps(base())[:-9], "cut off; fetch it again"),
        ('{"images": ' + "[" * 100_000, "recursion"),
    ],
)
def test_files_of_another_kind_are_refused_as_by_reading(tmp_path, text, says):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(DataError, match=says) as error:
        check_file(path)
    assert len(error.value.problems) == 1
    assert "\n" not in error.value.problems[0]


def test_broken_bytes_within_a_record_are_a_finding(tmp_path):
    path = tmp_path / "a.json"
    text = json.dumps(base())
    path.write_bytes(text.encode().replace(b"category 1", b"category \xff"))
    assert "categories[0]" in codes(check_file(path))["LT003"].examples[0]
    path.write_text(text.replace("3.0", "[" * 900 + "]" * 900, 1))
    assert set(codes(check_file(path))) & {"LT302", "LT003"}


def test_real_files_are_sound(shared_data):
    for name in ("instances_train2017.json", "instances_val2017.json"):
        report = check_file(shared_data / "coco_real/annotations" / name)
        assert {finding.code for finding in report.findings} == {"LT107", "LT208", "LT209"}
    folder = shared_data / "coco_real"
    report = check_file(
        folder / "annotations/instances_val2017_with_images.json",
        images=folder / "val2017",
        other=folder / "annotations/instances_train2017.json",
    )
    assert not report.has_errors


def test_real_lvis_file_has_masks_of_other_objects(shared_data):
    path = shared_data / "lvis_val_100/lvis_val_100.json"
    finding = codes(check_file(path))["LT406"]
    outside = []
    for record in json.loads(path.read_text())["annotations"]:
        points = np.concatenate([np.reshape(polygon, (-1, 2)) for polygon in record["segmentation"]])
        low, size = np.array(record["bbox"][:2]), np.array(record["bbox"][2:])
        if ((points.min(0) > low + size + 2) | (points.max(0) < low - 2)).any():
            outside.append(record["id"])
    assert finding.count == len(outside) > 0
    assert all(f"(id {i})" in text for i, text in zip(outside, finding.examples, strict=False))


def test_a_crowd_whose_run_lengths_fit_its_box_is_only_a_note(tmp_path):
    content = base()
    mask = np.zeros((48, 64), np.uint8)
    mask[10:20, 30:40] = 1
    rle = coco_mask.encode(np.asfortranarray(mask))
    record = annotation(5, 1, 1, crowd=1, box=(30.0, 10.0, 10.0, 10.0))
    record["segmentation"] = {"size": rle["size"], "counts": rle["counts"].decode()}
    content["annotations"].append(record)
    assert set(found(tmp_path, content)) == {"LT209"}
    record["segmentation"]["counts"] = "broken!"
    assert set(found(tmp_path, content)) == {"LT209", "LT405"}


@pytest.mark.parametrize(
    ("segmentation", "says"),
    [
        ([RLE], "run lengths are one {size, counts}, not a list of them"),
        ([1, 2, 4, 2, 4, 6, 1, 6], "a polygon is a list within the list"),
        ([[[1, 2], [4, 2], [4, 6]]], "points are not grouped"),
        ([[{"x": 1, "y": 2}]], "points are not grouped"),
        ({**RLE, "counts": ["0", "10", "3062"]}, "counts are whole numbers without quotes"),
        ({**RLE, "counts": "b'0:'"}, "counts is text of Python bytes (b'...'); write rle['counts'].decode()"),
        ({**RLE, "counts": 7}, "Expected `str | array`, got `int`"),
    ],
)
def test_segmentations_of_other_forms_say_which(tmp_path, segmentation, says):
    findings = found(tmp_path, on_annotation(segmentation=segmentation)())
    assert set(findings) == {"LT405"}
    assert says in findings["LT405"].examples[0]


@pytest.mark.parametrize("first", ["images", "annotations", "info", "note"])
@pytest.mark.parametrize("value", ['[{"id": 7, "a": {"images": 1}}]', "[]", "null", '"]}, \\"info\\": 1e999"'])
def test_a_member_that_occurs_twice(tmp_path, first, value):
    text = json.dumps({**base(), "note": 1}).replace('"note": 1', '"note": ' + "9" * 5000)
    escaped = f"\\u{ord(first[0]):04x}{first[1:]}"
    path = tmp_path / "a.json"
    for name in (first, escaped):
        path.write_text(f'{{ "{name}" : {value},{text[1:]}', encoding="utf-8")
        assert codes(check_file(path))["LT009"].examples == (repr(first),)
        with pytest.raises(DataError, match=f"LT009: a member occurs twice: 1 .'{first}'") as error:
            read_annotations(path).annotation_records  # noqa: B018
        assert error.value.problems == structural_problems(path)
    path.write_text(f'{{"{first}2" : {value}, "in": {text}, {text[1:]}', encoding="utf-8")
    assert "LT009" not in codes(check_file(path))


def test_numbers_near_the_end_of_the_range(tmp_path):
    content = base()
    content["annotations"][0]["bbox"] = [1e308, 2, 1e308, 4]
    content["annotations"][1].update(bbox=[-1.7e308, 0, 1.7e308, 1], area=1.7e308)
    content["annotations"][1]["segmentation"] = [[-1.7e308, 0, 1.7e308, 0, 1, 1], [-1e308, 0, 1e308, 0, 1, 1.5]]
    content["annotations"][2]["segmentation"] = [[0, 0, 1e154, 0, 1e154, 1e154]] * 9
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        findings = found(tmp_path, content)
    assert findings["LT305"].count == 2


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        (lambda c: c.pop("images"), "LT001", "val.json: 'images' (found: "),
        (lambda c: c.update(images={"a": 1}), "LT002", "val.json: 'images': Expected `array`, got `object`"),
        (lambda c: c.update(categories=[]), "LT005", "val.json: categories: []"),
        (lambda c: c["images"].append(7), "LT003", "val.json: images[3]: "),
        (lambda c: c["categories"][1].update(id=1), "LT103", "val.json: id 1: categories[0], categories[1]"),
        (lambda c: c.update({1: 1, "1": 1}), "LT009", "val.json: '1'"),
        (lambda c: c.pop("categories"), "LT001", "val.json: 'categories' (found: "),
        (lambda c: c.pop("annotations"), None, ""),
        (lambda c: c.update(annotations=[{"id": "x"}]), None, ""),
    ],
)
def test_what_is_wrong_with_the_other_file(tmp_path, change, code, says):
    other = base()
    change(other)
    findings = found(tmp_path, base(), other=save(other, tmp_path / "val.json"))
    told = {name: finding for name, finding in findings.items() if not name.startswith("LT6")}
    assert list(told) == ([code] if code else [])
    if code:
        assert told[code].examples[0].startswith(says)
        assert told[code].count == 1
    assert ("LT601" in findings) == ("'images'" not in says)
    assert "LT604" not in findings or code in ("LT005", "LT103")


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
@pytest.mark.parametrize("value", [None, [1, 2], "text"])
def test_what_is_no_record_is_one_finding(tmp_path, key, value):
    """Not also one without an id, a name, a size, a box, a mask, an area or an instance."""
    content = base()
    content[key] += [value, value]
    findings = found(tmp_path, content, images=None)
    assert [*findings] == ["LT003"]
    assert findings["LT003"].count == 2


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (rb"a\udcff.jpg", r"'a\udcff.jpg': half of a surrogate pair"),
        (rb"\ud83d", r"'\ud83d': half of a surrogate pair"),
        (b"caf\xe9.jpg", r"'caf\xe9.jpg': not UTF-8"),
    ],
)
@pytest.mark.parametrize(
    ("key", "field"), [("images", "file_name"), ("categories", "name"), ("images", "author"), ("annotations", "note")]
)
def test_what_is_no_text_names_its_record_and_field(tmp_path, key, field, text, shown):
    if text.startswith(b"caf") and field in ("author", "note"):
        pytest.skip("bytes in fields that nothing reads stay as they are")
    content = base()
    content[key][1][field] = "HERE"
    path = tmp_path / "a.json"
    path.write_bytes(save(content, path).read_bytes().replace(b"HERE", text))
    (finding,) = check_file(path).findings
    assert (finding.code, finding.count) == ("LT003", 1)
    assert finding.examples == (f"{key}[1]: {field} has {shown}",)
    with pytest.raises(DataError, match="LT003") as error:
        read_annotations(path)
    assert f"{key}[1]: {field} has {shown}" in str(error.value)


def test_pairs_escapes_and_other_members_are_told_from_half_pairs(tmp_path):
    content = base()
    content["images"][0]["copyright"] = "\\ud83d and \U0001f600"
    content["info"] = {"author": ["HERE"]}
    content["annotations"][0]["area"] = float("nan")
    path = tmp_path / "a.json"
    path.write_bytes(save(content, path).read_bytes().replace(b"HERE", rb"\uDC00"))
    findings = {finding.code: finding for finding in check_file(path).findings}
    assert set(findings) == {"LT003", "LT004", "LT303"}
    assert findings["LT003"].examples == (r"'info': author has '\udc00': half of a surrogate pair",)


@pytest.mark.parametrize("depth", [3, 300, 800])
def test_what_is_no_text_in_deep_records_is_a_finding_too(tmp_path, depth):
    content = base()
    content["images"][1]["file_name"] = "HERE"
    path = tmp_path / "a.json"
    deep = b'x\xff", "note": ' + b"[" * depth + b"]" * depth + b', "more": "'
    path.write_bytes(save(content, path).read_bytes().replace(b"HERE", deep))
    (finding,) = (f for f in check_file(path).findings if f.code == "LT003")
    assert finding.examples[0].startswith("images[1]: ")


def test_findings_that_only_follow_are_left_out(tmp_path):
    """Sizes of a wrong type, equal records of one category, a file of crowds: each is told once."""
    content = base()
    content["images"][0]["width"] = "64"
    assert set(found(tmp_path, content)) == {"LT011"}
    content = base()
    content["categories"] += content["categories"]
    assert set(found(tmp_path, content)) == {"LT111"}
    content = base()
    for record in content["annotations"]:
        record["iscrowd"] = 1
    findings = found(tmp_path, content)
    assert set(findings) == {"LT209", "LT220"}
    assert findings["LT220"].examples == (
        "annotations: all 4 are crowds (CVAT writes brush masks so); if they are objects, set iscrowd: 0",
    )
