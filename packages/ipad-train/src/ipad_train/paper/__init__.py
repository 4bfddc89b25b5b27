"""What the paper reports, to stand beside what is measured here."""

from ipad_train.paper.results import paper_ablation, paper_row

__all__ = ["paper_ablation", "paper_row"]
