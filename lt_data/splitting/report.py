"""What a split holds, as text or JSON."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Final

from lt_data.splitting.result import SplitRecord
from lt_data.text_tables import table

_MOST_NAMES: Final = 6


def format_split(record: SplitRecord, style: str = "table") -> str:
    """The sides of a split for people, or the content of ``split.json``.

    Args:
        record: What a split holds.
        style: ``table`` or ``json``.
    """
    if style == "json":
        return json.dumps(record.content(), indent=2, ensure_ascii=False)
    rows = [["side", "images", "share", "no objects", "instances", "crowds", "categories"]]
    rows += [
        [
            side.name,
            f"{side.images:,}",
            f"{side.share:.1%}",
            f"{side.images_without_instances:,}",
            f"{side.instances:,}",
            f"{side.crowds:,}",
            f"{side.categories:,}",
        ]
        for side in record.sides
    ]
    return "\n".join([table(rows), "", *_lacking_lines(record)])


def _lacking_lines(record: SplitRecord) -> list[str]:
    """Which categories are not on all sides, one line a reason."""
    both = "both" if len(record.sides) == 2 else f"all {len(record.sides)}"
    if not record.not_on_all_sides:
        return [f"all {len(record.categories):,} categories are on {both} sides"]
    by_why = defaultdict(list)
    for each in record.not_on_all_sides:
        by_why[each.why].append(each.name)
    count = len(record.categories) - len(record.not_on_all_sides)
    lines = [f"{count:,} of {len(record.categories):,} categories are on {both} sides; not these (all in split.json):"]
    for why, names in by_why.items():
        more = ", ..." if len(names) > _MOST_NAMES else ""
        lines.append(f"  {len(names):,} ({why}): {', '.join(names[:_MOST_NAMES])}{more}")
    return lines
