"""What slows a backfill down: a rate, or the latency of searches beside it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

import numpy as np

_WINDOW = 40
_PROBES_AT_ONCE = 5
_SECONDS_BETWEEN = 1.0


class RateLimit:
    """At most so many items in a second, on average, without a burst after a pause.

    Args:
        rate: items per second; None for no limit.
        clock: seconds, rising.
    """

    def __init__(self, rate: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate = rate
        self._clock = clock
        self._free_at = clock()

    def wait(self, items: int) -> float:
        """Seconds to wait before work on so many items may begin; counts them as begun."""
        if self.rate is None:
            return 0.0
        now = self._clock()
        begin = max(now, self._free_at)
        self._free_at = begin + items / self.rate
        return begin - now


class LatencyBudget:
    """Holds work back while searches are slower than they may be.

    A probe is a search like a user's, timed by this process; what slows the users' searches, the processor or the
    disk, slows it too. Probes run before work is claimed, so that work in hand is finished.

    Args:
        budget: most milliseconds that the 95th percentile of recent probes may take; None for no limit.
        probe: runs one search.
        clock: seconds, rising.
    """

    def __init__(
        self, budget: float | None, probe: Callable[[], object], clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.budget = budget
        self._probe = probe
        self._clock = clock
        self._recent: deque[float] = deque(maxlen=_WINDOW)
        self._probed = -np.inf

    def exceeded(self) -> bool:
        """Whether work should wait; probes at most once a second while it need not."""
        if self.budget is None:
            return False
        over = self.p95 is not None and self.p95 > self.budget
        if over or self._clock() - self._probed >= _SECONDS_BETWEEN:
            for _ in range(_PROBES_AT_ONCE):
                began = self._clock()
                self._probe()
                self._recent.append(1000 * (self._clock() - began))
            self._probed = self._clock()
        return self.p95 is not None and self.p95 > self.budget

    @property
    def p95(self) -> float | None:
        """Milliseconds within which 95 % of recent probes came back; None before the first."""
        return float(np.percentile(np.array(self._recent), 95)) if self._recent else None
