"""A server in a thread of a test."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from discreet.service.listening import Address


def up(server: uvicorn.Server, address: Address) -> threading.Thread:
    """Start it; return once it answers."""
    thread = threading.Thread(target=server.run, args=([address.bound()],), daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    return thread


@contextmanager
def running(server: uvicorn.Server, address: Address) -> Iterator[None]:
    """Run it for as long as this is open."""
    thread = up(server, address)
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(30)
