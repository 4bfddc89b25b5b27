"""Checks of how processes are started: Accelerate's default configuration, the environment, the port, the host's name."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import yaml

from ipad_train.config import RunConfig
from ipad_train.doctor.finding import BROKEN, CARE, Finding
from ipad_train.launcher import check_launcher, resolve_precision

DEFAULT_PORT = 29500
_ENGINES = ("NO", "MULTI_GPU", "MULTI_CPU", "DEEPSPEED")


def default_config_path(environment: Mapping[str, str] = os.environ) -> Path:
    """The file that ``accelerate launch`` reads where it is given none."""
    cache = Path(environment.get("XDG_CACHE_HOME", "~/.cache")) / "huggingface"
    return (Path(environment.get("HF_HOME", cache)) / "accelerate" / "default_config.yaml").expanduser()


def read_launcher(path: Path) -> tuple[dict[str, Any], str | None]:
    """Content of Accelerate's configuration, and why it cannot be read; empty where there is none."""
    if not path.is_file():
        return {}, None
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        return {}, " ".join(str(error).split())
    return (content, None) if isinstance(content, dict) else ({}, f"it holds {type(content).__name__}, no keys")


def check_launcher_config(path: Path, config: RunConfig) -> Finding:
    """Whether Accelerate's default configuration asks for something that a run can do."""
    name = "accelerate's config"
    content, why = read_launcher(path)
    aside = f"mv {path} {path}.old, or: accelerate launch --config_file FILE (`ipad-train configs` prints some)"
    if why is not None:
        return Finding(name, f"{path} cannot be read: {why}", BROKEN, aside)
    if not content:
        return Finding(name, "no default; `accelerate launch` takes every GPU it sees, or one process on the CPU")
    engine = str(content.get("distributed_type", "NO")).upper().replace("FALSE", "NO")
    stage = _zero_stage(content)
    if engine not in _ENGINES or stage == 3:
        asked = f"{engine} ZeRO-3" if stage == 3 else engine
        return Finding(name, f"{path} asks for {asked}, which a run cannot use", BROKEN, aside)
    try:
        resolve_precision(
            config.loop.mixed_precision, {"ACCELERATE_MIXED_PRECISION": str(content.get("mixed_precision", "no"))}
        )
    except ValueError as error:
        return Finding(name, f"{path}: {error}", BROKEN, aside)
    count = content.get("num_processes", 1)
    return Finding(
        name, f"{path}: {engine}, {count} processes, mixed_precision {content.get('mixed_precision', 'no')}"
    )


def _zero_stage(content: Mapping[str, Any]) -> int | None:
    """The stage of ZeRO that a configuration, or the JSON file that it names, asks for; None where it does not say."""
    settings = content.get("deepspeed_config")
    if not isinstance(settings, dict):
        return None
    if (file := settings.get("deepspeed_config_file")) is None:
        return settings.get("zero_stage")
    try:
        return json.loads(Path(file).read_text(encoding="utf-8"))["zero_optimization"]["stage"]
    except (OSError, ValueError, KeyError, TypeError):  # the launcher's own words on it are clear
        return None


def check_environment(config: RunConfig, environment: Mapping[str, str] = os.environ) -> Finding:
    """Whether ``ACCELERATE_*`` variables ask for something that a run can do."""
    name = "environment"
    present = sorted(key for key in environment if key.startswith("ACCELERATE_"))
    try:
        check_launcher(environment)
        resolve_precision(config.loop.mixed_precision, environment)
    except ValueError as error:
        named = [key for key in environment if key in ("WORLD_SIZE", *present) and key in str(error)]
        return Finding(name, str(error), BROKEN, f"unset {' '.join(named or present)}")
    steps = environment.get("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "auto")
    if steps != "auto" and (not steps.isdigit() or int(steps) < 1):
        return Finding(
            name,
            f"ACCELERATE_GRADIENT_ACCUMULATION_STEPS={steps!r} is no positive number",
            BROKEN,
            "unset ACCELERATE_GRADIENT_ACCUMULATION_STEPS",
        )
    found = ", ".join(f"{key}={environment[key]}" for key in present) or "no ACCELERATE_* variables are set"
    return Finding(name, found)


def check_port(processes: int, content: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> Finding:
    """Whether the port is free at which several processes meet.

    Args:
        processes: That the launcher's configuration starts; one needs no port.
        content: Of that configuration.
    """
    text = environment.get("MASTER_PORT") or content.get("main_process_port") or DEFAULT_PORT
    name = "port"
    if not str(text).isdigit() or not 0 <= int(text) < 65536:
        return Finding(name, f"MASTER_PORT or main_process_port is {text!r}, no port", BROKEN, "unset MASTER_PORT")
    port = int(text)
    if port == 0 or is_free(port):
        return Finding(name, f"{port or 'any'} is free for several processes to meet at")
    state = BROKEN if processes > 1 else CARE
    free = next((other for other in range(port + 1, min(port + 200, 65536)) if is_free(other)), 0)
    owner = _owner(port)
    return Finding(
        name,
        f"{port} is in use{owner}{'' if processes > 1 else '; several processes could not meet there'}",
        state,
        f"accelerate launch --main_process_port {free} -m ipad_train ... (torchrun --standalone finds one itself)",
    )


def check_host_name(host: str | None = None) -> Finding:
    """Whether this machine's name leads to an address, which gloo and NCCL look for."""
    host = socket.gethostname() if host is None else host
    try:
        address = socket.getaddrinfo(host, None)[0][4][0]
    except OSError as error:
        return Finding(
            "host name",
            f"{host} has no address ({error}); several processes may not find each other",
            CARE,
            "export GLOO_SOCKET_IFNAME=lo NCCL_SOCKET_IFNAME=lo, or add the name to /etc/hosts",
        )
    return Finding("host name", f"{host} is {address}")


def is_free(port: int) -> bool:
    """Whether a server could listen at a port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
            return True
        except OSError:
            return False


def _owner(port: int) -> str:
    try:
        for connection in psutil.net_connections("inet"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                return f" by process {connection.pid} ({psutil.Process(connection.pid).name()})"
    except (psutil.Error, OSError):  # other users' connections may be hidden
        pass
    return ""
