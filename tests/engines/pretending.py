"""Pretends to be a party that computes on shares, and does as the first argument says; the second is its socket."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import sys


def frame(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack(">Q", len(content)) + content


def main() -> None:
    """Take settings and a model, then questions; end with the parent."""
    behaviour, wire = sys.argv[1], socket.socket(fileno=int(sys.argv[2]))
    taken = wire.makefile("rb")

    def take() -> bytes:
        head = taken.read(9)
        if len(head) < 9:
            sys.exit(0)
        return taken.read(struct.unpack(">Q", head[1:])[0])

    listed = json.loads(take())["listed"]
    take()
    if behaviour != "never ready":
        wire.sendall(frame(b"R" if behaviour != "fails" else b"F", b"" if behaviour != "fails" else b"link"))
    while True:
        session = take()[:32]
        answers = {
            "zeros": frame(b"A", session + bytes(16 * listed)),
            "late": frame(b"L", session),
            "longer": b"A" + struct.pack(">Q", 1 << 40),
            "other length": frame(b"A", session + bytes(8)),
            "other kind": frame(b"?", session),
            "cut short": frame(b"A", session)[:-5],
            "other session": frame(b"A", bytes(32 + 16 * listed)),
        }
        wire.sendall(answers.get(behaviour, b""))
        if behaviour in {"dies", "cut short"}:
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
