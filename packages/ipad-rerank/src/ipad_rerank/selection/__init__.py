"""Choose a re-ranker on labelled data: settings of one, or one among all."""

from ipad_rerank.files.retrievals import split_roles
from ipad_rerank.selection.compare import compare
from ipad_rerank.selection.table import Comparison
from ipad_rerank.selection.tune import TunedResult, tune

__all__ = ["Comparison", "TunedResult", "compare", "split_roles", "tune"]
