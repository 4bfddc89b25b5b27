"""timm's weights from the Hugging Face hub: a cached file at once, else a download, and a quick answer if neither."""

from __future__ import annotations

import functools
import threading
from pathlib import Path

from huggingface_hub import constants, get_session, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

_FILES = ("model.safetensors", "pytorch_model.bin")  # as timm looks for them
_PATIENCE = 5.0  # seconds until the hub counts as out of reach; huggingface_hub itself tries for half a minute


class HubError(OSError):
    """The hub did not give a file; the message says why, in one line."""


def hub_file(repository: str) -> Path:
    """The weights of a hub repository such as ``timm/resnet50.tv_in1k``, from the cache or downloaded into it.

    A cached file is taken without asking the network. Whether the hub can be reached is asked once per process.

    Raises:
        HubError: the file is not cached, and the hub is out of reach or has no such file.
    """
    for name in _FILES:
        cached = try_to_load_from_cache(repository, name)
        if isinstance(cached, str):
            return Path(cached)
    failure = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else _why_out_of_reach(constants.ENDPOINT)
    if failure:
        raise HubError(failure)
    for name in _FILES:
        try:
            return Path(hf_hub_download(repository, name))
        except LocalEntryNotFoundError as error:  # the network went away, which is no answer about the file
            raise HubError(_first_line(error.__cause__ or error)) from None
        except EntryNotFoundError:
            continue
        except Exception as error:  # requests or httpx, as huggingface_hub's version has it
            raise HubError(_first_line(error)) from None
    raise HubError(f"the repository holds neither {' nor '.join(_FILES)}")


@functools.cache
def _why_out_of_reach(endpoint: str) -> str | None:
    """None where an address answers; looking its name up has no time limit of its own, hence the thread."""
    answers: list[str | None] = []

    def ask() -> None:
        try:
            status = get_session().head(endpoint, timeout=_PATIENCE).status_code
            answers.append(f"{endpoint} answered {status}" if status in (403, 407) or status >= 500 else None)
        except Exception as error:  # requests or httpx, as above
            answers.append(f"{endpoint}: {_first_line(error)}")

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_PATIENCE)
    return answers[0] if answers else f"{endpoint} did not answer within {_PATIENCE:g} s"


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
