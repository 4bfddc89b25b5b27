"""The ablations of section 4.3: what each part of IPAD adds, as runs of one configuration."""

from ipad_train.ablation.ablate import ablate

__all__ = ["ablate"]
