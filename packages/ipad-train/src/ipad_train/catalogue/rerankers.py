"""Which re-ranker a search is asked for: the run's own, a saved one, or one by name."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from ipad_rerank import CandidateReranker, load
from ipad_rerank.rerankers.registry import RERANKERS
from ipad_train.catalogue.errors import CatalogueError

RUNS_OWN = "run"
_NAMES = [name for name in RERANKERS if name != "database_augmentation"]  # that one moves the whole collection


def available_rerankers(model_folder: Path) -> list[str]:
    """Names that :func:`find_reranker` knows, the run's own first where it has one."""
    return [RUNS_OWN] * (reasoner_folder(model_folder) is not None) + _NAMES


def reasoner_folder(model_folder: Path) -> Path | None:
    """The folder of the re-ranker that a run fitted beside its model, where there is one."""
    folder = model_folder.parent / "reasoner"
    return folder if (folder / "config.json").is_file() else None


def find_reranker(name: str, model_folder: Path, folders: bool = True) -> CandidateReranker:
    """A re-ranker: ``run`` for the run's own, a name of ipad-rerank, or a folder where ``folders`` allows that.

    Raises:
        CatalogueError: none of these.
        ValueError, FileNotFoundError: a folder that holds no re-ranker.
    """
    if name == RUNS_OWN:
        folder = reasoner_folder(model_folder)
        if folder is None:
            raise CatalogueError(
                "this model's run kept no re-ranker of its own (none was fitted, or it did not raise the validation MAP); "
                f"choose one of: {', '.join(_NAMES)}"
            )
        return load(folder)
    if name in _NAMES:
        return RERANKERS[name]()
    if folders and Path(name).is_dir():
        return load(name)
    near = get_close_matches(name, _NAMES) or available_rerankers(model_folder)
    raise CatalogueError(f"no re-ranker {name[:80]!r}; did you mean one of: {', '.join(near)}?")
