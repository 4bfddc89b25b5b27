"""The record of what a trunk started from; it fits into JSON and goes into ``config.json`` and the model card."""

from __future__ import annotations

from typing import Any

# Keys: ``network`` and ``tag`` (timm's), ``source`` (``hub REPOSITORY``, ``package NAME VERSION``, ``file NAME``,
# ``random`` or ``unknown``), ``sha256`` of the file that was read, ``license`` of the weights where it is known; and
# ``via``, the networks whose training the trunk went through since, where there were any.
WeightsRecord = dict[str, str | None]


def weights_record(
    config: dict[str, Any], source: str, sha256: str | None = None, **known: str | None
) -> WeightsRecord:
    """A record for a network with timm's ``pretrained_cfg``; ``known`` adds ``tag`` and ``license``."""
    record = {"network": config["architecture"], "tag": None, "source": source, "sha256": sha256, "license": None}
    return {**record, **known}


def random_weights(config: dict[str, Any]) -> WeightsRecord:
    """The record of a network that starts from random weights."""
    return weights_record(config, "random")


def describe_weights(record: WeightsRecord) -> str:
    """A record in one line for people.

    Example:
        >>> describe_weights({"network": "resnet50", "tag": None, "source": "random", "sha256": None})
        'resnet50 from random weights'
    """
    name = ".".join(filter(None, (record.get("network"), record.get("tag"))))
    source = record.get("source") or "unknown"
    text = f"{name} from " + (f"{source} weights" if source in ("random", "unknown") else source)
    if record.get("sha256"):
        text += f" (SHA-256 {record['sha256'][:12]}...)"
    if record.get("via"):
        text += f", then trained in {record['via']}"
    return text
