"""The guard in front of Dagster's web application, which checks nothing itself.

A request passes if its host is this server, it comes from this server's own pages or not from a page,
and it has the token. The token is printed with the address; the browser then keeps it in a cookie, and
a script sends it in an `Authorization: Bearer` header.
"""

from collections.abc import Sequence
from secrets import compare_digest
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
"""The names of this machine's loopback interface."""

MAX_BODY = 4 * 1024 * 1024
"""The largest request body, and the largest message of a websocket, in bytes."""

_OWN_PAGES = (None, "same-origin", "none")  # `none`: typed, pasted or bookmarked
_HEADERS = {
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_HASHED_FILES = "/_next/"  # their names change with their content, so a browser may keep them
_HOW_TO_GET_IN = "Open the address with the token that ft-assets ui printed when it started."


class Refusal(NamedTuple):
    """The reason why a request is refused, and what to do instead."""

    status: int
    message: str


class Guard:
    """ASGI middleware that passes on only requests of the server's owner."""

    def __init__(
        self,
        app: ASGIApp,
        token: str,
        port: int,
        proxied: Sequence[str] = (),
        landing: str = "/",
    ) -> None:
        """Guards `app`, served on `port` and, under the host names `proxied`, by a proxy with TLS.

        A request for the root with the token is redirected to `landing`.
        """
        self._landing = landing
        self._app = app
        self._token = token.encode()
        self._cookie = f"ft_assets_{port}"
        self._origins = {f"{name}:{port}": f"http://{name}:{port}" for name in LOOPBACK}
        if port == 80:
            self._origins |= {name: f"http://{name}" for name in LOOPBACK}
        self._origins |= {name.lower(): f"https://{name.lower()}" for name in proxied}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request or websocket."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        answer: ASGIApp = self._app
        send = _with_headers(scope, send)
        if refusal := self._refusal(scope):
            answer = _page(refusal)
        elif _token_in_query(scope) is not None:
            answer = self._enter(scope)
        elif scope["type"] == "http" and scope["method"] == "POST":
            body = await _read(receive)
            if body is None:
                answer = _page(Refusal(413, f"Its body is larger than {MAX_BODY:,} bytes."))
            else:
                receive = _again(body, receive)
        await answer(scope, receive, send)

    def _refusal(self, scope: Scope) -> Refusal | None:
        return (
            self._foreign(scope)
            or (_unwanted(scope) if scope["type"] == "http" else None)
            or self._unknown(scope)
        )

    def _foreign(self, scope: Scope) -> Refusal | None:
        """Refuses requests from another site's page, and requests to another host name."""
        host, site = _header(scope, "host") or "", _header(scope, "sec-fetch-site")
        own_origin = self._origins.get(host.lower())
        if own_origin is None:
            return Refusal(
                403,
                f"It is for the host {host!r}, which this server does not answer to. Open "
                f"{next(iter(self._origins.values()))}, or name the host of your proxy with "
                "--behind-proxy.",
            )
        origin = _header(scope, "origin")
        if origin not in (None, own_origin) or site not in _OWN_PAGES:
            return Refusal(
                403,
                "It comes from a page of another site. To follow a link to this server, copy the "
                "link into the address bar.",
            )
        if scope["type"] == "websocket" and origin is None and not _bearer(scope):
            return Refusal(403, "A websocket without an Origin needs Authorization: Bearer TOKEN.")
        return None

    def _unknown(self, scope: Scope) -> Refusal | None:
        """Refuses requests without the token."""
        asked = _token_in_query(scope)
        given = [asked] if asked is not None else [_bearer(scope), *self._cookies(scope)]
        if any(compare_digest(one, self._token) for one in given):
            return None
        what = "Its token is wrong; each start of the server has a new one. " if any(given) else ""
        return Refusal(
            401, f"{what}{_HOW_TO_GET_IN} A script sends it as Authorization: Bearer TOKEN."
        )

    def _cookies(self, scope: Scope) -> list[bytes]:
        """All cookies with our name: a page on another port of this host can set one too."""
        pairs = (_header(scope, "cookie") or "").replace(",", ";").split(";")
        named = [pair.strip().partition("=") for pair in pairs]
        return [value.encode() for name, _, value in named if name == self._cookie]

    def _enter(self, scope: Scope) -> Response:
        """Moves the token from the address into a cookie."""
        query = urlencode([(k, v) for k, v in _query(scope) if k != "token"])
        path = "/" + quote(scope["path"].lstrip("/"))
        to = f"{path}?{query}" if query else path
        answer = RedirectResponse(self._landing if to == "/" else to, status_code=303)
        origin = self._origins[(_header(scope, "host") or "").lower()]
        answer.set_cookie(
            self._cookie,
            self._token.decode(),
            httponly=True,
            samesite="strict",
            secure=origin.startswith("https:"),
        )
        return answer


def _unwanted(scope: Scope) -> Refusal | None:
    """Refuses the requests that the web UI never makes."""
    path, method = scope["path"].strip("/"), scope["method"]
    if path.startswith("report_"):
        return Refusal(403, "Events are reported by runs only; materialize the asset instead.")
    if method == "POST":
        kind = (_header(scope, "content-type") or "").partition(";")[0].strip().lower()
        if kind != "application/json":
            return Refusal(415, "A POST must have the content type application/json.")
    elif method not in ("GET", "HEAD"):
        return Refusal(405, "The methods are GET, HEAD and POST.")
    elif path == "graphql" and any(name == "query" for name, _ in _query(scope)):
        return Refusal(405, "Send GraphQL by POST, as application/json.")
    return None


def _header(scope: Scope, name: str) -> str | None:
    """A header's value; repeated headers are joined, so that they match no allowed value."""
    return ", ".join(Headers(scope=scope).getlist(name)) or None


def _query(scope: Scope) -> list[tuple[str, str]]:
    return parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)


def _token_in_query(scope: Scope) -> bytes | None:
    if scope["type"] != "http" or scope["method"] != "GET":
        return None
    return next((value.encode() for name, value in _query(scope) if name == "token"), None)


def _bearer(scope: Scope) -> bytes:
    kind, _, token = (_header(scope, "authorization") or "").partition(" ")
    return token.strip().encode() if kind.lower() == "bearer" else b""


def _page(refusal: Refusal) -> Response:
    return PlainTextResponse(
        f"ft-assets refused this request. {refusal.message}\n",
        refusal.status,
        {"Connection": "close"} if refusal.status == 413 else None,
    )


def _with_headers(scope: Scope, send: Send) -> Send:
    """Adds headers to every answer: other sites may not frame it, read it or learn its address."""

    async def sending(message: Message) -> None:
        if message["type"].endswith("response.start"):
            headers = MutableHeaders(scope=message)
            headers.update(_HEADERS)
            headers.append("Content-Security-Policy", "frame-ancestors 'none'")
            if not scope["path"].startswith(_HASHED_FILES):
                headers.setdefault("Cache-Control", "no-store")
        await send(message)

    return sending


async def _read(receive: Receive) -> bytes | None:
    """The whole body of a request; None if it is larger than MAX_BODY."""
    parts, size, more = [], 0, True
    while more and size <= MAX_BODY:
        message = await receive()
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        more = message.get("more_body", False)  # absent if the client has gone
    return b"".join(parts) if size <= MAX_BODY else None


def _again(body: bytes, receive: Receive) -> Receive:
    """A `receive` that returns a body that was already read."""
    whole: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receiving() -> Message:
        return whole.pop() if whole else await receive()

    return receiving
