"""Whatever happens to a file, every function works or says what is wrong in one line a problem.

Small real-looking files are damaged in many ways: bytes flipped, cut and doubled, keys removed and renamed, values of
other types and sizes, records nested, doubled and swapped. All draws are seeded.
"""

import gzip
import io
import json
import random
import zipfile

import pytest
from click.testing import CliRunner

from lt_data.annotations.file import read_annotations
from lt_data.annotations.problems import structural_problems
from lt_data.build.coco_lt import build_coco_lt
from lt_data.build.report import format_build
from lt_data.checks.check import check_file, format_report
from lt_data.counts.categories import header_mismatches
from lt_data.counts.group_stats import format_stats, group_stats
from lt_data.dataset.options import BuildOptions
from lt_data.errors import DataError, LtError
from lt_data.files.image_files import find_images
from tests.lt_data.damage import BYTES, as_json, coco_file, lvis_file, mutant, real_file
from tests.lt_data.pools import save


def read(path):
    file = read_annotations(path)
    assert len(file.boxes) == len(file.areas) == len(file.annotation_ids)
    for index in range(len(file.annotation_ids)):
        file.segmentation(index)
    assert set(file.members) >= {"images", "annotations", "categories"}
    return header_mismatches(file)


def find(path):
    find_images(path.parent, read_annotations(path).file_names)


def count(path):
    stats = group_stats(path)
    return [format_stats(stats, style) for style in ("table", "csv", "json")]


def build(path):
    built = build_coco_lt(path, None, options=BuildOptions(on_shortage="cap"))
    return [format_build(built), *built.warnings]


def imitate(path):
    build_coco_lt(path, None, reference=path)


def look(path):
    report = check_file(path)
    json.loads(format_report(report, "json"))
    return [format_report(report), format_report(report, "json"), *structural_problems(path)]


FUNCTIONS = (read, find, count, build, imitate, look)


def escapes(path, functions=FUNCTIONS):
    """What goes wrong: exceptions that are not ours, problems of several lines, text that cannot be shown."""
    wrong = []
    for function in functions:
        try:
            texts = function(path) or []
        except LtError as error:
            texts = error.problems
            wrong += [(function.__name__, "several lines", text) for text in texts if len(text.splitlines()) != 1]
        except Exception as error:
            wrong.append((function.__name__, type(error).__name__, str(error)[:200]))
            continue
        for text in texts:
            try:
                text.encode("utf-8")
            except UnicodeEncodeError:
                wrong.append((function.__name__, "cannot be shown", ascii(text)[:200]))
    return wrong


def refuses(function, path):
    try:
        return bool(function(path))
    except DataError:
        return True


def read_all(path):
    return len(read_annotations(path).boxes) < 0


def run_mutants(content, seeds, path):
    for seed in seeds:
        data, steps = mutant(content, seed)
        path.write_bytes(data)
        assert escapes(path) == [], f"seed {seed}: {steps}, the file is {path}"
        agree = refuses(read_all, path) == refuses(structural_problems, path)
        assert agree, f"seed {seed}: {steps}, reading and checking disagree on {path}"


CONTENTS = {"coco": coco_file, "lvis": lvis_file}


@pytest.mark.parametrize("name", CONTENTS)
def test_sound_files_work(tmp_path, name):
    path = save(CONTENTS[name](), tmp_path / "a.json")
    assert escapes(path) == []
    assert not refuses(read_all, path)
    assert {f.code for f in check_file(path).findings if f.severity != "info"} <= {"LT109", "LT207", "LT210", "LT216"}


@pytest.mark.parametrize("batch", [0, *(pytest.param(batch, marks=pytest.mark.slow) for batch in (1, 2, 3))])
@pytest.mark.parametrize("name", CONTENTS)
def test_damaged_files(tmp_path, name, batch):
    run_mutants(CONTENTS[name](), range(100 * batch, 100 * batch + 50), tmp_path / "a.json")


def test_damaged_real_file(tmp_path, shared_data):
    run_mutants(real_file(shared_data), range(20), tmp_path / "a.json")


@pytest.mark.slow
@pytest.mark.parametrize("batch", range(10))
@pytest.mark.parametrize("name", CONTENTS)
def test_many_damaged_files(tmp_path, name, batch):
    run_mutants(CONTENTS[name](), range(1000 * (batch + 1), 1000 * (batch + 1) + 400), tmp_path / "a.json")


@pytest.mark.slow
def test_many_damaged_real_files(tmp_path, shared_data):
    run_mutants(real_file(shared_data), range(1000, 2000), tmp_path / "a.json")


def placed(key, row, field, value):
    def make():
        content = coco_file()
        content[key][row][field] = value
        return as_json(content, ascii_only=False)

    return make


def in_text(old, new):
    return lambda: as_json(coco_file(), ascii_only=True).replace(old, new, 1)


# each of these is easily taken for impossible
ODD_FILES = {
    "huge width": placed("images", 0, "width", 2**70),
    "huge negative height": placed("images", 0, "height", -(2**70)),
    "huge instance_count": placed("categories", 0, "instance_count", 2**70),
    "huge image_count": placed("categories", 0, "image_count", -(2**70)),
    "huge image_id": placed("annotations", 0, "image_id", 2**70),
    "huge iscrowd": placed("annotations", 0, "iscrowd", 2**70),
    "URL that cannot be split": lambda: placed("images", 0, "coco_url", "http://[x")().replace(b'"file_name"', b'"x"'),
    "long file name": placed("images", 0, "file_name", "x" * 5000),
    "file name of two lines": placed("images", 0, "file_name", "a\nb"),
    "file name with NUL": placed("images", 0, "file_name", "a\0b"),
    "category name of two lines": placed("categories", 3, "name", "a\nb\u2028c"),
    "coordinate beyond floats": in_text(b"4.0, 2.0", b"1e999, 2.0"),
    "box beyond floats": in_text(b"3.0", b"1e999"),
    "number of 5000 digits": in_text(b"3.0", b"9" * 5000),
    "deep nesting": in_text(b'"info": ', b'"info": ' + b"[" * 5000 + b"]" * 5000 + b', "b": '),
    "deep nesting in a record": in_text(b"3.0", b"[" * 700 + b"]" * 700),
    "member that is not UTF-8": in_text(b'"info"', b'"inf\xff"'),
    "member of two lines": in_text(b'"images"', b'"ima\\nges"'),
    "name that is not UTF-8": in_text(b"category 1", b"category \xff"),
    "half a surrogate pair": in_text(b"category 1", b"\\ud800"),
    "byte order mark": in_text(b"{", b"\xef\xbb\xbf{"),
    "UTF-16": lambda: in_text(b"", b"")().decode().encode("utf-16"),
    "images twice": in_text(b'"images"', b'"images": [], "images"'),
}


@pytest.mark.parametrize("name", ODD_FILES)
def test_odd_files(tmp_path, name):
    path = tmp_path / "a.json"
    path.write_bytes(ODD_FILES[name]())
    assert escapes(path) == []
    assert refuses(read_all, path) == refuses(structural_problems, path)


def zipped(data, method=zipfile.ZIP_DEFLATED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        archive.writestr("a.json", data)
    return out.getvalue()


def encrypted(data):
    """Says that it is encrypted, in both of its headers."""
    archive = bytearray(zipped(data))
    archive[6] |= 1
    archive[archive.rindex(b"PK\x01\x02") + 8] |= 1
    return bytes(archive)


def damaged_archives():
    text = as_json(coco_file(), ascii_only=True)
    yield ".zip", encrypted(text)
    packed = [(".gz", gzip.compress(text, mtime=0))]
    packed += [(".zip", zipped(text, m)) for m in (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED, zipfile.ZIP_LZMA)]
    for suffix, whole in packed:
        for seed in range(60):
            draw, data = random.Random(seed), bytearray(whole)
            # half of them in the directory at the end
            start = len(data) - 120 if seed % 2 else 0
            part = data[start:]
            draw.choice(BYTES)(draw, part)
            yield suffix, bytes(data[:start] + part)


def test_damaged_archives(tmp_path):
    for number, (suffix, data) in enumerate(damaged_archives()):
        path = tmp_path / f"a.json{suffix}"
        path.write_bytes(data)
        assert escapes(path, (read, look)) == [], f"number {number}"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dataset")
    build_coco_lt(save(coco_file(), folder / "a.json"), folder / "lt", options=BuildOptions(on_shortage="cap"))
    return folder / "lt"


def test_damaged_groups_of_a_dataset_directory(dataset):
    path = dataset / "groups.json"
    whole = path.read_bytes()
    files = [b"[]", b"null", b"[" * 5000, b"9" * 5000, whole.replace(b"[\n    10", b"[1e999, 10")]
    files += [mutant(json.loads(whole), seed)[0] for seed in range(80)]
    try:
        for number, data in enumerate(files):
            path.write_bytes(data)
            assert escapes(dataset, (count,)) == [], f"number {number}"
    finally:
        path.write_bytes(whole)


def commands(path, sound, out):
    """Everything that can be typed with an annotation file, but for what draws pictures."""
    build = ("build-coco-lt", "--on-shortage", "cap")
    yield "group-stats", path
    yield "check", path, "--other", sound, "--images", path.parent
    yield "check", sound, "--other", path, "--format", "json"
    yield "repeat-factors", path, "--threshold", "0.5"
    yield "repeat-factors", path, "--instance-aware", "--rounding", "bags", "--out", out / "f.csv", "--force"
    yield "class-weights", path
    yield "diff", path, sound
    yield "diff", sound, path, "--format", "json"
    yield *build, "--coco", path, "--dry-run", "--surplus", "ignore", "--order", "fewest-images"
    yield *build, "--coco", sound, "--dry-run", "--lvis", path
    yield *build, "--coco", sound, "--dry-run", "--val", path


def pictures(path, sound, out):
    """What takes longer."""
    yield "build-coco-lt", "--on-shortage", "cap", "--coco", path, "--out", out / "lt", "--force", "--val", path
    yield "show", path, "--category", "1", "--images", path.parent, "--out", out / "show.png", "--force"
    yield "plot", path, "--kind", "counts", "--out", out / "plots", "--force"


def assert_reported(arguments, result):
    """Exit code 0 or 1, no traceback, each line of the error output by itself."""
    assert result.exception is None or isinstance(result.exception, SystemExit), (arguments, result.exception)
    assert result.exit_code in (0, 1), (arguments, result.stderr)
    for line in result.stderr.splitlines():
        known = line.startswith(("error: ", "warning: ", "note: lt-data mend "))
        assert known or line.endswith(" ..."), (arguments, line)


def run_commands(tmp_path, name, seeds, make):
    from lt_cli.data import main

    sound = save(coco_file(), tmp_path / "sound.json")
    path = tmp_path / "a.json"
    for seed in seeds:
        path.write_bytes(mutant(CONTENTS[name](), seed)[0])
        for arguments in make(path, sound, tmp_path):
            assert_reported((seed, *arguments), CliRunner().invoke(main, [str(a) for a in arguments]))


@pytest.mark.parametrize("name", CONTENTS)
def test_commands_report_damaged_files(tmp_path, name):
    run_commands(tmp_path, name, range(5000, 5015), commands)


@pytest.mark.slow
@pytest.mark.parametrize("name", CONTENTS)
def test_commands_report_many_damaged_files(tmp_path, name):
    run_commands(tmp_path, name, range(6000, 6500), commands)
    run_commands(tmp_path, name, range(7000, 7030), pictures)
