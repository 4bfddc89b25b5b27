"""Checks of what is installed: declared versions, the pair of torch and torchvision, DeepSpeed with transformers."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata

from packaging.requirements import Requirement
from packaging.version import Version

from ipad_train.doctor.finding import BROKEN, CARE, Finding

_CPU_INDEX = " --index-url https://download.pytorch.org/whl/cpu"


def check_requirements(requires: list[str] | None = None) -> Finding:
    """Whether what ipad-train declares is installed, in versions that it allows.

    Args:
        requires: Requirements as in a package's metadata; by default ipad-train's own.
    """
    if requires is None:
        requires = metadata.requires("ipad-train") or []
    wrong = []
    for requirement in map(Requirement, requires):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        version = installed_version(requirement.name)
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            wrong.append((requirement, version))
    if not wrong:
        return Finding("packages", f"Python {sys.version.split()[0]}; everything that ipad-train requires is there")
    found = ", ".join(f"{each.name} {version or 'is missing'}" for each, version in wrong)
    wanted = " ".join(f'"{each.name}{each.specifier}"' for each, _ in wrong)
    return Finding("packages", found, BROKEN, f"pip install {wanted}")


def check_torch_pair(load: Callable[[str], object] = importlib.import_module) -> Finding:
    """Whether torch and torchvision import together; torchvision 0.(N + 15) belongs to torch 2.N."""
    torch, vision = installed_version("torch"), installed_version("torchvision")
    name = "torch and torchvision"
    if torch is None:
        return Finding(name, "torch is not installed", BROKEN, "pip install torch torchvision")
    try:
        load("torch")
    except (ImportError, OSError) as error:
        return Finding(name, f"torch {torch} does not import: {_first_line(error)}", BROKEN, _pair_command(torch))
    if vision is None:
        return Finding(
            name,
            f"torch {torch}; torchvision is missing, without which timm does not import",
            BROKEN,
            _pair_command(torch),
        )
    try:
        load("torchvision")
    except (ImportError, RuntimeError, OSError) as error:
        return Finding(
            name,
            f"torchvision {vision} does not import beside torch {torch}: {_first_line(error)}",
            BROKEN,
            _pair_command(torch),
        )
    found = f"torch {torch}, torchvision {vision}"
    expected = _vision_release(torch)
    if not vision.startswith(f"{expected}."):
        return Finding(
            name, f"{found}; {expected} belongs to this torch (it imports all the same)", CARE, _pair_command(torch)
        )
    return Finding(name, found)


def check_deepspeed(is_asked_for: bool, import_both: Callable[[], str | None] | None = None) -> Finding:
    """Whether DeepSpeed can be used: with transformers beside it, which Accelerate asks for, and both import.

    Args:
        is_asked_for: Whether a configuration of the launcher wants DeepSpeed.
        import_both: Answers why the two do not import together, or None; by default a process of its own tries.
    """
    deepspeed, transformers = installed_version("deepspeed"), installed_version("transformers")
    state, mend = BROKEN if is_asked_for else CARE, 'pip install "ipad-train[deepspeed]"'
    if deepspeed is None:
        if not is_asked_for:
            return Finding("DeepSpeed", f"not installed, and not asked for; {mend} if you want ZeRO")
        return Finding("DeepSpeed", "not installed, and the launcher's configuration asks for it", state, mend)
    if transformers is None:
        return Finding("DeepSpeed", f"{deepspeed} without transformers, which Accelerate needs for it", state, mend)
    if why := (import_both or _import_deepspeed)():
        return Finding("DeepSpeed", f"{deepspeed} with transformers {transformers}: {why}", state, f"{mend} --upgrade")
    return Finding("DeepSpeed", f"{deepspeed} with transformers {transformers}; they import together")


def installed_version(package: str) -> str | None:
    """Version of a package; None where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _import_deepspeed() -> str | None:
    environment = {"DS_ACCELERATOR": "cpu", **os.environ} if _no_cuda() else os.environ.copy()
    code = "import transformers, deepspeed"
    try:
        tried = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=180
        )
    except subprocess.TimeoutExpired:
        return "importing them takes more than three minutes"
    if tried.returncode == 0:
        return None
    return next(iter(reversed(tried.stderr.strip().splitlines())), f"exit code {tried.returncode}")


def _no_cuda() -> bool:
    import torch

    return not torch.cuda.is_available()


def _vision_release(torch_version: str) -> str:
    version = Version(torch_version)
    return f"0.{version.minor + 15}" if version.major == 2 else "?"


def _pair_command(torch_version: str) -> str:
    version = Version(torch_version)
    vision = f"torchvision~={_vision_release(torch_version)}.0" if version.major == 2 else "torchvision"
    index = _CPU_INDEX if version.local == "cpu" else ""
    return f'pip install "torch=={version.public}" "{vision}"{index}'


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
