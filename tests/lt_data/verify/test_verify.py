"""A built directory verifies; every figure that is changed in it is found and named."""

import csv
import json
import shutil

import numpy as np
import pytest

from lt_data.build.coco_lt import build_coco_lt
from lt_data.build.result import Build, Extras
from lt_data.dataset.options import BuildOptions
from lt_data.errors import DataError
from lt_data.verify.verify import CHOICE, format_verify, verify_directory
from tests.lt_data.pools import pool, save
from tests.lt_data.tampering import edit_json, edit_row, found, sign_again
from tests.lt_data.told import Told

# what no check can tell, whatever is given
ALWAYS = ["alignment.png: what it shows", "environment.json: date", "build.json: inputs: names", "images/"]
OPTIONS = BuildOptions(seed=3, scale="0.01", on_shortage="cap", edges=(2, 5), threshold=0.2)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    rng = np.random.default_rng(0)
    images = {
        int(i): [int(c) if rng.random() > 0.1 else (int(c), "crowd") for c in rng.choice([1, 1, 1, 1, 2, 2, 5, 90], 6)]
        for i in rng.choice(10**6, 40, replace=False)
    }
    folder = tmp_path_factory.mktemp("pool")
    return save(pool(images, categories=[90, 1, 2, 5, 8], names={2: 'a "b", é'}), folder / "pool.json")


@pytest.fixture(scope="module")
def pristine(source, tmp_path_factory):
    out = tmp_path_factory.mktemp("built") / "lt"
    build_coco_lt(source, out, options=OPTIONS)
    return out


@pytest.fixture
def built(pristine, tmp_path):
    return shutil.copytree(pristine, tmp_path / "lt")


def skipped(report):
    """What was not checked beside what never can be."""
    return [thing.what for thing in report.unchecked if not thing.what.startswith(tuple(ALWAYS))]


def test_a_build_verifies(pristine, source):
    alone = verify_directory(pristine)
    assert alone.problems == ()
    assert len(alone.checked) == 16
    assert [what.partition(";")[0] for what in skipped(alone)] == [
        "build.json: inputs: pool: sha256",
        "annotations.json: that every record has the pool's bytes",
        "build.json: seed, order, images_rarest_first, counts of what was dropped or ignored",
    ]
    full = verify_directory(pristine, pool=source)
    assert full.problems == ()
    assert len(full.checked) == 19
    assert skipped(full) == []
    text = format_verify(full)
    assert "everything that was checked is as it was built" in text
    assert sum(line.startswith("checked: ") for line in text.splitlines()) == 19
    assert sum(line.startswith("not checked: ") and "; to check it: " in line for line in text.splitlines()) == 4
    as_json = json.loads(format_verify(full, "json"))
    assert all(thing["what"] and thing["why"] and thing["how"] for thing in as_json["unchecked"])
    assert len(as_json["unchecked"]) == 4


def test_steps_and_bytes_are_told(pristine, source):
    told = Told()
    verify_directory(pristine, pool=source, progress=told)
    assert told.steps == [f"reading {pristine}", f"reading {source}", "choosing images", f"comparing with {source}"]
    sizes = [path.stat().st_size for path in (pristine / "annotations.json", source)]
    assert told.counts == [(size, size) for size in sizes]


def test_the_pool_is_gone_over_a_few_times_only(source, tmp_path, monkeypatch):
    """Not once for each annotation, which took minutes on COCO."""
    out = tmp_path / "lt"
    build_coco_lt(source, out, options=BuildOptions(scale="0.001", on_shortage="cap", surplus="ignore"))
    left_over, calls = Build.left_over.fget, []
    monkeypatch.setattr(Build, "left_over", property(lambda build: calls.append(build) or left_over(build)))
    assert verify_directory(out, pool=source).problems == ()
    assert 0 < len(calls) < 5


@pytest.mark.parametrize(
    ("options", "reference"),
    [
        (BuildOptions(scale="0.5", on_shortage="cap", order="random"), "zipf:1.5"),
        (BuildOptions(scale="0.9", on_shortage="cap", order="fewest-images"), "exp:10"),
    ],
)
def test_laws_and_orders(source, tmp_path, options, reference):
    build_coco_lt(source, tmp_path / "lt", reference=reference, options=options)
    report = verify_directory(tmp_path / "lt", pool=source)
    assert [str(problem) for problem in report.problems] == []
    assert skipped(report) == []


def test_surplus_that_is_ignored(source, tmp_path):
    out = tmp_path / "lt"
    build_coco_lt(source, out, options=BuildOptions(scale="0.001", on_shortage="cap", surplus="ignore"))
    assert verify_directory(out, pool=source).problems == ()
    content = json.loads((out / "annotations.json").read_text())
    crowds = {a["id"] for a in json.loads(source.read_text())["annotations"] if a["iscrowd"]}
    region = next(a for a in content["annotations"] if a["iscrowd"] and a["id"] not in crowds)
    original = dict(region)
    region["iscrowd"] = 0
    (out / "annotations.json").write_text(json.dumps(content))
    report = verify_directory(out, pool=source)
    assert ("annotations.json", "iscrowd annotations") in found(report)
    assert [f.expected for f in report.problems if f.where == f"annotation {region['id']}"] == ["a crowd"]
    region.update(iscrowd=1, bbox=[0, 0, 1, 1])
    (out / "annotations.json").write_text(json.dumps(content))
    wrong = [f.where.split(" at ")[0] for f in verify_directory(out, pool=source).problems if "annotation " in f.where]
    assert wrong == [f"annotation {region['id']}: bbox"]
    region.update(iscrowd=2, bbox=original["bbox"])
    (out / "annotations.json").write_text(json.dumps(content))
    wrong = [f.where.split(" at ")[0] for f in verify_directory(out, pool=source).problems if "annotation " in f.where]
    assert wrong == [f"annotation {region['id']}: iscrowd"]


@pytest.mark.parametrize(("kind", "name"), [("reference", "counts.csv"), ("targets", "wanted.csv")])
def test_a_file_of_counts_or_targets(source, tmp_path, kind, name):
    given = tmp_path / name
    wanted = {1: 30, 2: 8, 5: 4, 8: 0 if kind == "targets" else 2, 90: 3}
    rows = "".join(f"{i},{n},{n}\n" for i, n in wanted.items())
    given.write_text(f"category_id,{'instances' if kind == 'reference' else 'unused'},target\n{rows}")
    out = tmp_path / "lt"
    build_coco_lt(source, out, options=BuildOptions(on_shortage="cap"), **{kind: given})
    without = verify_directory(out, pool=source)
    assert without.problems == ()
    assert [what.split()[0] for what in skipped(without)] == ["categories.csv:", "build.json:"]
    assert all(name in str(thing) for thing in without.unchecked if thing.what in skipped(without))
    full = verify_directory(out, pool=source, reference=given)
    assert (full.problems, skipped(full)) == ((), [])
    given.write_text(given.read_text().replace("8,8", "7,7"))
    report = verify_directory(out, reference=given)
    assert ("build.json", f"inputs: {kind}: sha256") in found(report)
    assert ("categories.csv", "category 2: reference_instances") in found(report)


def test_crowds_that_count(source, tmp_path, monkeypatch):
    """The published set called COCO-LT by SimCal counts crowds; here a small stand-in for its table does."""
    ids = (1, 2, 5, 8, 90)
    table = [{"category_id": str(i), "instances": str(n)} for i, n in zip(ids, (60, 20, 9, 0, 5), strict=True)]
    monkeypatch.setattr("lt_data.build.references.read_table", lambda _: table)
    out = tmp_path / "lt"
    build_coco_lt(source, out, targets="simcal", options=BuildOptions(on_shortage="cap"))
    assert any(a["iscrowd"] for a in json.loads((out / "annotations.json").read_text())["annotations"])
    report = verify_directory(out, pool=source)
    assert [str(problem) for problem in report.problems] == []
    assert skipped(report) == []


def test_validation_file_and_images(source, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for image in json.loads(source.read_text())["images"]:
        (folder / image["file_name"]).write_bytes(b"picture")
    out = tmp_path / "lt"
    build_coco_lt(source, out, options=OPTIONS, extras=Extras(val=source, images=folder, copy_images=True))
    assert verify_directory(out, pool=source).problems == ()
    first = sorted((out / "images").iterdir())[0]
    first.unlink()
    (out / "val.json").write_bytes(b"{}")
    sign_again(out)
    report = verify_directory(out)
    assert ("build.json", "files: val.json") in found(report)
    lost = [f for f in report.problems if f.file == "images"]
    assert first.name in lost[1].got


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("name", "other"),
        ("rank", 9),
        ("pool_instances", 0),
        ("reference_rank", 2),
        ("reference_instances", 1),
        ("target", 27),
        ("instances", 25),
        ("images", 1),
        ("group", "(0, 2)"),
    ],
)
def test_every_column_of_the_categories(built, column, value):
    before = edit_row(built / "categories.csv", 0)[column]
    edit_row(built / "categories.csv", 0, **{column: value})
    sign_again(built)
    report = verify_directory(built)
    # a changed column is found as itself, or as the figure that follows from it
    follows = "shortage" if column == "pool_instances" else column
    hits = [f for f in report.problems if f.where.endswith(follows)]
    assert hits, found(report)
    if follows == column:
        assert any((f.got, f.expected) == (str(value), before) for f in hits)


@pytest.mark.parametrize(("column", "value"), [("pool_instances", 1000), ("pool_images", 7), ("target", 25)])
def test_figures_that_only_the_pool_can_tell(built, source, column, value):
    row = edit_row(built / "categories.csv", 0)
    edit_row(built / "categories.csv", 0, **{column: value})
    report = verify_directory(built, pool=source)
    where = f"category {row['category_id']}: {column}"
    assert (str(value), row[column]) in [(f.got, f.expected) for f in report.problems if f.where == where]


def test_an_edit_without_new_digests_is_seen_by_its_digest(built):
    edit_row(built / "repeat_factors.csv", 2, repeat_factor=1.25)
    report = verify_directory(built)
    assert found(report)[0] == ("repeat_factors.csv", "sha256")
    ids = [int(row[0]) for row in list(csv.reader((built / "repeat_factors.csv").open()))[1:]]
    (problem,) = [f for f in report.problems if f.where == f"image {ids[2]}: repeat_factor"]
    assert problem.got == "1.25"
    assert float(problem.expected) >= 1


def test_lost_and_doubled_rows(built):
    path = built / "repeat_factors.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], *lines[3:]]) + "\n")
    lost = lines[2].split(",")[0]
    assert ("repeat_factors.csv", f"image {lost}") in found(verify_directory(built))
    path.write_text("\n".join([*lines, lines[-1]]) + "\n")
    assert ("repeat_factors.csv", "ids of each image") in found(verify_directory(built))
    path.write_text("\n".join([lines[0], *reversed(lines[1:])]) + "\n")
    assert ("repeat_factors.csv", "order: image at place 1") in found(verify_directory(built))


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda c: c["totals"].update(images=1), "totals: images"),
        (lambda c: c["totals"].update(instances=1), "totals: instances"),
        (lambda c: c["totals"].pop("categories"), "totals: categories"),
        (lambda c: c["shortage"].pop(), "shortage"),
        (lambda c: c["options"].update(on_shortage="error"), "options: on_shortage"),
        (lambda c: c["files"].pop("groups.json"), "files: groups.json"),
        (lambda c: c["files"].update({"../secret": "0"}), "files: ../secret"),
        (lambda c: c["inputs"]["reference"].update(name="lvis-v9"), "content"),
    ],
)
def test_every_figure_of_the_record(built, change, where):
    edit_json(built / "build.json", change)
    assert ("build.json", where) in found(verify_directory(built))


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda c: c["inputs"]["pool"].update(sha256="0" * 64), "inputs: pool: sha256"),
        (lambda c: c["dropped"].update(crowds=0), "dropped: crowds"),
        (lambda c: c["dropped"].update(surplus_instances=0), "dropped: surplus_instances"),
        (lambda c: c.update(ignored={"crowds": 4}), "ignored: crowds"),
        (lambda c: c.update(images_rarest_first=1), "order: images_rarest_first"),
    ],
)
def test_figures_of_the_record_that_need_the_pool(built, source, change, where):
    edit_json(built / "build.json", change)
    assert ("build.json", where) in found(verify_directory(built, pool=source))


def test_groups(built):
    def move(content):
        groups = content["groups"]
        groups[1]["category_ids"].append(groups[0]["category_ids"].pop())

    edit_json(built / "groups.json", move)
    problems = [str(f) for f in verify_directory(built).problems if f.file == "groups.json"][1:]
    assert [p.split(" category ")[0] for p in problems] == ["groups.json: group (0, 2):", "groups.json: group [2, 5):"]
    assert problems[0].endswith("got none; expected one")
    edit_json(built / "groups.json", lambda c: c.update(edges=[2, 6]))
    assert ("groups.json", "edges") in found(verify_directory(built))


def test_other_edges_and_thresholds_change_what_follows(built):
    edit_json(built / "build.json", lambda c: c["options"].update(edges=[3, 9], threshold=0.9))
    files = {file for file, _ in found(verify_directory(built))}
    assert files == {"groups.json", "repeat_factors.csv", "categories.csv", "README.md"}


def test_annotations_that_are_not_the_pools(built, source):
    path = built / "annotations.json"
    lines = path.read_text(encoding="utf-8")
    record = json.loads(lines)["annotations"][3]
    changed = json.dumps({**record, "bbox": [9, 9, 9, 9]})
    assert json.dumps(record) in lines
    path.write_text(lines.replace(json.dumps(record), changed), encoding="utf-8")
    sign_again(built)
    assert verify_directory(built).problems == ()
    (problem,) = verify_directory(built, pool=source).problems
    assert problem.where.startswith(f"annotation {record['id']} at byte ")
    assert "[9, 9," in problem.got
    assert "[1.0, 2.0" in problem.expected


def test_another_choice_of_images(built, source, tmp_path):
    other = tmp_path / "other"
    build_coco_lt(source, other, options=BuildOptions(**{**OPTIONS.__dict__, "seed": 4, "scale": "0.001"}))
    edit_json(other / "build.json", lambda c: c.update(seed=3))
    (problem,) = verify_directory(other).problems
    assert problem.file == "README.md"
    card = other / "README.md"
    card.write_text(card.read_text().replace("--seed 4", "--seed 3"))
    assert verify_directory(other).problems == ()
    ours, theirs = (set(json.loads((d / "annotations.json").read_text())["images"][0]) for d in (built, other))
    assert ours == theirs
    report = verify_directory(other, pool=source)
    wrong = {f.where.split()[0] for f in report.problems if f.file == "annotations.json"}
    assert wrong == {"image", "annotation"}


def test_another_pool(built, source, tmp_path):
    content = json.loads(source.read_text())
    content["annotations"] = [a for a in content["annotations"] if a["category_id"] != 5]
    report = verify_directory(built, pool=save(content, tmp_path / "less.json"))
    where = [w for _, w in found(report)]
    assert {"inputs: pool: sha256", "category 5: pool_instances", "category 5: pool_images"} <= set(where)


def test_a_pool_that_is_too_small_for_the_targets(source, tmp_path):
    build_coco_lt(source, tmp_path / "lt", targets=wanted_file(tmp_path))
    content = json.loads(source.read_text())
    content["annotations"] = [a for a in content["annotations"] if a["category_id"] != 5]
    small = save(content, tmp_path / "less.json")
    report = verify_directory(tmp_path / "lt", pool=small, reference=tmp_path / "wanted.csv")
    assert ("build.json", "building again") in found(report)


def wanted_file(folder):
    path = folder / "wanted.csv"
    path.write_text("category_id,target\n1,9\n2,5\n5,3\n8,0\n90,1\n")
    return path


def test_unknown_keys_are_left_alone(built, source):
    def change(content):
        content["seen_by"] = "me"
        content["options"] |= {"val": "val.json", "images": None, "note": None}
        content["inputs"]["licence"] = {"name": "CC BY 4.0"}

    edit_json(built / "build.json", change)
    edit_row(built / "categories.csv", 0, comment="first")
    sign_again(built)
    report = verify_directory(built, pool=source)
    assert report.problems == ()
    assert skipped(report) == [
        "categories.csv: columns comment",
        "build.json: keys inputs: licence, seen_by, options: val, options: images, options: note",
        CHOICE,
    ]
    edit_json(built / "build.json", lambda c: c["options"].update(shuffle="twice"))
    report = verify_directory(built, pool=source)
    assert report.problems == ()
    assert any("options that this version lacks" in thing.why and "shuffle" in thing.why for thing in report.unchecked)


@pytest.mark.parametrize("name", ["annotations.json", "categories.csv", "groups.json", "repeat_factors.csv"])
@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe", b"[]", b'{"images": [', b"a,b\n1,2\n"])
def test_files_that_cannot_be_read_are_findings(built, source, name, content):
    if content is None:
        (built / name).unlink()
    else:
        (built / name).write_bytes(content)
    report = verify_directory(built, pool=source)
    assert any(f.file == name and f.where in ("file", "sha256") for f in report.problems)
    told = [f.where.split()[0] for f in report.problems if f.file == name]
    assert {"content", "category", "image"} & set(told)
    json.loads(format_verify(report, "json"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read"),
        ("{", "not the record of a build"),
        ('{"options": ' + "[" * 5000 + "]" * 5000 + "}", "not the record of a build"),
        ('{"schema": 1}', "not the record of a build"),
    ],
)
def test_no_record_no_verdict(built, content, words):
    path = built / "build.json"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(DataError, match=words):
        verify_directory(built)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.update(schema=2), "schema is 2; this version reads schema 1"),
        (lambda c: c["options"].pop("edges"), "edges missing"),
        (lambda c: c["options"].update(edges=[5, 2]), "options: --groups: got 5,2"),
        (lambda c: c["options"].update(scale="2"), "options: --scale: got '2'"),
        (lambda c: c["options"].update(threshold="x"), "options: Expected `float`"),
        (lambda c: c["options"].update(order="by-name"), "options: Invalid enum value 'by-name'"),
        (lambda c: c["inputs"].pop("reference"), "needs either a reference or targets"),
    ],
)
def test_records_of_another_kind(built, change, words):
    edit_json(built / "build.json", change)
    with pytest.raises(DataError) as error:
        verify_directory(built)
    assert words in str(error.value)


def test_missing_pool(built, tmp_path):
    with pytest.raises(DataError, match=r"nothing\.json: cannot be read"):
        verify_directory(built, pool=tmp_path / "nothing.json")


def test_long_lists_are_shortened_in_text_only(built, monkeypatch):
    monkeypatch.setattr("lt_data.verify.verify.SHOWN", 4)
    edit_json(built / "build.json", lambda c: c["options"].update(threshold=50.0))
    report = verify_directory(built)
    wrong = [f for f in report.problems if f.file == "repeat_factors.csv"]
    assert len(wrong) > 4
    text = format_verify(report)
    assert f"repeat_factors.csv: and {len(wrong) - 4} more differences" in text
    assert text.endswith(f"differences found: {len(report.problems)}")
    assert len(json.loads(format_verify(report, "json"))["problems"]) == len(report.problems)


def own_groups(content):
    """Two groups that no bounds describe."""
    ids = sorted(i for group in content["groups"] for i in group["category_ids"])
    parts = (ids[::2], ids[1::2])
    rows = [{"name": f"part {i}", "lower": None, "upper": None, "category_ids": part} for i, part in enumerate(parts)]
    content.update(edges=None, groups=rows)


def test_groups_that_were_edited_are_no_damage(built, source):
    edit_json(built / "groups.json", own_groups)
    report = verify_directory(built, pool=source)
    assert report.problems == ()
    assert report.notices == ("groups.json: edited: the categories are in groups of its own, part 0, part 1",)
    lines = format_verify(report).splitlines()
    assert f"notice: {report.notices[0]}" in lines
    assert lines[-1].endswith("everything that was checked is as it was built, but for what was edited")
    assert json.loads(format_verify(report, "json"))["notices"] == list(report.notices)


@pytest.mark.parametrize(
    "damage",
    [
        lambda c: c["groups"][0]["category_ids"].pop(),
        lambda c: c["groups"][1]["category_ids"].append(c["groups"][0]["category_ids"][0]),
        lambda c: c["groups"][0].update(name="part 1"),
        lambda c: c["groups"][0].update(upper=2),
        lambda c: c.update(edges=[2, 5]),
    ],
)
def test_what_is_no_partition_or_has_bounds_is(built, damage):
    edit_json(built / "groups.json", own_groups)
    edit_json(built / "groups.json", damage)
    report = verify_directory(built)
    assert report.notices == ()
    assert {("groups.json", "sha256"), ("groups.json", "groups")} <= {*found(report)}


@pytest.mark.parametrize(
    ("key", "digest", "expected"),
    [
        ("reference", "ab" * 32, "nothing, as lvis-v0.5 is no file"),
        ("reference", "invented", "64 hexadecimal digits"),
        ("pool", "0" * 63, "64 hexadecimal digits"),
        ("pool", None, "64 hexadecimal digits"),
    ],
)
def test_digests_that_no_build_writes(built, key, digest, expected):
    content = json.loads((built / "build.json").read_text())
    assert content["inputs"]["reference"] == {"name": "lvis-v0.5", "sha256": None}
    content["inputs"][key]["sha256"] = digest
    (built / "build.json").write_text(json.dumps(content))
    report = verify_directory(built)
    wrong = [f.expected for f in report.problems if (f.file, f.where) == ("build.json", f"inputs: {key}: sha256")]
    assert wrong == [expected]
