"""What the documentation of methods and training tells people to type: every command line and KEY=VALUE is read."""

import csv
import re
import shlex
from pathlib import Path
from typing import Literal, get_args, get_origin

import click
import pytest
import yaml
from lt_cli.data import main as lt_data
from lt_cli.train import main as lt_train

from lt_data.errors import RecipeError
from lt_train.engine.calibration_search import parse_search
from lt_train.heads.shared.classifier_options import ClassifierOptions
from lt_train.options.section import sections_of
from lt_train.recipe.load import load_recipe, make_recipe, recipe_names
from lt_train.recipe.method import VARIANTS
from lt_train.recipe.methods import METHODS, MODEL, POST_HOC
from lt_train.recipe.options import NAMED
from lt_train.recipe.sections import Recipe
from lt_train.report.methods import _published_rows

DOCS = Path(__file__).resolve().parents[3] / "docs"
BASE = "faster_rcnn_r50_fpn_lvis_v0.5"
PAGES = ("methods", "more-methods", "training", "strong-models")
TEXTS = {name: (DOCS / f"{name}.md").read_text(encoding="utf-8") for name in PAGES}
# what stands for something of the reader's own
PLACEHOLDERS = ("RECIPE", "RUN", "OUT", "...", "[KEY=VALUE]...", "KEY=VALUE")

# looks like a part of a recipe, and is none
OTHERS = ("weights_only=True", "train.log", "data.json")


def spans(text):
    """Code in a line of text, with the lines of a wrapped paragraph joined."""
    found = [span.replace("\n", " ") for span in re.findall(r"`([^`]+)`", text)]
    return [span for span in found if span not in OTHERS]


def commands():
    """Every command line, in blocks and in text."""
    for name, text in TEXTS.items():
        blocks = re.findall(r"^    (lt-(?:train|data) .*)$", text, re.MULTILINE)
        for line in (*blocks, *(span for span in spans(text) if re.match(r"lt-(train|data) ", span))):
            yield pytest.param(line, id=f"{name}: {line}")


def overrides():
    """Every stretch of code that is nothing but KEY=VALUE."""
    for name, text in TEXTS.items():
        for span in spans(text):
            words = span.split(" ")
            if all(re.fullmatch(r"[a-z_.]+=\S+", word) for word in words):
                yield pytest.param(words, id=f"{name}: {span}")


def keys():
    """Every dotted key of a recipe that is named."""
    found = {key for text in TEXTS.values() for span in spans(text) for key in re.findall(r"^[a-z_]+\.[a-z_]+\b", span)}
    return sorted(key for key in found if key.partition(".")[0] in Recipe.model_fields)


def checked(command, words):
    """The context of a command line, parsed as when it is typed; nothing is run."""
    name, *arguments = words
    assert name in command.commands, name
    chosen = command.commands[name]
    if isinstance(chosen, click.Group):
        return checked(chosen, arguments)
    # a command that is named alone says no arguments
    return chosen.make_context(name, arguments) if arguments else None


@pytest.mark.parametrize("line", [*commands()])
def test_command_lines_can_be_typed(line):
    program, *words = shlex.split(line)
    context = checked(lt_train if program == "lt-train" else lt_data, words)
    if context is None:
        return
    given = context.params
    assert not given.get("overrides") or "recipe" in given or "run" in given
    if "recipe" in given:
        source = given["recipe"] if given["recipe"] in recipe_names() else BASE
        assert given["recipe"] in (*recipe_names(), *PLACEHOLDERS) or given["recipe"].endswith(
            ("recipe.yaml", "my.yaml")
        )
        load_recipe(source, [text for text in given["overrides"] if text not in PLACEHOLDERS])
    if given.get("searched"):
        parse_search(given["searched"])
    if given.get("method") and "recipe" in given:
        load_recipe(BASE, [f"method={given['method']}"])
    elif given.get("method") and program == "lt-train":
        assert METHODS[given["method"]].equal["calibration"]["name"] != "none"


def fits_some_method(words):
    """Whether overrides are allowed beside one method at least: an option may belong to one head alone."""
    problems = []
    for method in METHODS:
        try:
            return load_recipe(BASE, [f"method={method}", *words])
        except RecipeError as error:
            problems.append(str(error))
    raise AssertionError(problems[0])


@pytest.mark.parametrize("words", [*overrides()])
def test_overrides_can_be_typed(words):
    recipe = fits_some_method(words).to_plain()
    for word in words:
        key, _, value = word.partition("=")
        have = recipe
        for part in key.split("."):
            have = have[part]
        wanted = yaml.safe_load(value)
        # a list may be typed without its brackets
        assert (have["name"] if key in NAMED else have) in (wanted, yaml.safe_load(f"[{value}]")), word


@pytest.mark.parametrize("key", keys())
def test_keys_exist(key):
    section, _, option = key.partition(".")
    kinds = [*sections_of(NAMED[section]).values()] if section in NAMED else [Recipe.model_fields[section].annotation]
    assert any(option in kind.model_fields for kind in kinds)


def test_searches_in_the_text_can_be_typed():
    found = re.findall(r"--search ([^\s`]+)", TEXTS["methods"])
    assert len(found) >= 3
    assert all(parse_search(text)[1] for text in found)


def test_the_tests_above_found_what_there_is():
    """An expression that finds nothing would pass."""
    assert len(list(commands())) >= 20
    typed = [" ".join(param.values[0]) for param in overrides()]
    assert "method=reweight-cls variant=text head.beta=1" in typed
    assert {"head.others_ratio", "calibration.tau", "data.classes_below", "schedule.epoch"} <= set(keys())


@pytest.mark.parametrize("method", METHODS)
def test_published_figures_are_those_of_the_tables(method):
    """The table and the section of a method name the box AP that `lt-train methods` prints."""
    rows = [r for r in _published_rows() if r["method"] == METHODS[method].published and r["model"] == MODEL]
    figures = [r["AP"] for r in rows if r["dataset"] == "lvis-v0.5" and r["iou_type"] == "bbox"]
    (line,) = (text for text in TEXTS["methods"].split("\n## ")[0].splitlines() if f"| `{method}` |" in text)
    assert line.split("|")[-2].strip() == (figures[0] if figures else "-")
    sections = TEXTS["methods"].split("\n## ")
    assert not figures or sum(figures[0] in section for section in sections) >= 2


ABOUT_METHODS = f"{TEXTS['methods']}\n{TEXTS['more-methods']}"


TITLES = re.findall(r"^## (.* \(.*\)|Class-aware sampling)$", TEXTS["methods"], re.MULTILINE)
# that one has four methods, each with a part of its own
TITLES += re.findall(r"^## (?!Other logits)(.*)$", TEXTS["more-methods"], re.MULTILINE)


@pytest.mark.parametrize("title", TITLES)
def test_every_section_says_everything(title):
    """The idea, the formula, the options, the source, what was published and when to use it."""
    section = ABOUT_METHODS.split(f"\n## {title}\n")[1].split("\n## ")[0]
    for part in ("**Options**:", "**Source**:", "**Published**", "**When to use**:"):
        assert section.count(part) == 1, part
    idea, formula, _ = section.strip().split("\n\n", 2)
    assert len(re.findall(r"[.:;](?:\s|\*|$)", idea)) >= 3
    assert all(line.startswith("    ") for line in formula.splitlines())


BOUNDS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}


def allowed(field):
    """What values a field takes, from its type and its bounds."""
    if get_origin(field.annotation) is Literal:
        return ", ".join(get_args(field.annotation))
    bounds = [
        f"{sign} {getattr(part, key)}" for part in field.metadata for key, sign in BOUNDS.items() if hasattr(part, key)
    ]
    kinds = {bool: "true, false", Path | None: "file"}
    return " and ".join(bounds) or kinds.get(field.annotation, "list")


def option_rows():
    """A row for each option of each head, sampler and calibration; what all heads share comes once."""
    for key, field in ClassifierOptions.model_fields.items():
        yield option_row("head", key, "every head", field)
    for section, union in NAMED.items():
        for name, kind in sections_of(union).items():
            for key, field in kind.model_fields.items():
                if key != "name" and not (section == "head" and key in ClassifierOptions.model_fields):
                    yield option_row(section, key, name, field)


def option_row(section, key, name, field):
    default = yaml.safe_dump(field.default).split("\n")[0]
    return f"| `{section}.{key}` | {name} | {default} | {allowed(field)} | {field.description} |"


def test_the_table_of_options_is_that_of_the_sections():
    table = TEXTS["methods"].split("\n## All options\n")[1].split("\n## ")[0]
    assert [line for line in table.splitlines() if line.startswith("| `")] == [*option_rows()]


def test_calibrate_names_its_methods():
    (option,) = (param for param in lt_train.commands["calibrate"].params if param.name == "method")
    assert re.split(r", | or ", option.help.removesuffix(".")) == list(POST_HOC)


def settings_of(method, variant, masks):
    """Dotted keys and values of a recipe in which nothing is chosen but method, variant and detector."""
    kind = "mask" if masks else "faster"
    files = {"data": {"train": {"annotations": "a.json", "images": "i"}}, "model": {"name": f"{kind}_rcnn_r50_fpn"}}
    return dict(leaves(make_recipe(files, [f"method={method}", f"variant={variant}"]).to_plain()))


def leaves(content, prefix=""):
    for key, value in content.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def variant_rows():
    """A row for each key that a variant fills otherwise, with the methods that it is so for."""
    methods = {}
    for method in METHODS:
        for masks in (False, True):
            found = [settings_of(method, variant, masks) for variant in VARIANTS]
            for key in found[0]:
                values = tuple(spelled(settings[key]) for settings in found)
                if key != "variant" and len(set(values)) > 1:
                    methods.setdefault((key, values), {}).setdefault(method, []).append(masks)
    for (key, values), of in methods.items():
        kinds = {tuple(masks) for masks in of.values()}
        for kind in sorted(kinds, key=len, reverse=True):
            names = [method for method, masks in of.items() if tuple(masks) == kind]
            few = names if len(names) <= 5 else [method for method in METHODS if method not in names]
            shown = "all but " * (few is not names) + ", ".join(f"`{name}`" for name in few)
            with_masks = {(False, True): "", (False,): " without masks", (True,): " with masks"}[kind]
            yield f"| {shown}{with_masks} | `{key}` | {' | '.join(values)} |"


def spelled(value):
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def test_the_table_of_variants_is_what_they_fill():
    table = TEXTS["methods"].split("\n## Variants\n")[1].split("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ") and not line.startswith("| method")]
    assert rows == [*variant_rows()]


FIGURE_1 = Path(__file__).resolve().parents[3] / "lt_train" / "evaluation" / "published" / "figure_1.csv"


def test_the_settings_of_figure_1_are_those_of_the_table_and_can_be_typed():
    rows = list(csv.DictReader(FIGURE_1.open(encoding="utf-8", newline="")))
    for row in rows:
        recipe = load_recipe(BASE, [f"method={row['method']}", *row["overrides"].split()])
        head = recipe.head
        assert recipe.train == "classifier"
        assert head.name == {"softmax": "reweight", "focal": "focal"}[row["loss"]]
        assert (head.weighting, head.beta) == ("effective-number", float(row["beta"]))
        caps = "none" if head.lower is None and head.upper is None else f"{head.lower:g} to {head.upper:g}"
        assert caps == row["caps"]
        counted = head.background_ratio is not None
        assert (f"{head.background_ratio:g} x all instances" if counted else f"{head.background:g}") == row[
            "background"
        ]
        assert not row["gamma"] or head.gamma == float(row["gamma"])
        cells = (row["loss"], row["beta"], row["gamma"] or "-", row["caps"], row["background"], row["AP"] or "-")
        assert f"| {' | '.join(cells)} | `method={row['method']} {row['overrides']}` |" in TEXTS["methods"]
    printed = {row["AP"] for row in rows if row["AP"]}
    assert printed == {r["AP"] for r in _published_rows() if r["table"] == "supplement figure 1"} == {"14.57", "23.07"}
    assert len({row["overrides"] + row["method"] for row in rows}) == len(rows) == 9
