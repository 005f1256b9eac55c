"""Who may ask: whoever has the token; without one only programs of this machine."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from starlette.responses import JSONResponse

from worker.errors import UsageError
from worker.gpus.refusals import Reason, Refusal

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def check_listening(host: str, token: str) -> None:
    if not token and not is_loopback(host):
        raise UsageError(
            f"--host {host}: others could take GPUs: set WORKER_TOKEN, or listen on 127.0.0.1 alone"
        )


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


class Gate:
    """`hosts`: names that a request may be addressed to; none: any. A page in a browser of this machine can
    send requests here under its own name only, so without a token the name is looked at."""

    def __init__(
        self,
        app: App,
        prefix: str | tuple[str, ...],
        open_paths: Sequence[str],
        token: str,
        hosts: Sequence[str],
    ) -> None:
        self._app = app
        self._prefix = prefix
        self._open = open_paths
        self._token = token.encode()
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._may(scope):
            await self._app(scope, receive, send)
            return
        refused = Refusal(Reason.UNAUTHORISED)
        told = {"success": False, "error": {"code": refused.reason.code, "message": str(refused)}}
        await JSONResponse(told, 401, {"WWW-Authenticate": "Bearer"})(scope, receive, send)

    def _may(self, scope: Scope) -> bool:
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1").rsplit(":", 1)
        name = host[0] if len(host) == 2 and host[1].isdecimal() else ":".join(host)
        if self._hosts and name not in self._hosts:
            return False
        if not self._token or not scope["path"].startswith(self._prefix) or scope["path"] in self._open:
            return True
        kind, _, given = headers.get(b"authorization", b"").partition(b" ")
        return kind.lower() == b"bearer" and hmac.compare_digest(given.strip(), self._token)
