"""Read a configuration: YAML preset or file, then ``key.sub=value`` overrides. Unknown keys are errors."""

from __future__ import annotations

import dataclasses
import math
import os
import types
import typing
from collections.abc import Iterable, Mapping
from contextlib import suppress
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from ipad_data.assignments import parse_assignment
from ipad_train.config import RunConfig
from ipad_train.run_folder import CONFIG, RunFolder


class ConfigError(ValueError):
    """A configuration names an unknown key, or gives a key a value of the wrong type or range."""


def list_presets() -> list[str]:
    """Names of the presets that ship with the package."""
    root = resources.files("ipad_train") / "configs"
    return sorted(entry.name.removesuffix(".yaml") for entry in root.iterdir() if entry.name.endswith(".yaml"))


def load_config(source: str | Path | None = None, overrides: Iterable[str] = ()) -> RunConfig:
    """Configuration from a preset's name or a YAML file, with overrides on top.

    A file may start from another one: ``base: tiny`` (a preset, or a path relative to the file). Its keys are merged into
    that one's; ``options`` and the augmentations are replaced whole.

    Args:
        source: Preset name or path; None for the preset ``tiny``.
        overrides: ``key=value`` texts; keys are dotted (``stage1.steps=10``), values are YAML (``null``, ``[1, 2]``).

    Raises:
        ConfigError: unknown preset or key (with the nearest names), malformed override, wrong type or range.
    """
    tree = _read_tree(str(source or "tiny"), relative_to=Path.cwd())
    for override in overrides:
        try:
            key, value = parse_assignment(override)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        _assign(tree, key.split("."), value)
    return build(RunConfig, tree)


def load_run_config(run_dir: Path, overrides: Iterable[str] = ()) -> RunConfig:
    """Configuration of a run from its ``config.yaml``.

    Raises:
        FileNotFoundError: the folder is no run.
    """
    path = RunFolder(run_dir).config
    if not path.is_file():
        raise FileNotFoundError(f"{run_dir} is no run: it has no {CONFIG}")
    return load_config(path.resolve(), overrides)


def with_absolute_paths(config: RunConfig) -> RunConfig:
    """The configuration with paths that mean the same from every folder, in one spelling; addresses stay as they are."""

    def absolute(path: str | None) -> str | None:
        return path if path is None or "://" in path else os.path.abspath(os.path.expanduser(path))

    paths = {name: absolute(getattr(config.data, name)) for name in ("dir", "maps_dir", "vectors")}
    data = dataclasses.replace(config.data, **paths)
    init = config.model.init
    model = dataclasses.replace(
        config.model,
        trunk_weights=absolute(config.model.trunk_weights),
        init=absolute(init) if init and Path(init).expanduser().exists() else init,  # else a repository of the hub
    )
    return dataclasses.replace(config, data=data, model=model)


def save_config(config: RunConfig, path: Path) -> None:
    """Write a configuration as YAML that :func:`load_config` reads back to an equal one."""
    path.write_text(config_text(config), encoding="utf-8")


def config_text(config: RunConfig) -> str:
    """A configuration with all its keys, as YAML."""
    return yaml.safe_dump(config.to_dict(), sort_keys=False, allow_unicode=True)


def build(cls: type, tree: Mapping[str, Any], where: str = "") -> Any:
    """A dataclass from nested mappings.

    Raises:
        ConfigError: a key that is no field (the message names the nearest fields), or a value of the wrong type.
    """
    fields = {field.name: field for field in dataclasses.fields(cls)}
    hints = typing.get_type_hints(cls)
    values = {}
    for key, value in tree.items():
        name = f"{where}{key}"
        if key not in fields:
            near = get_close_matches(str(key), fields) or sorted(fields)
            raise ConfigError(f"unknown configuration key {name!r}; nearest: {', '.join(where + n for n in near)}")
        hint = hints[key]
        if dataclasses.is_dataclass(hint):
            if not isinstance(value, Mapping):
                raise ConfigError(f"{name} must hold keys of its own ({_field_names(hint)}), got {value!r}")
            values[key] = build(hint, value, where=f"{name}.")
        else:
            values[key] = _convert(name, value, hint)
    try:
        return cls(**values)
    except ValueError as error:
        raise ConfigError(f"{where}{error}" if where and not str(error).startswith(where) else str(error)) from None


def _field_names(cls: type) -> str:
    return ", ".join(field.name for field in dataclasses.fields(cls))


def _convert(name: str, value: Any, hint: Any) -> Any:
    allowed = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    kinds = tuple(typing.get_origin(kind) or kind for kind in allowed)
    if float in kinds and isinstance(value, (int, str)) and not isinstance(value, bool):
        with suppress(ValueError):
            value = float(value)  # YAML reads 1e-3 as text
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{name} must be a finite number, got {value}")
    if value is False and bool not in kinds and str in kinds:
        return "no"  # YAML reads the word no as false
    if (isinstance(value, bool) and bool not in kinds) or not isinstance(value, kinds):
        expected = " or ".join("null" if kind is types.NoneType else kind.__name__ for kind in kinds)
        raise ConfigError(f"{name} must be of type {expected}, got {value!r}")
    return value


def _read_tree(source: str, relative_to: Path, readers: tuple[Path, ...] = ()) -> dict[str, Any]:
    path = relative_to / source
    if path.resolve() in readers:
        raise ConfigError(f"{source}: its base leads back to itself")
    if path.is_file():
        text, folder = path.read_text(encoding="utf-8-sig"), path.parent
    elif source in list_presets():
        text = (resources.files("ipad_train") / "configs" / f"{source}.yaml").read_text(encoding="utf-8")
        folder = relative_to
    else:
        near = get_close_matches(source, list_presets()) or list_presets()
        raise ConfigError(f"no configuration file and no preset {source!r}; presets: {', '.join(near)}")
    try:
        tree = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: not valid YAML: {error}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{source}: a configuration is a mapping of keys, got {type(tree).__name__}")
    base = tree.pop("base", None)
    return _merge(_read_tree(str(base), folder, (*readers, path.resolve())), tree) if base else tree


# Arguments of other packages' functions: taken whole, since those of one dataset or network mean nothing to another.
_TAKEN_WHOLE = ("options", "augmentation", "anchor_augmentation")


# A stage's length is given one way: whichever comes last, in a file or as an override, replaces the other.
_REPLACES = {"steps": ("epochs", "min_steps", "max_steps"), "epochs": ("steps",)}


def _forget_replaced(tree: dict[str, Any], given: Mapping[str, Any]) -> None:
    for key in set(given) & set(_REPLACES):
        if given[key] is not None:
            for other in set(_REPLACES[key]) - set(given):
                tree.pop(other, None)


def _merge(base: dict[str, Any], tree: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    _forget_replaced(merged, tree)
    for key, value in tree.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping) and key not in _TAKEN_WHOLE
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _assign(tree: dict[str, Any], keys: list[str], value: Any) -> None:
    for depth, key in enumerate(keys[:-1]):
        child = tree.setdefault(key, {})
        if not isinstance(child, dict):
            raise ConfigError(f"{'.'.join(keys[: depth + 1])} holds {child!r}, so it has no key {keys[depth + 1]!r}")
        tree = child
    _forget_replaced(tree, {keys[-1]: value})
    tree[keys[-1]] = value
