"""Start the service."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable
from contextlib import suppress

from ipad_train.catalogue.catalogue import Catalogue
from ipad_train.catalogue.errors import CatalogueError
from ipad_train.catalogue.model import CatalogueModel, check_same_model
from ipad_train.catalogue.service.options import ServeOptions
from ipad_train.extras import require

MAX_CONNECTIONS = 200


def serve_catalogue(where: str, options: ServeOptions, announce: Callable[[str], None] = print) -> None:
    """Serve a catalogue until the process is asked to end, by a signal or Ctrl-C.

    Raises:
        CatalogueError: no catalogue, another model, no photo folder.
        OSError: the port is taken; the engine does not answer.
        ImportError: the extra ``catalogue`` is not installed.
    """
    uvicorn = require("uvicorn", "catalogue")
    require("fastapi", "catalogue")
    from ipad_train.catalogue.service.app import make_app
    from ipad_train.catalogue.service.guards import is_loopback
    from ipad_train.catalogue.service.state import State

    host, token = options.host, options.token
    if not is_loopback(host):
        token = token or secrets.token_urlsafe(24)
    with (
        suppress(KeyboardInterrupt),
        Catalogue(where, "serves") as catalogue,
        _listening(host, options.port) as listener,
    ):
        asked = CatalogueModel.open(options.model or catalogue.manifest.source)
        check_same_model(asked, catalogue.manifest.made_by, where)
        state = State(catalogue, asked, options.photos, int(options.max_megapixels * 1e6))
        if not state.folder.is_dir():
            raise CatalogueError(f"the photo folder {state.folder} is not there; --photos says where it lies now")
        shown = f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{listener.getsockname()[1]}/"
        announce(f"{len(state.snapshot)} photos at {address}{f'?token={token}' if token else ''}   (Ctrl-C ends it)")
        config = uvicorn.Config(
            make_app(state, token, int(options.max_upload_mb * 1e6)),
            log_level="warning",
            access_log=False,
            server_header=False,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_keep_alive=10,
            h11_max_incomplete_event_size=64 * 1024,
        )
        uvicorn.Server(config).run(sockets=[listener])


def _listening(host: str, port: int) -> socket.socket:
    """A socket that listens, before the model is read: a port that is taken is said at once."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)  # who comes while the model is read waits
    except OSError as error:
        listener.close()
        raise OSError(
            f"--host {host} --port {port}: {error.strerror or error}; another service may be there"
        ) from None
    return listener
