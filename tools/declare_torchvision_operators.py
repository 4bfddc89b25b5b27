"""Lets PyPI's torchvision import beside a CPU-only torch.

    python tools/declare_torchvision_operators.py

does so in the environment of that Python, and leaves one alone in which torchvision imports or is missing.

PyPI's torchvision for Linux is built against CUDA torch. Beside a CPU-only torch its compiled operators do not load, and
``import torchvision`` (hence ``import timm`` and the ``accelerate`` command) stops at "operator torchvision::nms does
not exist". Nothing here calls those operators, so declaring their schemas before the first import is enough. The command
copies this file beside the environment's packages, with a ``.pth`` file that imports it when Python starts; torch itself is
imported only if torchvision is.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path


class _OperatorDeclarer:
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name == "torchvision":
            sys.meta_path.remove(cls)
            import torch

            library = torch.library.Library("torchvision", "FRAGMENT")
            for operator in ("nms", "qnms"):
                library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            cls.library = library  # the declarations live as long as this object


def main() -> None:
    imports = [sys.executable, "-c", "import torchvision"]
    if importlib.util.find_spec("torchvision") is None:
        print("torchvision is not installed here")
    elif subprocess.run(imports, stderr=subprocess.DEVNULL).returncode == 0:
        print("torchvision imports; nothing to do")
    else:
        source, packages = Path(__file__), Path(sysconfig.get_path("purelib"))
        shutil.copy(source, packages)
        (packages / f"{source.stem}.pth").write_text(f"import {source.stem}\n", encoding="utf-8")
        subprocess.run(imports, check=True)
        print(f"torchvision imports now: its operators are declared by {packages / source.name}")


if __name__ == "__main__":
    main()
else:
    sys.meta_path.insert(0, _OperatorDeclarer)
