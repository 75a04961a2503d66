"""Lists made of what other people do now: noise is drawn once for each state of the data, and everybody sees the same.

A personal list of a released model tells nothing of anybody else. A list of what is popular this week, or among people
nearby, does: it is made of live data, so it is a release like any other, with noise, a price and a ledger entry. What
is released is kept for as long as the data stays as it is (an *epoch*): asking a thousand times shows one draw of noise
a thousand times, so averaging buys nothing, and costs what one release costs. How a release is made is given: what
makes it has to give the same again for the same epoch, also after a restart (``evaluation/trending`` does, by its
release id).

The device is the one of ``on_device``: it takes what is released for all, its own cohort's list among others, leaves
out what its person knows, and shows nothing to the server.

What is released is one of two, both billed by ``disclose``:

- *Trending*: counts with Gaussian noise; what is protected is each single choice. One choice moves one count by one, so
  all counts are as sensitive as one: noise of deviation s on each costs mu^2 = 1 / s^2 for every length of list, where
  picking the k best by Gumbel noise (Durfee and Rogers 2019) at that price would need a deviation of .80 s sqrt(k).
- *Favourites*: whole people are protected, who may have moved a hundred counts. There picking costs the same for every
  history: lists of k are picked at random, the larger the count the surer, for everybody or for each of several
  cohorts, and no count is told.

==================================  ====================================================================
edge case                           behaviour
==================================  ====================================================================
two ask first, at once              one release; both get it
the budget does not allow another   the list of the epoch before, if there was one; else BudgetExceeded
the release fails otherwise         its error; the next who asks tries again
==================================  ====================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

from discreet.errors import BudgetExceeded
from discreet.inference.on_device import Reply, Request, version_of
from discreet.models.sheet import Sheet


class Noisy:
    """The answering side.

    Args:
        release: of an epoch: pays for what is released, once, and returns it (a sheet of rule ``counts`` or ``picks``).
        epoch: names the state that the data is in.
    """

    def __init__(self, release: Callable[[str], Sheet], epoch: Callable[[], str]) -> None:
        self._release, self._epoch, self._lock = release, epoch, Lock()
        self._held: tuple[str, bytes] | None = None

    def current(self) -> bytes:
        """Return what is released of the data as it is, as a sheet's bytes.

        Raises:
            BudgetExceeded: the budget does not allow for it, and nothing was released before.
            DiscreetError: as the release does.
        """
        with self._lock:
            epoch = self._epoch()
            if self._held is None or self._held[0] != epoch:
                try:
                    self._held = epoch, self._release(epoch).to_bytes()
                except BudgetExceeded:
                    if self._held is None:
                        raise
            return self._held[1]

    def answer(self, request: Request) -> Reply:
        """Send what is released, unless the device has it. Raises as ``current``."""
        content = self.current()
        version = version_of(content)
        return Reply(version, None if request.version == version else content)
