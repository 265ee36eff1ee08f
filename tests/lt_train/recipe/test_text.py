"""Recipes that are bombs or no recipes: one short line each, at once."""

import random
import time
from importlib import resources

import pytest
import yaml

from lt_data.errors import RecipeError
from lt_train.recipe.load import load_recipe, make_recipe, recipe_names
from lt_train.recipe.text import DEEPEST, MOST_CHARACTERS, parse_yaml

LONGEST_LINE = 700
LONGEST_SECONDS = 10


def refusal(text):
    """The line that refuses a text, which says so at once."""
    start = time.monotonic()
    with pytest.raises(RecipeError) as error:
        parse_yaml(text, "x.yaml")
    (line,) = error.value.problems
    assert line.startswith("x.yaml: ")
    assert len(line) < LONGEST_LINE
    assert time.monotonic() - start < LONGEST_SECONDS
    return line.removeprefix("x.yaml: ")


def doubling(link):
    """A text in which every line has the one before several times."""
    return "a0: &a0 {k: 1}\n" + "".join(f"a{i}: &a{i} {link.format(f'a{i - 1}')}\n" for i in range(1, 40))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (doubling("[*{0}, *{0}, *{0}]"), "got more than 50,000 values, aliases counted"),
        (doubling("{{<<: [*{0}, *{0}, *{0}]}}"), "got more than 50,000 values, aliases counted"),
        ("a: &a [*a]", "line 1, column 8: got a value that holds itself; write it out"),
        ("a: &a {<<: *a}", "got a value that holds itself"),
        ("[" * 100_000, "nested deeper than 20 levels"),
        ("- " * 100_000, "nested deeper than 20 levels"),
        ("{a: " * 10_000, "nested deeper than 20 levels"),
        ("a" * (MOST_CHARACTERS + 1), "longer than 262,144 characters"),
        ("a: !!int foo", "got the tag '!!int'; write the value without it, text in quotes"),
        ("a: !!python/object/apply:os.system [ls]", "got the tag '!!python/object/apply:os.system'"),
        ("a: !!binary aGVsbG8=", "got the tag '!!binary'"),
        ("a: !" + "x" * 100_000 + " 1", "got the tag '!xxx"),
        ("a: 1\nb: 2\na: 3", "line 3, column 1: got the key 'a' a second time; keep one"),
        ("a: {b: 1, b: 1}", "got the key 'b' a second time"),
        ("1: 2", "got '1' as a key; keys are names"),
        ("~: 2", "got '~' as a key"),
        ("yes: 2", "got 'yes' as a key"),
        ("? [a, b]\n: 2", "got a sequence as a key"),
        ("a: " + "9" * 400, "got a number of 400 digits; write one of at most 18, or text in quotes"),
        ("a: " + "9" * 5000, "got a number of 5000 digits"),
        ('a: "b\\0c"', "got text with a character that no file can hold"),
        ('a: "\\ud800"', "got text with a character that no file can hold"),
        ("a: b\0c", "not YAML (unacceptable character #x0000"),
        ("a: *" + "b" * 10_000, "not YAML (line 1, column 4: found undefined alias"),
        ("a: [1", "not YAML (line 1, column 6: "),
        ("<<: 3", "not YAML (line 1, column 5: expected a mapping or list of mappings for merging"),
        ("a: 1\n---\nb: 2", "not YAML (line 2, column 1: but found another document)"),
    ],
)
def test_what_is_refused(text, says):
    assert says in refusal(text)


def test_what_is_taken():
    text = "a: &a {lr: 1e-4, n: 10_000, on: .inf}\nb: {<<: *a, n: -3}\nc: [yes, ~, 1.5e3, .5, 08, 1:30, 2020-01-01]"
    with pytest.raises(RecipeError, match="'on' as a key"):
        parse_yaml(text, "x")
    plain = {"lr": 1e-4, "n": 10_000, "o": float("inf")}
    assert parse_yaml(text.replace("on:", "o:"), "x") == {
        "a": plain,
        "b": {**plain, "n": -3},
        "c": [True, None, 1500.0, 0.5, "08", "1:30", "2020-01-01"],
    }
    assert parse_yaml("[" * DEEPEST + "]" * DEEPEST, "x") is not None


@pytest.mark.parametrize(
    "value",
    [1e-05, 1e22, 123456789.5, 5, -5, True, None, "1:30", "2020-01-01", "010", "1e3.json", "no", "~", "a: b", ""],
)
def test_what_a_run_writes_is_read_again(value):
    assert parse_yaml(yaml.safe_dump({"a": [value]}), "x") == {"a": [value]}


def test_a_file_without_an_end_is_refused():
    with pytest.raises(RecipeError, match="longer than 262,144 characters|not YAML"):
        load_recipe("/dev/zero")


def test_long_names_and_values_are_cut():
    for override in (
        "x" * 9000,
        "x" * 9000 + "=1",
        f"seed={'x' * 9000}",
        f"method={'x' * 9000}",
        f"optim.lr.{'x' * 999}=1",
    ):
        with pytest.raises(RecipeError) as error:
            load_recipe("quickstart", [override])
        assert max(map(len, error.value.problems)) < LONGEST_LINE
    with pytest.raises(RecipeError) as error:
        load_recipe("x" * 9000)
    assert max(map(len, error.value.problems)) < LONGEST_LINE


# what people and machines put where something else belongs
ODD = [
    *("!!int foo", "!!float x", "!!timestamp 2020-01-01", "!!set {a}", "2020-01-01", "1:30", "true", "off", "~", "''"),
    *("-1", "0", "1e400", "-.inf", ".nan", "9" * 19, "9" * 5000, "0x10", "010", "'1'", "1_000", "*x", "&x 1", "[[1]]"),
    *(
        "{a: 1}",
        "{1: 2}",
        "[]",
        "{}",
        '"a\\0b"',
        '"\\ud800"',
        "x" * 5000,
        "[" * 50,
        "{" * 50,
        "|",
        ">",
        "- 1",
        "%",
        "@",
    ),
    *("?", ": 1", "<<: 1", "{<<: {a: 1}}", "[true]", "[~]", "- [a\n  b]", "10,5", "bags", "\t1", "#", "'", '"', "`"),
]


def mutated(text, chance):
    """A recipe's text with one to three things wrong that may happen to a file."""
    for _ in range(chance.randint(1, 3)):
        lines = text.splitlines()
        row = chance.randrange(len(lines)) if lines else 0
        where = chance.randrange(len(text) + 1)
        kind = chance.randrange(9)
        if kind <= 3 and lines and ":" in lines[row]:
            lines[row] = f"{lines[row].partition(':')[0]}: {chance.choice(ODD)}"
        elif kind == 4:
            lines[row:row] = lines[row : row + chance.randint(1, 5)]
        elif kind == 5:
            lines[row : row + 1] = []
        elif kind == 6 and lines:
            lines[row] = " " * chance.randint(0, 4) + lines[row].strip()
        elif kind == 7:
            lines = [text[:where] + chance.choice(ODD) + text[where:]]
        else:
            lines = [text[:where] + text[where + chance.randint(1, 40) :]]
        text = "\n".join(lines)
    return text


def check_mutations(number, seed, path):
    """A mutated recipe is a recipe or is refused in short lines, quickly; both happen."""
    chance, good = random.Random(seed), 0
    for _ in range(number):
        shipped = resources.files("lt_train.recipes").joinpath(f"{chance.choice(recipe_names())}.yaml")
        path.write_text(mutated(shipped.read_text(encoding="utf-8"), chance), encoding="utf-8")
        key = chance.choice(("seed", "optim", "data.groups", "head", "model.min_size", "a.b"))
        overrides = [f"{key}={chance.choice(ODD)}"] if chance.random() < 0.2 else []
        start, problems = time.monotonic(), []
        try:
            recipe = load_recipe(path, overrides)
            assert make_recipe(parse_yaml(yaml.safe_dump(recipe.to_plain()), "written")) == recipe
            good += 1
        except RecipeError as error:
            problems = error.problems
        assert len(problems) < 25
        assert max(map(len, problems), default=0) < LONGEST_LINE, (problems, path.read_text())
        assert time.monotonic() - start < LONGEST_SECONDS, path.read_text()
    assert number // 20 < good < number


def test_mutated_recipes(tmp_path):
    check_mutations(60, 0, tmp_path / "mutated.yaml")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 9))
def test_many_mutated_recipes(tmp_path, seed):
    check_mutations(300, seed, tmp_path / "mutated.yaml")
