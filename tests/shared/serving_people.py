"""``discreet serve`` as a process of a test, or whatever else stays up and says when it is ready."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as held:
        return int(held.getsockname()[1])


@contextmanager
def started(*words: str, ready: str = '"said": "listening"') -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """Run a command until the block ends; yield it when it says that it is ready, with what it said."""
    process = subprocess.Popen([*words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    told: list[str] = []
    try:
        for line in process.stdout or ():
            told.append(line)
            if ready in line:
                break
        else:
            raise AssertionError("".join(told))
        yield process, told
    finally:
        process.kill()
        process.wait(30)
        if process.stdout:
            process.stdout.close()


def key_in(told: list[str]) -> str:
    found = re.search(r"discreet_[0-9a-f]{12}_[A-Za-z0-9_-]+", "".join(told))
    assert found is not None
    return found[0]
