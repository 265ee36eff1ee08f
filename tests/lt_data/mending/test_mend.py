"""`lt_data.mend`: what it puts right, that it touches nothing else, and that it ends."""

import contextlib
import csv
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lt_data import mend
from lt_data.annotations.file import read_annotations
from lt_data.checks.check import check_data, check_file
from lt_data.errors import DataError, LtError, OutputError, RecipeError
from lt_data.mending.document import Document
from lt_data.mending.kinds import KINDS, parse_kinds
from lt_data.mending.mend import mended
from lt_data.mending.result import format_mend
from tests.lt_data.damage import coco_file, lvis_file, mutant
from tests.lt_data.mending import damages
from tests.lt_data.pools import annotation, pool, save

ALL = tuple(KINDS)


def left(report):
    return [finding.code for finding in report.left]


def run(tmp_path, content, *kinds):
    """The mended content and the report."""
    out = tmp_path / "out.json"
    report = mend(save(content, tmp_path / "in.json"), out, fix=kinds or ALL, force=True)
    return json.loads(out.read_text(encoding="utf-8")), report


CASES = {
    "numbers": (damages.quote_boxes, damages.quote_areas, damages.quote_sizes, damages.quote_crowds),
    "ids": (damages.text_image_ids, damages.text_category_ids, damages.float_ids, damages.huge_id, damages.no_id),
    "masks": (damages.flat_polygons,),
    "equal-categories": (damages.repeat_category, damages.second_category),
    "equal-images": (damages.second_image,),
    "unlisted": (damages.unlisted_image, damages.unlisted_category),
    "repeated-ids": (damages.repeat_ids, damages.start_at_zero),
    "boxes": (damages.no_box, damages.empty_box, damages.loose_box),
    "clip": (damages.over_edge,),
    "areas": (damages.wrong_area, damages.no_area),
    "same-object": (damages.repeat_object,),
    "root-category": (damages.root,),
    "empty-categories": (damages.empty_category,),
}


def test_the_sound_file_is_sound(tmp_path):
    report = mend(save(damages.sound(), tmp_path / "a.json"))
    assert report.changes == ()
    assert [f.code for f in report.after.findings] == ["LT107"]


@pytest.mark.parametrize(
    ("kind", "damage"),
    [(kind, damage) for kind, found in CASES.items() for damage in found],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_one_kind_mends_its_damage_and_no_other_kind_does(tmp_path, kind, damage):
    content = damages.sound()
    damage(content)
    _, report = run(tmp_path, content, kind)
    assert left(report) == []
    assert report.counts[kind] == len(report.changes) > 0
    before = save(content, tmp_path / "in.json").read_bytes()
    others = tuple(each for each in KINDS if each not in (kind, "boxes", "empty-categories"))
    if damage not in (damages.no_box, damages.loose_box, damages.empty_box):
        document, changes = mended(tmp_path / "in.json", before, others)
        assert (bytes(document.data), changes) == (before, [])


@settings(max_examples=30)
@given(
    chosen=st.sets(st.sampled_from(damages.DAMAGES), max_size=8),
    of_images=st.sampled_from((None, *damages.OF_IMAGES)),
    seed=st.integers(0, 99),
    indent=st.sampled_from((None, 1)),
)
def test_whatever_is_mended_is_clean_and_the_rest_keeps_its_bytes(tmp_path_factory, chosen, of_images, seed, indent):
    content = damages.sound(seed)
    for damage in sorted(chosen, key=damages.DAMAGES.index):
        damage(content)
    if of_images:
        of_images(content)
    data = json.dumps(content, indent=indent).encode()
    path = tmp_path_factory.getbasetemp() / "a.json"
    document, changes = mended(path, data, ALL)
    after = check_data(path, document.data)
    assert [f.code for f in after.findings if f.severity != "info"] == []

    # mending twice changes nothing
    again, none = mended(path, document.data, ALL)
    assert (bytes(again.data), none) == (bytes(document.data), [])

    # what no change names has its bytes, and what was dropped is named
    touched = {(change.list, change.record) for change in changes}
    for key, old in Document.of(path, data).records.items():
        kept = document.origin[key].tolist()
        assert kept == sorted(kept)
        for row, record in zip(kept, document.records[key], strict=True):
            assert (key, row) in touched or bytes(record) == bytes(old[row])
        dropped = {change.record for change in changes if change.list == key and not change.field}
        assert dropped == set(range(len(old))) - set(kept)


def test_white_space_and_other_members_stay(tmp_path):
    text = '{\n "info": {"a" : 1},\n "images": [ {"id": 1, "file_name": "a.jpg", "width": 9, "height": 9} ],\n\t'
    text += '"annotations": [ {"id": 1 , "image_id":1, "category_id": 1, "bbox": [0, 1, "6.50" , 4], "area": 26.0} ,'
    text += ' {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 1, 6.5, 4], "area": 26}],'
    text += '\n "categories": [{"id": 1, "name": "x"}], "more": [1,  2]}\n\n'
    path, out = tmp_path / "a.json", tmp_path / "b.json"
    path.write_text(text)
    mend(path, out, fix=["numbers"])
    assert out.read_text() == text.replace('"6.50"', "6.50")
    mend(path, out, fix=["numbers", "same-object"], force=True)
    assert out.read_text() == text.replace('"6.50"', "6.50").replace(
        ' , {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 1, 6.5, 4], "area": 26}', " "
    ).replace("26.0} ]", "26.0}]")


def test_ids_are_mapped_one_to_one(tmp_path):
    content = damages.sound()
    damages.text_image_ids(content)
    damages.repeat_ids(content)
    content["annotations"].append(annotation("7", "cam-4", 1, box=(3.0, 3.0, 9.0, 9.0)))
    mixed, report = run(tmp_path, content, "ids", "repeated-ids")
    with (tmp_path / "out.ids.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == len(report.new_ids)
    for key in ("images", "annotations"):
        new = [row["id"] for row in mixed[key]]
        assert len(set(new)) == len(new)
        found = {int(row["record"]): int(row["new_id"]) for row in rows if row["list"] == key}
        assert found == {row: new[row] for row, record in enumerate(content[key]) if record["id"] != new[row]}
    names = {image["id"]: image["file_name"] for image in mixed["images"]}
    was = {image["id"]: image["file_name"] for image in content["images"]}
    for before, after in zip(content["annotations"], mixed["annotations"], strict=True):
        assert names[after["image_id"]] == was[before["image_id"]]


def test_text_that_refers_to_no_image_never_comes_to_mean_one(tmp_path):
    """Numbers that dangle are kept free, and texts that do become numbers that no image has."""
    content = pool({1: [1], 2: [1]})
    for image, text in zip(content["images"], ("a", "b"), strict=True):
        image["id"] = text
    content["annotations"][0]["image_id"], content["annotations"][1]["image_id"] = 1, "lost"
    mixed, _ = run(tmp_path, content, "ids")
    listed = {image["id"] for image in mixed["images"]}
    assert not listed & {row["image_id"] for row in mixed["annotations"]}
    emptied, report = run(tmp_path, content, "ids", "unlisted")
    assert emptied["annotations"] == []
    assert [change.after for change in report.changes if not change.field] == ["its image is not listed"] * 2


def test_numbers_in_quotes_keep_their_number_where_it_is_free(tmp_path):
    content = pool({1: [1], 2: [1], 3: [1]})
    for image, i in zip(content["images"], ("2", "1", 1), strict=True):
        image["id"] = i
    content["annotations"] = [annotation(1, "2", 1), annotation(2, "1", 1), annotation(3, 1, 1)]
    mixed, _ = run(tmp_path, content, "ids")
    assert [image["id"] for image in mixed["images"]] == [2, 3, 1]
    assert [row["image_id"] for row in mixed["annotations"]] == [2, 3, 1]


def test_ids_that_are_off_by_one_move_and_are_not_dropped(tmp_path):
    content = pool({1: [1, 2], 2: [2, 3]}, categories=[0, 1, 2])
    mixed, report = run(tmp_path, content)
    assert [row["category_id"] for row in mixed["annotations"]] == [0, 1, 1, 2]
    assert report.counts["unlisted"] == 0
    unmoved, report = run(tmp_path, content, "unlisted")
    assert unmoved == content
    assert left(report) == ["LT110"]


def test_boxes_of_another_form_are_left_alone(tmp_path):
    content = pool({i: [1, 1] for i in range(1, 9)})
    for number, row in enumerate(content["annotations"]):
        row["bbox"] = [20.0 + number, 10.0, 60.0, 40.0]
        row["segmentation"] = None
    mixed, report = run(tmp_path, content, "boxes", "clip", "areas")
    assert mixed == content
    assert "LT307" in left(report)


def test_a_clipped_object_keeps_what_lies_in_the_image(tmp_path):
    content = pool({1: [1]})
    content["annotations"] = [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [-10.0, 20.0, 30.0, 40.5], "area": 1215.0},
        annotation(2, 1, 1, box=(50.0, 40.0, 20.0, 20.0)),
    ]
    mixed, report = run(tmp_path, content, "clip")
    first, second = mixed["annotations"]
    assert (first["bbox"], first["area"]) == ([0, 20, 20, 28], 560)
    assert (second["bbox"], second["area"]) == ([50, 40, 14, 8], 112)
    assert sorted(zip(*[iter(second["segmentation"][0])] * 2, strict=True)) == [(50, 40), (50, 48), (64, 40), (64, 48)]
    assert left(report) == ["LT409"]


def test_a_box_grows_to_its_mask_but_not_to_one_of_another_size(tmp_path):
    content = pool({1: [1, 2]})
    content["annotations"] = [annotation(1, 1, 1, box=(5.0, 5.0, 10.0, 10.0)), annotation(2, 1, 2, box=(5, 5, 40, 30))]
    content["annotations"][0]["bbox"] = [5.0, 5.0, 10.0, 7.0]
    content["annotations"][1]["bbox"] = [5.0, 5.0, 10.0, 7.0]
    mixed, report = run(tmp_path, content, "boxes")
    assert [row["bbox"] for row in mixed["annotations"]] == [[5, 5, 10, 10], [5, 5, 10, 7]]
    assert left(report) == ["LT407"]


def test_a_box_outside_its_image_stays_and_is_told(tmp_path):
    content = pool({1: [1, 1]})
    content["annotations"][1] = {**annotation(2, 1, 1, box=(500.0, 2.0, 9.0, 9.0)), "segmentation": None}
    mixed, report = run(tmp_path, content)
    assert mixed == content
    assert left(report) == ["LT305", "LT409"]


def test_of_one_object_that_with_the_mask_stays(tmp_path):
    content = pool({1: [1, 1, 2]})
    content["annotations"][0]["segmentation"] = []
    mixed, _ = run(tmp_path, content, "same-object")
    assert [row["id"] for row in mixed["annotations"]] == [2, 3]


def test_records_that_differ_are_not_made_one(tmp_path):
    content = pool({1: [1], 2: [2]}, names={1: "mouse", 2: "mouse"})
    content["categories"][0]["supercategory"], content["categories"][1]["supercategory"] = "animal", "electronic"
    content["images"][1]["file_name"], content["images"][1]["width"] = content["images"][0]["file_name"], 70
    mixed, report = run(tmp_path, content)
    assert mixed == content
    assert left(report) == ["LT201", "LT205"]


def test_lvis_lists_and_counts_follow(tmp_path):
    content = lvis_file()
    content["categories"].append({**content["categories"][0], "id": 4, "name": "never seen"})
    content["images"][0]["not_exhaustive_category_ids"] = [4, 3, 900]
    mixed, report = run(tmp_path, content)
    assert left(report) == []
    assert [image["neg_category_ids"] for image in mixed["images"]] == [[], [1], [], [1], []]
    assert mixed["images"][0]["not_exhaustive_category_ids"] == [3]
    stated = [(c["image_count"], c["instance_count"], c["frequency"]) for c in mixed["categories"]]
    # of each pair of one box one object stays
    assert stated == [(3, 3, "r"), (3, 3, "r"), (2, 2, "r")]


def test_a_category_that_only_crowds_have_stays(tmp_path):
    content = pool({1: [1, (2, "crowd")]})
    mixed, report = run(tmp_path, content)
    assert mixed == content
    assert left(report) == ["LT207"]


def test_not_finite_numbers(tmp_path):
    content = pool({1: [1, 2], 2: [1]})
    content["annotations"][0]["bbox"][2] = float("nan")
    content["annotations"][1]["area"] = float("-inf")
    content["annotations"][2].update(bbox=[float("inf")] * 4, segmentation=None)
    path = save(content, tmp_path / "a.json")
    with pytest.raises(DataError, match="NaN or Infinity stands for a number; add the kind not-finite"):
        mend(path, fix=["areas"])
    mixed, report = run(tmp_path, content)
    assert mixed["annotations"][0]["bbox"] == [1, 2, 3, 4]
    assert mixed["annotations"][1]["area"] == 12
    # without box and mask nobody knows where it is: it stays, and is told
    assert mixed["annotations"][2]["bbox"] is None
    assert left(report) == ["LT301", "LT409"]
    told = [(change.record, change.field, change.before) for change in report.changes if change.kind == "not-finite"]
    assert told == [
        (0, "bbox", "[1.0, 2.0, NaN, 4.0]"),
        (1, "area", "-Infinity"),
        (2, "bbox", "[Infinity, Infinity, Infinity, Infinity]"),
    ]


def taco():
    """The shape of TACO's official annotations: 60 categories without a root, and two annotation ids twice."""
    names = {c: f"Litter {c}" for c in range(60)}
    content = pool({i: [(7 * i + k) % 60 for k in range(3)] for i in range(1500)}, names=names)
    for number, row in enumerate(content["annotations"]):
        row["bbox"][0] = row["segmentation"][0][0] = row["segmentation"][0][6] = float(number % 3 * 10)
        row["segmentation"][0][2] = row["segmentation"][0][4] = row["bbox"][0] + 3.0
    content["annotations"][2000]["id"], content["annotations"][4100]["id"] = 309, 4040
    return content


def test_taco_is_read_after_two_ids_are_new(tmp_path):
    path, out = save(taco(), tmp_path / "annotations.json"), tmp_path / "taco.json"
    with pytest.raises(DataError, match="an annotation id occurs more than once: 2"):
        read_annotations(path)
    report = mend(path, out, fix=["repeated-ids"])
    assert report.counts == {"repeated-ids": 2}
    assert (tmp_path / "taco.ids.csv").read_text().splitlines() == [
        "list,record,old_id,new_id",
        "annotations,2000,309,4501",
        "annotations,4100,4040,4502",
    ]
    file = read_annotations(out)
    assert (len(file.image_ids), len(file.annotation_ids), len(file.categories.ids)) == (1500, 4500, 60)
    old, new = path.read_bytes(), out.read_bytes()
    assert len(new) - len(old) == 1
    assert not check_file(out).has_errors


@pytest.fixture(scope="session")
def cases(shared_data):
    folder = shared_data.parent / "cases"
    if not folder.is_dir():
        pytest.skip("the field cases beside the repository are not here")
    return folder


FIELD = {
    "06_same_object_twice/dup_annotations.json": (),
    "07_root_category_in_the_curve/roboflow_root_pool.json": (),
    "08_string_ids/ids_str_annot_only.json": (),
    "08_string_ids/ids_str_names.json": (),
    "08_string_ids/ids_str_numeric.json": (),
    "09_float_ids/ids_float.json": (),
    "10_taco_duplicate_annotation_ids/ann_ids_per_image.json": (),
    "10_taco_duplicate_annotation_ids/taco_dup_id.json": (),
    "11_side_fields_stop_counting/cats_int_names.json": (),
    "11_side_fields_stop_counting/lvis_counts_str.json": (),
    "11_side_fields_stop_counting/wh_float.json": ("LT011",),
    "11_side_fields_stop_counting/wh_str.json": (),
    "12_string_boxes_of_roboflow/area_str.json": (),
    "12_string_boxes_of_roboflow/bbox_strings.json": (),
    "14_not_finite_shown_as_inf/bbox_nan.json": (),
    "15_segmentation_forms/rle_bytesrepr.json": (),
    "15_segmentation_forms/rle_counts_strlist.json": (),
    "15_segmentation_forms/rle_list_of_rle.json": (),
    "15_segmentation_forms/seg_pairs.json": (),
    "18_follow_on_findings/cat_str.json": (),
    "18_follow_on_findings/cats_off_by_one.json": (),
    "19_categories_repeated_by_via/cats_dup_identical.json": (),
    "27_targets_by_name/names_dup_targets.json": (),
    "train_flat_polygon/train_flat.json": (),
    "train_flat_polygon/train_nested.json": (),
    "train_small_messages/gt_neg_w.json": (),
    "train_xyxy/train_xyxy.json": ("LT307",),
}


@pytest.mark.parametrize("name", FIELD)
def test_field_cases(cases, name):
    report = mend(cases / name)
    assert tuple(left(report)) == FIELD[name]


@pytest.mark.parametrize("name", [coco_file, lvis_file])
def test_damaged_files_are_mended_or_refused_in_lines(name, tmp_path):
    path, done = tmp_path / "a.json", 0
    for seed in range(30):
        data, steps = mutant(name(), seed)
        with contextlib.suppress(LtError):
            document, _ = mended(path, data, ALL)
            again, none = mended(path, document.data, ALL)
            assert (bytes(again.data), none) == (bytes(document.data), []), (seed, steps)
            done += 1
    assert done > 8


def test_a_dry_run_writes_nothing_and_lists_everything(tmp_path):
    content = damages.sound()
    damages.quote_areas(content)
    damages.root(content)
    path = save(content, tmp_path / "a.json")
    report = mend(path, changes=tmp_path / "changes.json")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "changes.json"]
    listed = json.loads((tmp_path / "changes.json").read_text())["changes"]
    assert [change["kind"] for change in listed] == ["numbers", "root-category"]
    assert json.loads(listed[1]["before"]) == content["categories"][0]
    text = format_mend(report)
    assert "annotations[3] (id 4): area" in text
    assert "categories[0] (id 0): dropped, it has no object" in text
    assert json.loads(format_mend(report, "json"))["kinds"]["numbers"]["changes"] == 1


def test_what_is_refused(tmp_path):
    path = save(damages.sound(), tmp_path / "a.json")
    with pytest.raises(OutputError, match="is read by this command"):
        mend(path, path, fix=ALL, force=True)
    with pytest.raises(OutputError, match="written as .json"):
        mend(path, tmp_path / "b.txt", fix=ALL)
    (tmp_path / "b.ids.csv").touch()
    with pytest.raises(OutputError, match="exists"):
        mend(path, tmp_path / "b.json", fix=ALL)
    with pytest.raises(RecipeError, match="fix: got none; name what is put right in"):
        mend(path, tmp_path / "c.json")
    with pytest.raises(RecipeError, match="fix: got 'clipp'; kinds of mends are not-finite, numbers"):
        parse_kinds("clipp, areas")
    with pytest.raises(RecipeError, match="fix: got none"):
        parse_kinds(",")
    with pytest.raises(DataError, match="captions"):
        mend(save({"images": [], "annotations": [{"id": 1, "caption": "a"}]}, tmp_path / "c.json"))
