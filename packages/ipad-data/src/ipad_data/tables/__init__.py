"""Labels of photos as people keep them: tables of several formats, folders named after values, and files of boxes."""

from __future__ import annotations

from ipad_data.tables.boxes_file import add_boxes
from ipad_data.tables.kept_splits import KEPT_SPLITS, read_kept_splits, write_kept_splits
from ipad_data.tables.label_table import LabelTable, TableRow, join_tables
from ipad_data.tables.photo_search import PhotoFinder, where_else
from ipad_data.tables.table_rows import read_label_table
from ipad_data.tables.table_search import FoundTable, find_tables
from ipad_data.tables.value_folders import read_value_folders

__all__ = [
    "KEPT_SPLITS",
    "FoundTable",
    "LabelTable",
    "PhotoFinder",
    "TableRow",
    "add_boxes",
    "find_tables",
    "join_tables",
    "read_kept_splits",
    "read_label_table",
    "read_value_folders",
    "where_else",
    "write_kept_splits",
]
