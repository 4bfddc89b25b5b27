"""Several networks on one dataset, from one start, in one table: what the quickstart runs."""

from ipad_train.comparison.compare import compare, compare_seeds
from ipad_train.comparison.plan import ComparisonPlan

__all__ = ["ComparisonPlan", "compare", "compare_seeds"]
