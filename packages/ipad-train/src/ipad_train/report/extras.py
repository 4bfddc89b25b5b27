"""The libraries of the extra ``ipad-train[report]``, imported when a report is written."""

from __future__ import annotations

from functools import partial

from ipad_train import extras

require = partial(extras.require, extra="report")
