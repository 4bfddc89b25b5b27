"""What goes wrong at the engine, in one kind of error that says where and what."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from ipad_train.catalogue.errors import CatalogueError, EngineError

if TYPE_CHECKING:
    from ipad_train.catalogue.engine import Engine

_F = TypeVar("_F", bound=Callable[..., Any])


def answering(method: _F) -> _F:
    """Turn whatever the client or the network raises into an EngineError that says where and what.

    A server that was started anew may not have its collections in memory; they are then loaded, and it is asked again.
    """

    @functools.wraps(method)
    def wrapped(self: Engine, *args: Any, **options: Any) -> Any:
        try:
            try:
                return method(self, *args, **options)
            except (CatalogueError, EngineError):
                raise
            except Exception as error:
                if method.__name__ == "load" or not re.search("not loaded|released", str(error)):
                    raise
                self.load()
                return method(self, *args, **options)
        except (CatalogueError, EngineError):
            raise
        except Exception as error:  # MilvusException, grpc.RpcError, OSError: all of the client's
            raise EngineError(f"{self.where}: {reason(error)}") from error

    return wrapped  # type: ignore[return-value]


def reason(error: Exception) -> str:
    """The client's own words on one line."""
    text = " ".join(str(getattr(error, "message", "") or error or type(error).__name__).split())
    return text[:300]
