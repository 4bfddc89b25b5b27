"""What every request passes before anything else: size of the body, host, token; and the headers of every answer."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Awaitable, Callable
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, RedirectResponse

Scope, Receive, Send = (
    dict[str, Any],
    Callable[[], Awaitable[dict[str, Any]]],
    Callable[[dict[str, Any]], Awaitable[None]],
)
COOKIE = "ipad_catalogue_token"
UPLOADS = "/api/uploads"
MAX_BODY = 64 * 1024  # bytes, of everything but uploads
_FORGOTTEN = 16  # times the limit, of a body that is too large
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine only."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Guards:
    """ASGI middleware: bounds bodies, checks who asks, and sets the headers.

    Args:
        token: What visitors have to show, as ``Authorization: Bearer``, as a cookie, or once as ``?token=``; None where only
            this machine can reach the service. The ``Host`` must then be a name of this machine, so that no page of another
            site reaches it by a name that it points here.
        max_upload: Bytes.
    """

    def __init__(self, app: Any, token: str | None, max_upload: int) -> None:
        self.app, self.token, self.max_upload = app, token, max_upload

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)

        async def guarded_send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    answer[name] = value
                answer.setdefault("Cache-Control", "no-store")
            await send(message)

        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await refusal(scope, receive, guarded_send)
            return
        limit = self.max_upload if scope["path"] == UPLOADS else MAX_BODY
        body = await _bounded(receive, limit)
        if body is None:
            await _error(413, f"the body may have {limit:,} bytes")(scope, receive, guarded_send)
            return
        await self.app(scope, _replay(body, receive), guarded_send)

    def _refusal(self, scope: Scope, headers: Headers) -> Any:
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != headers.get("host"):
            return _error(403, "pages of other sites may not ask this service")
        if self.token is None:
            host = headers.get("host", "").rsplit(":", 1)[0].strip("[]")
            return None if is_loopback(host) else _error(421, "this service answers to names of this machine only")
        asked = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if scope["path"] == "/" and asked and self._is_token(asked):
            answer = RedirectResponse("/", status_code=303)
            answer.set_cookie(COOKIE, self.token, httponly=True, samesite="strict", max_age=30 * 24 * 3600)
            return answer
        bearer = headers.get("authorization", "").removeprefix("Bearer ")
        if self._is_token(bearer) or self._is_token(_cookie(headers.get("cookie", ""))):
            return None
        return _error(401, "a token is needed: open the address that was printed at the start, with ?token=...")

    def _is_token(self, text: str) -> bool:
        return hmac.compare_digest(text.encode("utf-8", "replace"), (self.token or "").encode())


def _cookie(text: str) -> str:
    try:
        found = SimpleCookie(text).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found else ""


def _error(status: int, text: str) -> JSONResponse:
    return JSONResponse({"error": text}, status_code=status)


async def _bounded(receive: Receive, limit: int) -> bytes | None:
    """The whole body; None where it is larger.

    What is beyond the limit is read and forgotten, up to some times as much: who still sends when a connection is closed
    sees that it broke, and not why.
    """
    parts, size, more = [], 0, True
    while more and size <= _FORGOTTEN * limit:
        message = await receive()
        if message["type"] != "http.request":
            break
        size += len(message.get("body", b""))
        if size <= limit:
            parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts) if size <= limit else None


def _replay(body: bytes, receive: Receive) -> Receive:
    given = False

    async def replayed() -> dict[str, Any]:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed
