"""Stateless samplers: the plan of a batch is a pure function of (seed, epoch, step, rank)."""

from __future__ import annotations

from ipad_data.samplers.balanced import BalancedSampler
from ipad_data.samplers.dense import DenseSampler
from ipad_data.samplers.entry_table import EntryTable
from ipad_data.samplers.evaluation import EvaluationPlans
from ipad_data.samplers.plan import BatchPlan, EndlessPlans, PlanSampler, plans
from ipad_data.samplers.triplet import TripletSampler

__all__ = [
    "BalancedSampler",
    "BatchPlan",
    "DenseSampler",
    "EndlessPlans",
    "EntryTable",
    "EvaluationPlans",
    "PlanSampler",
    "TripletSampler",
    "plans",
]
