"""Lets PyPI's torchvision import beside a CPU-only torch; `noxfile.py` copies it into the environments that need it.

PyPI's torchvision for Linux is built against CUDA torch. Beside a CPU-only torch its compiled operators do not load, and
``import torchvision`` (hence ``import timm`` and the ``accelerate`` command) stops at "operator torchvision::nms does
not exist". Nothing here calls those operators, so declaring their schemas before the first import is enough.
A ``.pth`` file imports this module when Python starts; torch itself is imported only if torchvision is.
"""

from __future__ import annotations

import sys


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


sys.meta_path.insert(0, _OperatorDeclarer)
