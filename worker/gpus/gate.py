"""Who may ask: whoever has the token; without one only programs of this machine."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any

from starlette.exceptions import HTTPException

from worker.errors import UsageError
from worker.gpus.answers import told
from worker.gpus.refusals import Reason, Refusal

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
MOST_BYTES = 1 << 20
"""of a request: they are read into memory"""

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
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if refused := self._refusal(scope["path"], headers):
            spoken = headers.get(b"accept-language", b"").decode("latin-1")
            await told(refused, spoken)(scope, receive, send)
            return
        await self._app(scope, _limited(receive), send)

    def _refusal(self, path: str, headers: Mapping[bytes, bytes]) -> Refusal | None:
        host = headers.get(b"host", b"").decode("latin-1").rsplit(":", 1)
        name = host[0] if len(host) == 2 and host[1].isdecimal() else ":".join(host)
        if self._hosts and name.casefold() not in self._hosts:
            return Refusal(Reason.WRONG_HOST, said=name, known=", ".join(self._hosts))
        if self._token and path.startswith(self._prefix) and path not in self._open:
            kind, _, given = headers.get(b"authorization", b"").partition(b" ")
            if kind.lower() != b"bearer" or not hmac.compare_digest(given.strip(), self._token):
                return Refusal(Reason.UNAUTHORISED)
        length = headers.get(b"content-length", b"0")
        too_large = not length.isdigit() or int(length[:20]) > MOST_BYTES
        return Refusal(Reason.TOO_LARGE, said=MOST_BYTES) if too_large else None


def _limited(receive: Receive) -> Receive:
    """Who does not say how much he sends is not heard to the end either."""
    heard = 0

    async def limited() -> Any:
        nonlocal heard
        message = await receive()
        heard += len(message.get("body", b""))
        if heard > MOST_BYTES:
            raise HTTPException(413, str(MOST_BYTES))
        return message

    return limited
