"""HTTPS from a device to a coordinator: signed, bounded, tried again until a deadline."""

from __future__ import annotations

import hashlib
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from discreet.errors import EngineLost, ProtocolError, SettingError
from discreet.models.broadcast import MOST
from discreet.protocols.keys import request_text

PAUSE = 0.25
"""Seconds between two attempts, at first; it doubles up to ``LONGEST_PAUSE``."""

LONGEST_PAUSE = 4.0
LONGEST_BODY = 300.0
"""Seconds in which a message has to be there, whole."""

BINARY = "application/octet-stream"
LONGEST_PATIENCE = 86_400.0
LONG_POLL = 25.0
"""Seconds that a server may keep a question waiting; a connection is given up a little later."""


class Over(ProtocolError):
    """What was asked for is over: the session, or the run."""


@dataclass(frozen=True)
class Wire:
    """A way to a coordinator.

    Attributes:
        url: such as ``https://127.0.0.1:8443``; without TLS only to this machine itself.
        identity: signing key, with which each request is signed.
        seat: of this device in the roster.
        ca: certificate (PEM) that the coordinator's is signed by, pinned; None: those of the system.
        patience: seconds for which a coordinator that cannot be reached is tried again.

    Raises:
        SettingError: the address is none, or would send in clear over a network.
    """

    url: str
    identity: Ed25519PrivateKey = field(repr=False)
    seat: int
    ca: Path | None = None
    patience: float = 120.0

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            right = parts.scheme in {"https", "http"} and bool(parts.hostname) and parts.port != 0
        except ValueError:
            right = False
        if not right:
            raise SettingError("a server's address is like https://host:port")
        if not 0 <= self.patience < LONGEST_PATIENCE:
            raise SettingError("patience is a number of seconds, of a day at most")
        if self.ca is not None:
            try:
                ssl.create_default_context(cafile=str(self.ca))
            except OSError as error:
                raise SettingError(f"{self.ca}: is no certificate that can be used ({type(error).__name__})") from None
        if parts.scheme == "http" and not _is_here(parts.hostname or ""):
            raise SettingError("without TLS a coordinator is reached on this machine alone; give an https address")

    def get(self, path: str) -> bytes | None:
        """Return what is there, or None if nothing is yet.

        Raises:
            Over: it will not be there any more.
            ProtocolError: the coordinator refused, and says why.
            EngineLost: it could not be reached for as long as ``patience``.
        """
        return self._asked("GET", path, b"")

    def put(self, path: str, content: bytes) -> None:
        """Send a message; sent twice, it counts once.

        Raises:
            Over, ProtocolError, EngineLost: as for ``get``.
        """
        self._asked("PUT", path, content)

    def wait(self, path: str) -> bytes:
        """Return what is there, as soon as it is.

        Raises:
            Over, ProtocolError, EngineLost: as for ``get``.
        """
        asked = time.monotonic()
        while (content := self.get(path)) is None:
            if time.monotonic() - asked < 1.0:  # it was to keep this waiting, and did not
                time.sleep(1.0)
            asked = time.monotonic()
        return content

    def _asked(self, method: str, path: str, content: bytes) -> bytes | None:
        status, body = self._until_answered(lambda: self._once(method, path, content))
        if status in {200, 204}:
            return body if status == 200 else None
        said = body[:200].decode(errors="replace")
        if status in {404, 410}:
            raise Over("what was asked for is over")
        raise ProtocolError(f"the coordinator refused ({status}): {said if said.isprintable() else 'no reason given'}")

    def _until_answered(self, ask: Callable[[], tuple[int, bytes]]) -> tuple[int, bytes]:
        deadline, pause = time.monotonic() + self.patience, PAUSE
        while True:
            try:
                status, body = ask()
                if status < 500:
                    return status, body
                reason = f"it answers {status}"
            except ssl.SSLCertVerificationError:
                raise EngineLost("the coordinator's certificate is not the one that is pinned here") from None
            except (OSError, UnicodeError, http.client.HTTPException) as error:
                reason = type(error).__name__
            if time.monotonic() + pause > deadline:
                raise EngineLost(f"the coordinator cannot be reached ({reason}); try again later")
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _once(self, method: str, path: str, content: bytes) -> tuple[int, bytes]:
        parts, timeout = urlsplit(self.url), LONG_POLL + 10
        assert parts.hostname  # noqa: S101 - checked when this was made
        if parts.scheme == "https":
            context = ssl.create_default_context(cafile=None if self.ca is None else str(self.ca))
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                parts.hostname, parts.port, timeout=timeout, context=context
            )
        else:
            connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout)
        watch = threading.Timer(timeout + LONGEST_BODY, _cut, [connection])  # each read waits for a byte, not for all
        watch.daemon = True
        watch.start()
        try:
            digest = hashlib.sha256(content).digest()
            signature = self.identity.sign(request_text(method, urlsplit(path).path, digest))
            headers = {"Authorization": f"Discreet {digest.hex()} {signature.hex()}", "Content-Type": BINARY}
            connection.request(method, path, content or None, headers)
            answer = connection.getresponse()
            return answer.status, _body_of(answer)
        finally:
            watch.cancel()
            connection.close()


def _cut(connection: http.client.HTTPConnection) -> None:
    with suppress(AttributeError, OSError):
        connection.sock.shutdown(socket.SHUT_RDWR)


def _body_of(answer: http.client.HTTPResponse) -> bytes:
    """Return an answer's body, of which no more is read than a message may have."""
    parts, size = [], 0
    while part := answer.read1(1 << 16):
        parts.append(part)
        size += len(part)
        if size > MOST:
            raise ProtocolError("the coordinator sends more than a message may have")
    return b"".join(parts)


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
