"""One of three servers that compute on shares: a process of the environment in which SPU is installed.

Started by :mod:`discreet.engines.spu`, never by hand, as a file: nothing of this package is imported here, since SPU
needs an older NumPy. What this process knows is a share of the model and of each question, which is noise to it.

A frame, in and out, is a kind of one byte, a length of eight, and so many bytes. In come ``S`` (settings, JSON) and
``M`` (its share of the model), then any number of ``Q`` (a session of 32 bytes, and a share of what is known). Out go
``R`` (ready), then to each question ``A`` (its session, and a share of the list) or ``L`` (its session: not all three
were asked in time); or ``F`` (a word: why this process ends). It ends with its parent.

Questions reach the three in any order, so the first party says which one is next, hears whether the others have it,
and tells them whether it is computed: on a channel of their link, where it also shows that it lives.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

VERSION = "0.9.5"
SESSION = 32
HEARTBEAT = 1.0
"""Seconds of silence after which the first party shows that it lives."""
PATIENCE = 2.0
"""Seconds that a question waits for the others to be asked it, too."""
KNOWN = 1 << 61
RANKS = 256
"""As in ``discreet.protocols.ranking``, whose formula is computed here."""

Answer = Callable[[bytearray], bytes]
"""From a party's share of what is known to its share of the list."""


class Wire:
    """The parent, at the other end of a socket."""

    def __init__(self, descriptor: int) -> None:
        self._socket, self._lock = socket.socket(fileno=descriptor), threading.Lock()

    def send(self, kind: bytes, *parts: bytes) -> None:
        """Send a frame; without a parent, end."""
        try:
            with self._lock:
                self._socket.sendall(kind + struct.pack(">Q", sum(map(len, parts))))
                for part in parts:
                    self._socket.sendall(part)
        except OSError:
            os._exit(0)

    def take(self, kind: bytes, most: int) -> bytearray:
        """Return a frame of a kind, of at most so many bytes; without a parent, end."""
        head = self._read(9)
        (size,) = struct.unpack(">Q", head[1:])
        if head[:1] != kind or size > most:
            os._exit(1)
        return self._read(size)

    def _read(self, size: int) -> bytearray:
        content = bytearray(size)
        view = memoryview(content)
        while view:
            try:
                count = self._socket.recv_into(view)
            except OSError:
                count = 0
            if not count:
                os._exit(0)
            view = view[count:]
        return content


class Questions:
    """What was asked and not yet answered, by session, in the order in which it came."""

    def __init__(self, wire: Wire, rows: int) -> None:
        self._waiting: dict[bytes, tuple[bytearray, float]] = {}
        self._changed = threading.Condition()
        self._wire, self._size = wire, SESSION + 16 * rows

    def follow(self) -> NoReturn:
        """Take questions, as long as there is a parent."""
        while True:
            content = self._wire.take(b"Q", self._size)
            if len(content) != self._size:
                os._exit(1)
            with self._changed:
                self._waiting[bytes(content[:SESSION])] = (content[SESSION:], time.monotonic())
                self._changed.notify_all()

    def oldest(self, seconds: float) -> bytes | None:
        """Return the session that waits longest, or None if none came in time."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting, seconds)
            return next(iter(self._waiting), None)

    def has(self, session: bytes, seconds: float) -> bool:
        """Tell whether a session is here, or comes in time."""
        with self._changed:
            return self._changed.wait_for(lambda: session in self._waiting, seconds)

    def pop(self, session: bytes) -> bytearray | None:
        """Return the share that was asked with, and forget it; None if it was not asked."""
        with self._changed:
            return self._waiting.pop(session, (None, 0.0))[0]

    def late(self, seconds: float) -> list[bytes]:
        """Forget, and return, the sessions that have waited for longer."""
        until = time.monotonic() - seconds
        with self._changed:
            found = [session for session, (_, came) in self._waiting.items() if came < until]
            for session in found:
                del self._waiting[session]
            return found


class Shares:
    """Shares as SPU holds them: of each number the party's own third and the next one's, as 64 bits."""

    def __init__(self, library: Any) -> None:
        self._library = library

    def packed(self, content: bytearray, shape: tuple[int, ...]) -> Any:
        """Return SPU's share of int64 numbers of a shape."""
        meta, chunk, share = self._library.ValueMeta(), self._library.ValueChunk(), self._library.Share()
        meta.data_type, meta.visibility = self._library.DataType.DT_I64, self._library.Visibility.VIS_SECRET
        meta.shape, meta.storage_type = list(shape), "aby3.AShr<FM64>"
        chunk.total_bytes, chunk.chunk_offset, chunk.content = len(content), 0, bytes(content)
        share.meta, share.share_chunks = meta.SerializeToString(), [chunk.SerializeToString()]
        return share

    def unpacked(self, share: Any, size: int) -> bytes:
        """Return what a share of SPU's holds.

        Raises:
            ValueError: it is not replicated and additive, or of another size.
        """
        meta, chunk = self._library.ValueMeta(), self._library.ValueChunk()
        meta.ParseFromString(share.meta)
        chunk.ParseFromString(share.share_chunks[0])
        if meta.storage_type != "aby3.AShr<FM64>" or len(share.share_chunks) != 1 or len(chunk.content) != size:
            raise ValueError(meta.storage_type)
        return bytes(chunk.content)


def compiled(rows: int, width: int, listed: int, library: Any) -> Any:
    """Return what is computed, for SPU; compiled once, as its shape does not change."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    import spu.utils.frontend as frontend

    jax.config.update("jax_enable_x64", True)
    tie = (rows - 1).bit_length()
    first_wins = np.arange(rows - 1, -1, -1, dtype=np.int64)

    def words(known: Any, one: Any, decoder: Any, *encoder: Any) -> Any:
        factor = known @ encoder[0] if encoder else known
        keys = (decoder @ factor) * (1 << tie) + first_wins - known * KNOWN
        largest, positions = jax.lax.top_k(keys, listed)  # the largest, but not in their order
        larger = (largest[:, None] < largest[None, :]).astype(jnp.int64).sum(axis=1)
        return (positions.astype(jnp.int64) * RANKS + larger) * one

    def of(*shape: int) -> Any:
        return jax.ShapeDtypeStruct(shape, jnp.int64)

    matrices = {"decoder": of(rows, width or rows)} | ({"encoder": of(rows, width)} if width else {})
    inputs = {"known": of(rows), "one": of()} | matrices
    secret = [library.Visibility.VIS_SECRET] * len(inputs)
    executable, _ = frontend.compile(
        frontend.Kind.JAX, words, tuple(inputs.values()), {}, list(inputs), secret, lambda found: ["words"] * len(found)
    )
    return executable


def linked(library: Any, settings: dict[str, Any]) -> Any:
    """Return a link to the other two."""
    link = library.link
    described = link.Desc()
    described.id = settings["link"]
    for seat, address in enumerate(settings["addresses"]):
        described.add_party(f"party{seat}", address)
    described.recv_timeout_ms = described.http_timeout_ms = int(1000 * settings["deadline"])
    described.connect_retry_interval_ms = 100
    described.connect_retry_times = int(10 * settings["deadline"])
    return link.create_brpc(described, settings["seat"])


def lead(link: Any, questions: Questions, wire: Wire, answer: Answer) -> NoReturn:
    """Say which question is next, as the first party, and compute it if the others have it."""
    while True:
        session = questions.oldest(HEARTBEAT)
        for other in (1, 2):
            link.send(other, session or b"-")
        if session is None:
            continue
        verdict = b"y" if [link.recv(other) for other in (1, 2)] == [b"y", b"y"] else b"n"
        for other in (1, 2):
            link.send(other, verdict)
        settle(session, verdict, questions, wire, answer)


def follow(link: Any, questions: Questions, wire: Wire, answer: Answer, seconds: float) -> NoReturn:
    """Compute what the first party says is next; what it has not named in time is late."""
    while True:
        session = link.recv(0)
        if len(session) == SESSION:
            link.send(0, b"y" if questions.has(session, PATIENCE) else b"n")
            settle(session, link.recv(0), questions, wire, answer)
        for late in questions.late(seconds):
            wire.send(b"L", late)


def settle(session: bytes, verdict: bytes, questions: Questions, wire: Wire, answer: Answer) -> None:
    """Compute a question, or say that it is not."""
    share = questions.pop(session)
    if share is not None and verdict == b"y":
        wire.send(b"A", session, answer(share))
    elif share is not None:
        wire.send(b"L", session)


def main() -> None:
    """Do what is asked until the other side hangs up."""
    wire = Wire(int(sys.argv[1]))
    settings = json.loads(bytes(wire.take(b"S", 1 << 16)))
    rows, width, listed = settings["rows"], settings["width"], settings["listed"]
    numbers = 1 + (2 * rows * width if width else rows * rows)
    model = wire.take(b"M", 16 * numbers)
    questions = Questions(wire, rows)
    threading.Thread(target=questions.follow, daemon=True).start()
    why = b"missing"
    try:
        import spu
        from spu import libspu

        if spu.__version__ != VERSION or len(model) != 16 * numbers:
            raise ImportError(spu.__version__)
        why = b"compiler"
        executable, shares = compiled(rows, width, listed, libspu), Shares(libspu)
        why = b"link"
        link = linked(libspu, settings)
        protocol, field = libspu.ProtocolKind.ABY3, libspu.FieldType.FM64
        runtime = spu.Runtime(link, libspu.RuntimeConfig(protocol=protocol, field=field))
        cells = 16 * rows * (width or rows)
        if width:
            runtime.set_var("encoder", shares.packed(model[:cells], (rows, width)))
        runtime.set_var("decoder", shares.packed(model[-16 - cells : -16], (rows, width or rows)))
        runtime.set_var("one", shares.packed(model[-16:], ()))
        del model

        def answer(share: bytearray) -> bytes:
            runtime.set_var("known", shares.packed(share, (rows,)))
            runtime.run(executable)
            return shares.unpacked(runtime.get_var("words"), 16 * listed)

        channel = link.spawn()
        link.barrier()
        wire.send(b"R")
        if settings["seat"] == 0:
            lead(channel, questions, wire, answer)
        follow(channel, questions, wire, answer, 0.9 * settings["deadline"])
    except (ImportError, RuntimeError, ValueError):  # what SPU and its link raise: the parent is told where
        wire.send(b"F", why)
    os._exit(1)


if __name__ == "__main__":
    main()
