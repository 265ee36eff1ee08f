"""Long-tailed detection datasets: build, count, group, check.

These are the public names; importing the package loads none of them before it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lt_data.lazy import lazily

if TYPE_CHECKING:
    from lt_data.annotations.file import AnnotationFile as AnnotationFile
    from lt_data.annotations.file import read_annotations as read_annotations
    from lt_data.annotations.problems import CheckReport as CheckReport
    from lt_data.annotations.subset import write_subset as write_subset
    from lt_data.build.coco_lt import build_coco_lt as build_coco_lt
    from lt_data.build.references import load_reference as load_reference
    from lt_data.build.result import Extras as Extras
    from lt_data.checks.check import check_file as check_file
    from lt_data.counts.categories import CategoryCounts as CategoryCounts
    from lt_data.counts.categories import count_categories as count_categories
    from lt_data.counts.categories import embedded_reference as embedded_reference
    from lt_data.counts.class_weights import class_weights as class_weights
    from lt_data.counts.group_stats import GroupStats as GroupStats
    from lt_data.counts.group_stats import group_stats as group_stats
    from lt_data.counts.repeat_factor_table import repeat_factor_table as repeat_factor_table
    from lt_data.counts.repeat_factors import category_repeat_factors as category_repeat_factors
    from lt_data.counts.repeat_factors import image_repeat_factors as image_repeat_factors
    from lt_data.dataset.directory import read_groups as read_groups
    from lt_data.dataset.options import BuildOptions as BuildOptions
    from lt_data.errors import DataError as DataError
    from lt_data.errors import LtError as LtError
    from lt_data.errors import OutputError as OutputError
    from lt_data.errors import RecipeError as RecipeError
    from lt_data.filtering.filter import FilterReport as FilterReport
    from lt_data.filtering.filter import filter_annotations as filter_annotations
    from lt_data.filtering.options import FilterOptions as FilterOptions
    from lt_data.groups import Group as Group
    from lt_data.groups import make_groups as make_groups
    from lt_data.importing.convert import import_annotations as import_annotations
    from lt_data.importing.options import ImportOptions as ImportOptions
    from lt_data.mending.mend import mend as mend
    from lt_data.mending.result import MendReport as MendReport
    from lt_data.merging.merge import merge as merge
    from lt_data.merging.result import MergeReport as MergeReport
    from lt_data.splitting.options import SplitOptions as SplitOptions
    from lt_data.splitting.split import split_annotations as split_annotations
    from lt_data.synthetic.pool import write_pool as write_pool
    from lt_data.verify.diff import diff_datasets as diff_datasets
    from lt_data.verify.verify import verify_directory as verify_directory

__version__ = "0.1.0"

# where each name is defined, which is imported when somebody asks for it
_HOMES = {
    "AnnotationFile": "lt_data.annotations.file",
    "BuildOptions": "lt_data.dataset.options",
    "CategoryCounts": "lt_data.counts.categories",
    "CheckReport": "lt_data.annotations.problems",
    "DataError": "lt_data.errors",
    "Extras": "lt_data.build.result",
    "FilterOptions": "lt_data.filtering.options",
    "FilterReport": "lt_data.filtering.filter",
    "Group": "lt_data.groups",
    "GroupStats": "lt_data.counts.group_stats",
    "ImportOptions": "lt_data.importing.options",
    "LtError": "lt_data.errors",
    "MendReport": "lt_data.mending.result",
    "MergeReport": "lt_data.merging.result",
    "OutputError": "lt_data.errors",
    "RecipeError": "lt_data.errors",
    "SplitOptions": "lt_data.splitting.options",
    "build_coco_lt": "lt_data.build.coco_lt",
    "category_repeat_factors": "lt_data.counts.repeat_factors",
    "check_file": "lt_data.checks.check",
    "class_weights": "lt_data.counts.class_weights",
    "count_categories": "lt_data.counts.categories",
    "diff_datasets": "lt_data.verify.diff",
    "embedded_reference": "lt_data.counts.categories",
    "filter_annotations": "lt_data.filtering.filter",
    "group_stats": "lt_data.counts.group_stats",
    "image_repeat_factors": "lt_data.counts.repeat_factors",
    "import_annotations": "lt_data.importing.convert",
    "load_reference": "lt_data.build.references",
    "make_groups": "lt_data.groups",
    "mend": "lt_data.mending.mend",
    "merge": "lt_data.merging.merge",
    "read_annotations": "lt_data.annotations.file",
    "read_groups": "lt_data.dataset.directory",
    "repeat_factor_table": "lt_data.counts.repeat_factor_table",
    "split_annotations": "lt_data.splitting.split",
    "verify_directory": "lt_data.verify.verify",
    "write_pool": "lt_data.synthetic.pool",
    "write_subset": "lt_data.annotations.subset",
}
__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    return lazily(__name__, name, _HOMES)


def __dir__() -> list[str]:
    return sorted(__all__)
