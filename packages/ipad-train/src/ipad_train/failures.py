"""What to tell the user where others fail in words of their own: processes, workers, ports that are gone, a full disk."""

from __future__ import annotations

import os

import torch.distributed as dist

from ipad_train.distributed import is_distributed


def lost_process(error: BaseException) -> str | None:
    """A sentence where an error says that another process of the run is gone; None for other errors."""
    signs = (
        "connection closed by peer",
        "connection reset by peer",
        "broken pipe",
        "socket closed",
        "timed out waiting",
        "gloo/transport",  # where all of gloo's words about lost connections come from
    )
    lost = isinstance(error, dist.DistBackendError) or any(sign in str(error).lower() for sign in signs)
    if not (is_distributed() and lost):
        return None
    first_line = str(error).strip().splitlines()[0]
    return (
        f"another process of this run is gone, and process {dist.get_rank()} ends with it ({first_line}); the last "
        "checkpoint is whole: --resume auto continues there. What ended the other stands in its own output"
    )


def lost_worker(error: BaseException) -> str | None:
    """A sentence where a process that decodes images died; None for other errors."""
    if "DataLoader worker" not in str(error):
        return None
    return (
        f"a worker that decodes images died ({str(error).strip().splitlines()[0]}). Too little memory is the usual reason, "
        "or too little of /dev/shm in a container: set data.num_workers lower (0: the training process decodes). The last "
        "checkpoint is whole: --resume auto continues there"
    )


def taken_port(error: BaseException) -> str | None:
    """A sentence where processes cannot meet at their port; None for other errors."""
    text = str(error)
    if not isinstance(error, dist.DistNetworkError):
        return None
    port, host = os.environ.get("MASTER_PORT", "?"), os.environ.get("MASTER_ADDR", "?")
    if "EADDRINUSE" in text or "address already in use" in text.lower():
        return (
            f"port {port} is taken, perhaps by another run: give another one (`--main_process_port PORT` of accelerate, "
            "`--master-port PORT` of torchrun, or `--standalone` on one machine)"
        )
    return (
        f"the processes do not meet at {host}:{port} ({text.strip().splitlines()[0]}): is the main one running there, and "
        "is the port open between the machines?"
    )


def full_disk(error: BaseException) -> str | None:
    """A sentence where there is no room to write; None for other errors. Safetensors has an error of its own for it."""
    signs = ("no space left on device", "disk quota exceeded", "file too large")
    if not any(sign in str(error).lower() for sign in signs):
        return None
    first_line = str(error).strip().splitlines()[0]
    return (
        f"there is no room to write ({first_line}). What was written whole before stays: make room, and start again, a run "
        "with --resume auto from its last checkpoint. `ipad-train doctor` says how much a run needs"
    )


def explain(error: BaseException) -> str | None:
    """The sentence for an error, or None where there is none to say."""
    return lost_process(error) or lost_worker(error) or taken_port(error) or full_disk(error)
