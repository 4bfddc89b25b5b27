from __future__ import annotations

import subprocess
import sys

BROKEN = """
import importlib.abc, sys

class Broken(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            raise RuntimeError("operator torchvision::nms does not exist")

sys.meta_path.insert(0, Broken())
import ipad_core
"""


def test_torchvision_of_another_torch_says_what_to_install():
    done = subprocess.run([sys.executable, "-c", BROKEN], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    message = done.stderr.strip().splitlines()[-1]
    assert message.startswith("ImportError: timm cannot be imported: operator torchvision::nms does not exist")
    assert "pip install torch==" in message
