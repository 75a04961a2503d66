"""Summing that kills the worker who does it, once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Dying:
    """``work``; but whoever is the first to make the file ``flag`` dies of it."""

    work: Callable[[Any], Any]
    flag: Path

    def __call__(self, rows: Any) -> Any:
        try:
            self.flag.touch(exist_ok=False)
        except FileExistsError:
            return self.work(rows)
        os.kill(os.getpid(), signal.SIGKILL)
        return None
