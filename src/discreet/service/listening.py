"""Where a server listens, and how it keeps off whoever opens connections and says nothing."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import math
import resource
import socket
import ssl
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from discreet.errors import SettingError

HEAD_SECONDS = 10.0
"""In which a request has to begin on a connection."""

MOST_CONNECTIONS = 1_000
COMPLAINTS = 10.0
"""Seconds between two lines of an event loop's complaints."""


class _Impatient(H11Protocol):
    """A connection that is closed if no request has begun on it soon."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock."""
        super().connection_made(transport)
        # asyncio does so of sockets that it made itself; otherwise short answers over TLS wait for an acknowledgement.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._clock = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def on_response_complete(self) -> None:
        """Start it again, for the next request."""
        super().on_response_complete()
        self._clock.cancel()
        self._clock = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop it."""
        self._clock.cancel()
        super().connection_lost(exc)

    def _give_up(self) -> None:
        cycle = getattr(self, "cycle", None)
        if cycle is None or cycle.response_complete:  # no request was begun, or no other
            self.transport.close()


class _Complaints:
    """What an event loop complains of: a line, now and then, of whatever it is."""

    def __init__(self) -> None:
        self._last = -math.inf

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if loop.time() - self._last > COMPLAINTS:
            self._last = loop.time()
            logging.getLogger("discreet").warning("a connection failed: %s", context.get("message", "no reason given"))


class _Plainly(logging.Filter):
    """A line for a request that fails by a defect, without its stack trace, which may quote what somebody sent.

    None for one that is cut off since the server ends.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether there is anything to say."""
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            place = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(place.filename).name}:{place.lineno}"
            record.msg, record.args = "a request failed: %s at %s", (type(error).__name__, where)
            record.exc_info = None
        return not isinstance(error, asyncio.CancelledError)


_plainly = _Plainly()


class _Server(uvicorn.Server):
    """A server that leaves signals to whoever started it."""

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until it is told to stop."""
        asyncio.get_running_loop().set_exception_handler(_Complaints())
        await super().serve(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


@dataclass(frozen=True)
class Address:
    """Where a server listens.

    Attributes:
        host: of this machine.
        port: of it.
        certificate: PEM, with its chain.
        key: PEM.

    Raises:
        SettingError: it would be reached from elsewhere without TLS.
    """

    host: str = "127.0.0.1"
    port: int = 8443
    certificate: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise SettingError("a certificate and its key go together")
        if self.certificate is None and not _is_loopback(self.host):
            raise SettingError(f"without TLS nothing listens on {self.host}; give a certificate and its key")

    def bound(self) -> socket.socket:
        """Take the address, before anything is charged or asked.

        Raises:
            SettingError: it is in use or not of this machine, or the certificate cannot be used.
        """
        try:
            if self.certificate and self.key:
                ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            raise SettingError(f"the certificate or its key cannot be used ({type(error).__name__})") from None
        try:
            family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
            return socket.create_server((self.host, self.port), family=family)
        except OSError as error:
            raise SettingError(f"cannot listen on {self.host}, port {self.port}: {error.strerror}") from None

    def serving(self, app: FastAPI) -> uvicorn.Server:
        """Return a server of an application; ``serve`` runs it on the socket that was bound."""
        files = {"ssl_certfile": str(self.certificate), "ssl_keyfile": str(self.key)} if self.certificate else {}
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            proxy_headers=False,  # whoever asks from this machine could say that they are somebody else
            lifespan="off",
            http=_Impatient,
            limit_concurrency=min(MOST_CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2),
            timeout_graceful_shutdown=2,
            **files,  # type: ignore[arg-type]
        )
        logging.getLogger("uvicorn.error").addFilter(_plainly)
        return _Server(config)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
