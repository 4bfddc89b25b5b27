"""``meta.json``: the attributes of a dataset and their values, in the forms in which it circulates."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ipad_data.errors import LabelFileError
from ipad_data.label_text import read_json
from ipad_data.schema import AttributeSchema

_ABOUT_VALUES = ("ATTRIBUTES_NUM", "ATTRIBUTES_VALUES")


def read_meta(path: str | Path, dataset: str, names: AttributeSchema | None = None) -> AttributeSchema:
    """Schema of a dataset from a ``meta.json``.

    Two forms circulate: ``{dataset: {"ATTRIBUTES": [...], "ATTRIBUTES_NUM": {...}}}`` and the same without the outer
    level. Either may hold ``ATTRIBUTES_VALUES``, the names of the values.

    Args:
        path: The file.
        dataset: Key of the nested form, matched without regard to case.
        names: Where the file holds no value names: take them from this schema for attributes with the same name
            and number of values. Other values are called by their number.

    Raises:
        LabelFileError: not JSON, no such dataset, a missing or contradictory field.
    """
    path = Path(path)
    meta = read_json(path)
    section = _section(meta, dataset, path)
    attributes = section["ATTRIBUTES"]
    if len(set(attributes)) != len(attributes):
        raise LabelFileError.at(path, None, f"ATTRIBUTES names an attribute twice: {attributes}")
    known = names.values if names is not None else {}
    try:
        return AttributeSchema(
            {name: _value_names(name, i, section, known, path) for i, name in enumerate(attributes)}
        )
    except LabelFileError:
        raise
    except ValueError as error:
        raise LabelFileError.at(path, None, str(error)) from None


def _section(meta: Any, dataset: str, path: Path) -> Mapping[str, Any]:
    if not isinstance(meta, dict):
        raise LabelFileError.at(path, None, f"must hold a JSON object, got {type(meta).__name__}")
    if "ATTRIBUTES" not in meta:
        matching = [key for key in meta if key.lower() == dataset.lower()]
        if not matching:
            raise LabelFileError.at(path, None, f"has no section for {dataset!r}; its sections: {sorted(meta)}")
        meta = meta[matching[0]]
    if not isinstance(meta, dict) or "ATTRIBUTES" not in meta:
        raise LabelFileError.at(path, None, f"the section of {dataset!r} has no ATTRIBUTES")
    attributes = meta["ATTRIBUTES"]
    if not isinstance(attributes, list) or not all(isinstance(attribute, str) for attribute in attributes):
        raise LabelFileError.at(path, None, f"ATTRIBUTES must be a list of names, got {attributes!r}")
    for key in (key for key in _ABOUT_VALUES if key in meta):
        if not isinstance(meta[key], dict | list) or (key == "ATTRIBUTES_VALUES" and isinstance(meta[key], list)):
            raise LabelFileError.at(path, None, f"{key} must be an object by attribute, got {meta[key]!r:.60}")
        if unknown := [name for name in meta[key] if isinstance(meta[key], dict) and name not in meta["ATTRIBUTES"]]:
            raise LabelFileError.at(path, None, f"{key} has {unknown[0]!r}, which ATTRIBUTES does not name")
    if not set(_ABOUT_VALUES) & set(meta):
        raise LabelFileError.at(path, None, f"the section of {dataset!r} has no ATTRIBUTES_NUM or ATTRIBUTES_VALUES")
    return meta


def _value_names(
    attribute: str, position: int, section: Mapping[str, Any], known: Mapping[str, Any], path: Path
) -> list[str]:
    numbers = section.get("ATTRIBUTES_NUM")
    number = None
    if numbers is not None:
        try:
            number = numbers[attribute] if isinstance(numbers, dict) else numbers[position]
        except (KeyError, IndexError, TypeError):
            raise LabelFileError.at(path, None, f"ATTRIBUTES_NUM has no number for {attribute!r}") from None
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            raise LabelFileError.at(path, None, f"ATTRIBUTES_NUM of {attribute!r} must be >= 1, got {number!r}")
    values = section.get("ATTRIBUTES_VALUES", {}).get(attribute)
    if values is None and number is None:
        raise LabelFileError.at(path, None, f"{attribute!r} has neither a number of values nor their names")
    if values is None:
        values = known.get(attribute, ())
        return list(values) if len(values) == number else [str(value) for value in range(number)]
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise LabelFileError.at(path, None, f"ATTRIBUTES_VALUES of {attribute!r} must be a list of names")
    if number is not None and number != len(values):
        raise LabelFileError.at(
            path, None, f"{attribute!r} has {number} values by ATTRIBUTES_NUM but {len(values)} by ATTRIBUTES_VALUES"
        )
    return values


def differences(schema: AttributeSchema, known: AttributeSchema) -> list[str]:
    """What a schema says otherwise than what is known of the same attributes: their order, the order of values, a number.

    Args:
        schema: As a ``meta.json`` has it.
        known: As the dataset is known. Where the two have other attributes, they are not compared.
    """
    if set(schema.attributes) != set(known.attributes):
        return []
    notes = []
    if schema.attributes != known.attributes:
        notes.append(f"the attributes are in another order: {', '.join(schema.attributes)}")
    for attribute, names in known.values.items():
        found = schema.values[attribute]
        if len(found) != len(names):
            notes.append(f"{attribute!r} has {len(found)} values instead of {len(names)}")
        elif found != names and sorted(found) == sorted(names):
            notes.append(f"the values of {attribute!r} are in another order: {', '.join(found)}")
    return notes


def write_meta(path: str | Path, schema: AttributeSchema, dataset: str | None) -> Path:
    """Write a form that :func:`read_meta` reads back, with the names of the values: nested below ``dataset`` if named."""
    path = Path(path)
    section = {
        "ATTRIBUTES": list(schema.attributes),
        "ATTRIBUTES_NUM": dict(zip(schema.attributes, schema.num_values, strict=True)),
        "ATTRIBUTES_VALUES": {attribute: list(values) for attribute, values in schema.values.items()},
    }
    meta = section if dataset is None else {dataset: section}
    path.write_text(json.dumps(meta, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return path
