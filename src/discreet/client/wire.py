"""HTTPS from a device to a server: bounded, tried again until a deadline, and signed where the server has to know."""

from __future__ import annotations

import hashlib
import http.client
import ipaddress
import math
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
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
CHANGE = "discreet-change"
"""What a device accepts instead of a newer model (RFC 3229): what changed."""
LONGEST_PATIENCE = 86_400.0
TOO_OFTEN = 429
LONG_POLL = 25.0
"""Seconds that a server may keep a question waiting; a connection is given up a little later."""


class Over(ProtocolError):
    """What was asked for is over: the session, or the run."""


class Denied(ProtocolError):
    """The server refused, and said why.

    Attributes:
        status: of its answer.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class TooOften(Denied):
    """The server answers whoever asks no more for now."""


@dataclass(frozen=True)
class Wire:
    """A way to a server.

    Attributes:
        url: such as ``https://127.0.0.1:8443``; without TLS only to this machine itself.
        identity: signing key, with which each request is signed; None: requests are nobody's.
        seat: of this device in the roster.
        ca: certificate (PEM) that the server's is signed by, pinned; None: those of the system.
        patience: seconds for which a server that cannot be reached, or is busy, is tried again.
        most: bytes of an answer.

    Raises:
        SettingError: the address is none, or would send in clear over a network.
    """

    url: str
    identity: Ed25519PrivateKey | None = field(default=None, repr=False)
    seat: int = -1
    ca: Path | None = None
    patience: float = 120.0
    most: int = MOST

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
            raise SettingError("without TLS a server is reached on this machine alone; give an https address")

    def get(self, path: str) -> bytes | None:
        """Return what is there, or None if nothing is yet.

        Raises:
            Over: it will not be there any more.
            Denied: the server refused, and says why; TooOften, if that is all: it is not tried again.
            ProtocolError: its answer is longer than one may be.
            EngineLost: it could not be reached for as long as ``patience``.
        """
        return self._asked("GET", path, b"")[0]

    def newer(self, path: str, version: str | None) -> tuple[str, bytes] | None:
        """Return what is there, or what changed, and its version (an entity tag); None if that is the one held.

        Raises:
            Over, ProtocolError, EngineLost: as for ``get``.
        """
        headers = {} if version is None else {"If-None-Match": version, "A-IM": CHANGE}
        content, found = self._asked("GET", path, b"", headers)
        return None if content is None else (found, content)

    def put(self, path: str, content: bytes) -> None:
        """Send a message; sent twice, it counts once.

        Raises:
            Over, ProtocolError, EngineLost: as for ``get``.
        """
        self._asked("PUT", path, content)

    def post(self, path: str, content: bytes) -> bytes:
        """Return the answer to a question; asked twice, it may be answered twice.

        Raises:
            Over, ProtocolError, EngineLost: as for ``get``.
        """
        return self._asked("POST", path, content)[0] or b""

    def wait(self, path: str, longest: float = math.inf) -> bytes:
        """Return what is there, as soon as it is.

        Args:
            path: where.
            longest: seconds to wait; one question more may be asked before they are over.

        Raises:
            Over, ProtocolError: as for ``get``.
            EngineLost: as for ``get``, or it was not there in time.
        """
        asked, begun = time.monotonic(), time.monotonic()
        while (content := self.get(path)) is None:
            if time.monotonic() - begun > longest:
                raise EngineLost(f"the server had no answer within {longest:g} seconds; try again later")
            if time.monotonic() - asked < 1.0:  # it was to keep this waiting, and did not
                time.sleep(1.0)
            asked = time.monotonic()
        return content

    def _asked(
        self, method: str, path: str, content: bytes, headers: Mapping[str, str] | None = None
    ) -> tuple[bytes | None, str]:
        """Return an answer, None if there is none yet or none that is newer, and its entity tag."""
        status, body, tag = self._until_answered(lambda: self._once(method, path, content, headers or {}))
        if status in {200, 204, 226, 304}:
            return body if status in {200, 226} else None, tag
        said = body[:200].decode(errors="replace")
        if status in {404, 410}:
            raise Over("what was asked for is over")
        raise Denied(f"the server refused ({status}): {said if said.isprintable() else 'no reason given'}", status)

    def _until_answered(self, ask: Callable[[], tuple[int, bytes, str]]) -> tuple[int, bytes, str]:
        deadline, pause = time.monotonic() + self.patience, PAUSE
        while True:
            try:
                status, body, tag = ask()
                if status < 500:
                    return status, body, tag
                reason = f"it answers {status}"
            except ssl.SSLCertVerificationError:
                raise EngineLost("the server's certificate is not the one that is pinned here") from None
            except (OSError, UnicodeError, http.client.HTTPException) as error:
                reason = type(error).__name__
            if time.monotonic() + pause > deadline:
                raise EngineLost(f"the server cannot be reached ({reason}); try again later")
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _once(self, method: str, path: str, content: bytes, headers: Mapping[str, str]) -> tuple[int, bytes, str]:
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
            connection.request(method, path, content or None, {**headers, **self._head(method, path, content)})
            with connection.getresponse() as answer:  # it may hold the socket, which an error would hold with it
                body, told = _body_of(answer, self.most), answer.headers
            if answer.status == TOO_OFTEN:
                when = _when(told.get("Retry-After", ""))
                raise TooOften(f"the server refused (429): it was asked too often; ask again {when}", TOO_OFTEN)
            return answer.status, body, told.get("ETag", "")
        finally:
            watch.cancel()
            connection.close()

    def _head(self, method: str, path: str, content: bytes) -> dict[str, str]:
        if self.identity is None:
            return {"Content-Type": BINARY}
        digest = hashlib.sha256(content).digest()
        signature = self.identity.sign(request_text(method, urlsplit(path).path, digest))
        return {"Authorization": f"Discreet {digest.hex()} {signature.hex()}", "Content-Type": BINARY}


def _cut(connection: http.client.HTTPConnection) -> None:
    with suppress(AttributeError, OSError):
        connection.sock.shutdown(socket.SHUT_RDWR)


def _body_of(answer: http.client.HTTPResponse, most: int) -> bytes:
    """Return an answer's body, of which no more than ``most`` bytes are read."""
    parts, size = [], 0
    while part := answer.read1(1 << 16):
        parts.append(part)
        size += len(part)
        if size > most:
            raise ProtocolError("the server sends more than a message may have")
    return b"".join(parts)


def _when(told: str) -> str:
    """Return when to ask again, by what a server says of it: seconds, of a day at most, if they are any."""
    return f"in {-(-int(told) // 60):,} minutes" if told.isdecimal() and len(told) < 6 else "later"


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
