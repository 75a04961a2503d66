"""Processes of this Python that a command starts, listens to, and ends."""

from __future__ import annotations

import json
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Process:
    """Something that the demo started: what it says, line by line, and its end."""

    running: subprocess.Popen[str]
    lines: queue.Queue[dict[str, Any]] = field(default_factory=queue.Queue)
    said: list[dict[str, Any]] = field(default_factory=list)
    following: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self.following = threading.Thread(target=self.follow, daemon=True)

    def follow(self) -> None:
        """Collect what it says, until it ends."""
        assert self.running.stdout  # noqa: S101 - it was started with a pipe
        with self.running.stdout as said:
            for line in said:
                with suppress(ValueError):
                    self.lines.put(dict(json.loads(line)))
        self.lines.put({})

    def until(self, wanted: str, deadline: float) -> bool:
        """Wait until it has said a stage, or ended; tell whether it said it."""
        while (left := deadline - time.monotonic()) > 0:
            try:
                told = self.lines.get(timeout=left)
            except queue.Empty:
                return False
            if not told:
                return False
            self.said.append(told)
            if told.get("said") == wanted:
                return True
        return False

    def ended(self, deadline: float) -> dict[str, Any]:
        """Wait for its end; return the last thing that it said."""
        self.until("", deadline)
        with suppress(subprocess.TimeoutExpired):
            self.running.wait(max(deadline - time.monotonic(), 1.0))
        return self.said[-1] if self.said else {}


def start(arguments: Sequence[object], log: Path) -> Process:
    """Start a process of this Python; what it complains of goes to a file."""
    with log.open("ab") as errors:
        running = subprocess.Popen(  # noqa: S603 - Python, with arguments made here
            [sys.executable, "-m", *map(str, arguments)], stdout=subprocess.PIPE, stderr=errors, text=True
        )
    process = Process(running)
    process.following.start()
    return process


@contextmanager
def stopping(processes: list[Process]) -> Iterator[list[Process]]:
    """Yield a list of processes; whatever is in it at the end is stopped."""
    try:
        yield processes
    finally:
        for process in processes:
            if process.running.poll() is None:
                process.running.kill()
            process.running.wait()
            process.following.join()


def free_port() -> int:
    """Return a port of the loopback address that nothing listens on."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port
