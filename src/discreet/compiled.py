"""One way to compile a kernel, typed.

Numba ships no type hints; wrapping its decorator once keeps the kernels' own signatures visible to type checkers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

import numba

P = ParamSpec("P")
R = TypeVar("R")


def compiled(kernel: Callable[P, R]) -> Callable[P, R]:
    """Compile ``kernel`` on first use, without the GIL, and keep the machine code beside the source.

    No ``fastmath``: results do not depend on how sums were reordered by the compiler.
    """
    return cast("Callable[P, R]", numba.njit(nogil=True, cache=True)(kernel))
