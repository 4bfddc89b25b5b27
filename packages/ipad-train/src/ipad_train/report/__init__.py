"""The report of a run: one HTML page to look at."""

from __future__ import annotations

from ipad_train.report.page import write_report

__all__ = ["write_report"]
