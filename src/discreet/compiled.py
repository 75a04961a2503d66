"""One way to compile a kernel, typed.

Numba ships no type hints; wrapping its decorator once keeps the kernels' own signatures visible to type checkers.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from typing import ParamSpec, TypeVar, cast

P = ParamSpec("P")
R = TypeVar("R")


def compiled(kernel: Callable[P, R]) -> Callable[P, R]:
    """Compile ``kernel`` on first use, without the GIL, and keep the machine code beside the source.

    Where Numba is not installed, or ``NUMBA_DISABLE_JIT`` is 1, the same lines are interpreted: on a device the row of
    one person is soon made. No ``fastmath``: results do not depend on how sums were reordered by the compiler.
    """
    if os.environ.get("NUMBA_DISABLE_JIT") == "1" or not find_spec("numba"):
        return kernel
    import numba

    return cast("Callable[P, R]", numba.njit(nogil=True, cache=True)(kernel))
