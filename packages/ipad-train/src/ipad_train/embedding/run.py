"""``ipad-train embed`` into a folder of shards."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from ipad_core import AttributeEmbedder
from ipad_core.models.saved_model import CONFIG, WEIGHTS
from ipad_train.config import DataConfig
from ipad_train.config_files import load_run_config
from ipad_train.data import load_data
from ipad_train.distributed import on_main_process
from ipad_train.embedding.options import EmbedOptions
from ipad_train.embedding.photos import Photos, SplitPhotos, find_unlabelled
from ipad_train.embedding.shard_folder import ShardFolder
from ipad_train.embedding.streaming import ShardEmbedder
from ipad_train.folder_lock import FolderBusyError, FolderLock
from ipad_train.launch import compile_network, make_accelerator, run_precision
from ipad_train.memory_layout import lay_out
from ipad_train.run_folder import RunFolder
from ipad_train.vectors import reads_vectors, vectors_of


def embed_to_shards(
    run_dir: Path, out: Path, options: EmbedOptions, overrides: Iterable[str], announce: Callable[[str], None]
) -> None:
    """Embed a split, or photos without labels, into a folder of shards; goes on where an earlier start was interrupted.

    Raises:
        FileNotFoundError: the folder is no run, or holds no model yet; no such photos or table; ``out`` lies in no folder.
        FileExistsError: another process embeds into ``out``.
        ValueError: unknown split, stage or branch; ``out`` was begun with something else; an unreadable photo.
    """
    config = load_run_config(run_dir, overrides)
    if not out.parent.is_dir() or not os.access(out.parent, os.W_OK):
        raise FileNotFoundError(f"--out {out}: {out.parent} is no folder that can be written to")
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} must be a folder for shards, and is a file")
    accelerator = make_accelerator(config)
    folder = chosen_model(run_dir, options.stage)
    model = AttributeEmbedder.from_pretrained(folder).to(accelerator.device).eval()
    values = {name: list(words) for name, words in (model.schema or {}).items()}
    values = values or {f"attribute_{i}": [] for i in range(model.options["num_attributes"])}
    photos, maps, metadata = _asked(run_dir, model, values, config.data, options, accelerator, announce)
    shards = ShardFolder(out, -(-len(photos) // options.shard_photos))
    vectors = Path(config.data.vectors) if reads_vectors(model) else None
    settings = {
        "photos": len(photos),
        "photos_digest": photos.digest(),
        "model": fingerprint(folder),
        "branch": options.branch,
        "vectors": None if vectors is None else file_digest(vectors),
        "dtype": options.dtype,
        "shard_photos": options.shard_photos,
        "eval_batch_size": config.data.eval_batch_size,
        "detail_size": config.data.detail_size,
        "precision": run_precision(accelerator),
    }
    with _alone_in(out, accelerator):
        goes_on = on_main_process(accelerator, lambda: shards.begin(settings))
        if accelerator.is_main_process:
            announce(
                f"{len(photos)} photos in {shards.count} shards by {accelerator.num_processes} "
                f"process{'es' if accelerator.num_processes > 1 else ''}{', going on' if goes_on else ''}"
            )
        lay_out(model, config, accelerator)
        compile_network(model, config)
        ShardEmbedder(model, photos, shards, config.data, accelerator, options, maps).run()
        if accelerator.is_main_process:
            counts = shards.finish(metadata)
            left = f"; {counts['unreadable']} cannot be read, see unreadable.jsonl" if counts["unreadable"] else ""
            announce(f"{out}: {counts['rows']} embeddings of {counts['photos']} photos{left}")


def chosen_model(run_dir: Path, stage: str | None) -> Path:
    """Folder of the best model of a run, or of a stage of it.

    Raises:
        ValueError: a stage that the run does not have.
    """
    stages = RunFolder(run_dir).trained_stages()
    if stage is not None and stage not in stages:
        raise ValueError(f"stage must be one that the run has: {', '.join(stages) or 'none'}, got {stage!r}")
    return stages[stage] if stage else RunFolder(run_dir).best


def fingerprint(folder: Path) -> str:
    """Equal for equal weights and options of a saved model."""
    return "-".join(file_digest(folder / name) for name in (CONFIG, WEIGHTS))


def file_digest(path: Path) -> str:
    """Equal for equal content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _asked(
    run_dir: Path,
    model: AttributeEmbedder,
    values: dict[str, list[str]],
    config: DataConfig,
    options: EmbedOptions,
    accelerator: Accelerator,
    announce: Callable[[str], None],
) -> tuple[Photos, Any, dict[str, Any]]:
    """What is embedded, what the model reads in place of images, and what the index says of it."""
    metadata: dict[str, Any] = {"run": run_dir.resolve().name, "branch": options.branch}
    names = [f"{attribute}/{value}" for attribute, words in values.items() for value in words]
    metadata |= {"attributes": list(values), "value_names": names}
    if options.photos is not None:
        if reads_vectors(model):
            raise ValueError("the model reads vectors, not images: there is nothing that it could make of --photos")
        photos, left_out = find_unlabelled(options.photos, values, options.image_column)
        for line in left_out if accelerator.is_main_process else ():
            announce(f"left out: {line}")
        return photos, None, metadata | {"photos": str(options.photos.resolve())}
    split = options.split or "test"
    with accelerator.main_process_first():
        dataset = load_data(config).split(split)
    roles = ("train",) if split == "train" else ("query", "gallery")
    return SplitPhotos(dataset, roles), vectors_of(model, dataset, config), metadata | {"split": split}


@contextmanager
def _alone_in(folder: Path, accelerator: Accelerator) -> Iterator[None]:
    """Hold the folder as long as this lasts; where another process has it, all of this run's processes end."""

    def lock() -> FolderLock:
        folder.mkdir(exist_ok=True)
        try:
            return FolderLock(folder, "embeds into")
        except FolderBusyError as error:
            raise FileExistsError(f"{error}; wait for it, stop it, or give another --out") from None

    held = on_main_process(accelerator, lock)
    try:
        yield
    finally:
        if held is not None:
            held.release()
