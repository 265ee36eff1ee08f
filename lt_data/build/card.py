"""The README of a dataset directory: what it is, how it was made, its tables, its sources."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import urlsplit

import msgspec

from lt_data.annotations.file import AnnotationFile
from lt_data.annotations.records import UNREADABLE
from lt_data.build.lvis_fields import NOTHING_REWRITTEN
from lt_data.build.result import Build, left_over_counts, shortages, totals
from lt_data.counts.categories import CategoryCounts
from lt_data.dataset.names import ALIGNMENT_PLOT, ANNOTATIONS, BUILD, CATEGORIES, ENVIRONMENT, GROUPS, REPEAT_FACTORS
from lt_data.dataset.options import BuildOptions
from lt_data.errors import one_line
from lt_data.groups import names_sentence

Licences = Literal["coco", "listed", "nothing"]
# hosts that official files of COCO and LVIS name in their info
_COCO_HOSTS: Final = ("cocodataset.org", "mscoco.org", "lvisdataset.org")
_LICENCES: Final[dict[Licences, str]] = {
    "coco": ", of COCO by its member `info`: COCO and LVIS annotations are CC BY 4.0; each image has the licence that "
    "the member `licenses` names",
    "listed": ", which the member `licenses` lists",
    "nothing": ", which the file does not name: ask whoever made it",
}


class _Info(msgspec.Struct):
    url: str | None = None


@dataclass(frozen=True)
class CardFacts:
    """Everything that a card says; a finished build knows it, and so does the directory that it wrote.

    Attributes:
        pool: Base name of the pool.
        pool_sha256: Its digest.
        kind: What the targets came from.
        source: Name of that.
        val: Base name of the validation file, or ``None``.
        options: How it was built.
        total: Images, instances and categories.
        left_over: Surplus instances and crowds of taken images.
        groups: Name, number of categories and instances of each group.
        group_names: What their names mean.
        categories: Name, instances and images of each category, by rank.
        short: Categories whose target is beyond what the pool holds.
        unranked: Categories without an instance in the pool; they take no rank.
        rewritten: Whether LVIS fields say what the dataset holds, not what the pool said.
        licences: What the pool says of its licences, see :func:`stated_licences`.
    """

    pool: str
    pool_sha256: str
    kind: Literal["reference", "targets"]
    source: str
    val: str | None
    options: BuildOptions
    total: Mapping[str, int]
    left_over: tuple[int, int]
    groups: tuple[tuple[str, int, int], ...]
    group_names: str
    categories: tuple[tuple[str, int, int], ...]
    short: int
    unranked: int
    rewritten: bool
    licences: Licences


def stated_licences(file: AnnotationFile) -> Licences:
    """What a file says of its licences: that it is of COCO or LVIS, that it lists licences, or nothing.

    Args:
        file: The pool, or a dataset made from it, which has the same members ``info`` and ``licenses``.
    """
    if _url(file.members.get("info")).removeprefix("www.") in _COCO_HOSTS:
        return "coco"
    listed = file.members.get("licenses")
    return "nothing" if listed is None or bytes(listed).strip(b"[] \t\r\n") in (b"", b"null") else "listed"


def _url(info: msgspec.Raw | None) -> str:
    """The host of the ``url`` in a member ``info``; empty where there is none."""
    try:
        url = msgspec.json.decode(info or b"{}", type=_Info).url or ""
        return urlsplit(url if "//" in url else f"//{url}").hostname or ""
    # text that is no URL
    except (*UNREADABLE, ValueError):
        return ""


def data_card(build: Build, counts: CategoryCounts, licences: Licences) -> str:
    """The card of a finished build as Markdown.

    Args:
        build: What was chosen.
        counts: Realised counts of the written annotations.
        licences: What the written annotations say of their licences, which is what the pool says.
    """
    by_id = dict(zip(build.pool_counts.category_ids.tolist(), build.selection.instances.tolist(), strict=True))
    source = build.targets if build.targets is not None else build.reference
    assert source is not None
    facts = CardFacts(
        pool=build.pool.path.name,
        pool_sha256=build.pool.sha256,
        kind="reference" if build.targets is None else "targets",
        source=source.name,
        val=None if build.val is None else build.val.path.name,
        options=build.options,
        total=totals(build),
        left_over=left_over_counts(build),
        groups=tuple((g.name, len(g.category_ids), sum(by_id[c] for c in g.category_ids)) for g in build.groups),
        group_names=names_sentence([group.name for group in build.groups]),
        categories=tuple(
            (counts.names[row], int(counts.instances[row]), int(counts.images[row]))
            for row in build.alignment.order[: build.alignment.ranked].tolist()
        ),
        short=len(shortages(build.pool_counts, build.alignment)),
        unranked=len(build.alignment.order) - build.alignment.ranked,
        rewritten=build.rewritten != NOTHING_REWRITTEN,
        licences=licences,
    )
    return render_card(facts)


def render_card(facts: CardFacts) -> str:
    """The card as Markdown."""
    total, (surplus, crowds) = facts.total, facts.left_over
    fate = "dropped" if facts.options.surplus == "drop" else "kept as `iscrowd: 1` regions that training ignores"
    parts = [
        f"# Long-tailed subset of {one_line(facts.pool)}",
        f"{total['images']:,} images, {total['instances']:,} instances, {total['categories']} categories; "
        f"{facts.kind} {one_line(facts.source)}. {surplus:,} surplus instances and {crowds:,} crowds of these images "
        f"are {fate}.",
        f"Made with (the words as typed, with paths, stand in `{ENVIRONMENT}`):",
        f"    {one_line(command(facts))}",
        _identity_note(facts),
        "## Groups by training instances",
        _group_table(facts),
        "## Most and least frequent categories",
        _category_table(facts),
        "Fields of LVIS are rewritten to what this set holds: `frequency`, `image_count` and `instance_count` of the "
        "categories, and `not_exhaustive_category_ids` of images that lost surplus."
        if facts.rewritten
        else "",
        f"![Instances of the pool, the reference and the targets]({ALIGNMENT_PLOT})",
        "## Files",
        f"`{ANNOTATIONS}` (COCO JSON), `{CATEGORIES}`, `{GROUPS}`, `{REPEAT_FACTORS}`, "
        f"`{BUILD}` (inputs, rule, digests), `{ENVIRONMENT}`. `lt-data verify` recomputes every figure of "
        "the data files.",
        "## Sources and licences",
        f"Annotations and images are those of the pool ({one_line(facts.pool)}, sha256 {facts.pool_sha256}) and stay "
        f"under its licences{_LICENCES[facts.licences]}. Long-tail recipe: Li et al., Balanced Group Softmax, CVPR "
        "2020, supplement 4.1.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def command(facts: CardFacts) -> str:
    """The command that makes the same files from the same inputs."""
    options = facts.options
    words = ["lt-data", "build-coco-lt", "--coco", facts.pool, "--out", "OUT", f"--{facts.kind}", facts.source]
    words += ["--seed", str(options.seed), "--scale", options.scale]
    words += ["--groups", ",".join(map(str, options.edges)), "--threshold", str(float(options.threshold))]
    words += ["--on-shortage", options.on_shortage, "--surplus", options.surplus, "--order", options.order]
    words += ["--val", facts.val] if facts.val is not None else []
    return shlex.join(words)


def _identity_note(facts: CardFacts) -> str:
    if (facts.kind, facts.source) == ("targets", "simcal"):
        return (
            "This is the set called COCO-LT in SimCal (666,493 instances, crowds counted). It is **not** the 64,504 "
            "instance set of the BAGS supplement; figures of the two cannot be compared."
        )
    if facts.total["instances"] == 64_504 and (facts.kind, facts.source) == ("reference", "lvis-v0.5"):
        return (
            "These are the 64,504 instances over 80 categories that the BAGS supplement publishes for COCO-LT. It is "
            "**not** the set of the same name in SimCal (666,493 instances)."
        )
    return ""


def _group_table(facts: CardFacts) -> str:
    lines = ["| group | categories | instances |", "|---|---|---|"]
    lines += [f"| {name} | {categories} | {instances:,} |" for name, categories, instances in facts.groups]
    notes = [
        f"A bound belongs to the group above it: {facts.group_names}." if facts.group_names else "",
        f"{facts.short} categories are below their target: the pool has no more." if facts.short else "",
        f"{facts.unranked} categories have no instance in the pool and take no rank." if facts.unranked else "",
    ]
    return "\n\n".join(["\n".join(lines), *(note for note in notes if note)])


def _category_table(facts: CardFacts, most: int = 5) -> str:
    """The first and the last few ranks."""
    ranked = list(enumerate(facts.categories, start=1))
    shown = ranked if len(ranked) <= 2 * most else ranked[:most] + ranked[-most:]
    lines = ["| rank | category | instances | images |", "|---|---|---|---|"]
    lines += [f"| {rank} | {_cell(name)} | {instances:,} | {images:,} |" for rank, (name, instances, images) in shown]
    return "\n".join(lines)


def _cell(name: str) -> str:
    """A name within a table: a line break or a bar would end the cell."""
    return one_line(name).replace("|", r"\|")
