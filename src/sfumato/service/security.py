"""Who may ask, and what browsers are told: looked at before anything of a request is read."""

import logging
import time
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sfumato.service.logs import log
from sfumato.service.metrics import Metrics
from sfumato.service.token import is_token

OPEN_PLACES = ("/healthz", "/readyz", "/auth/", "/auth/token")
"""What is answered without a token, beside the page's own files."""
_QUIET_PLACES = ("/healthz", "/readyz", "/metrics")
"""What monitors ask all the time."""
_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH")
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        # NiiVue keeps its letters as a data: picture, and the page shows planes from blobs.
        "img-src 'self' blob: data:",
        # NiiVue reads files that were dropped, and its letters' sizes, by fetching their address.
        "connect-src 'self' blob: data:",
        # NiiVue computes some of its filters in a worker made from a blob.
        "worker-src 'self' blob:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class Guard:
    """Refuses what may not ask, adds headers, and notes every answer.

    Args:
        app: What answers.
        token: What must be shown; None where nothing is asked for.
        hosts: Names under which the server may be addressed: another name is a foreign page that
            had a name point here.
        page_places: What the page consists of.
        metrics: Where answers are counted.
    """

    def __init__(
        self,
        app: ASGIApp,
        token: str | None,
        hosts: tuple[str, ...],
        page_places: frozenset[str],
        metrics: Metrics,
    ) -> None:
        self._app, self._token, self._hosts, self._metrics = app, token, hosts, metrics
        self._open = frozenset(OPEN_PLACES) | page_places

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        method = scope["method"] if scope["method"] in _METHODS else "other"
        has_begun = False

        async def send_on(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
                self._note(scope, method, message["status"], time.perf_counter() - started)
            await send(message)

        refusal = self._refusal(scope)
        try:
            await (refusal or self._app)(scope, receive, send_on)
        except Exception as error:
            # Its text may hold anything; the kind of error is enough to find it.
            log("error", logging.ERROR, error=type(error).__name__, place=_route(scope))
            if has_begun:
                raise
            await _problem(500, "this met a defect in the server; its log has the time")(
                scope, receive, send_on
            )

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if _without_port(host).lower() not in self._hosts:
            return _problem(421, "this server does not answer to that name")
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return _problem(403, "pages of other servers may not ask here")
        if self._token is None or scope["path"] in self._open:
            return None
        if is_token(self._token, headers.get("authorization", "")):
            return None
        refusal = _problem(401, "show the token: Authorization: Bearer TOKEN")
        refusal.headers["WWW-Authenticate"] = "Bearer"
        return refusal

    def _note(self, scope: Scope, method: str, status: int, seconds: float) -> None:
        self._metrics.answered(method, status, seconds)
        place = _route(scope)
        if place not in _QUIET_PLACES:
            log("answered", method=method, place=place, status=status, seconds=round(seconds, 4))


def _route(scope: Scope) -> str:
    """Name a request by its route: addresses themselves may hold names of files."""
    route = scope.get("route")
    return getattr(route, "path", "other")


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


def _problem(status: int, detail: str) -> JSONResponse:
    return JSONResponse({"detail": detail}, status)
