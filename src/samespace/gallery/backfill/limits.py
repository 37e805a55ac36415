"""What ends a backfill or slows it down: limits, a rate, the latency of searches beside it."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from samespace.errors import InputError

_WINDOW = 40
_PROBES_AT_ONCE = 5
_SECONDS_BETWEEN = 1.0


@dataclass(frozen=True)
class Limits:
    """When a worker ends or waits.

    Attributes:
        batch_size: items claimed, read and embedded at once; by default 256 of images, and 16 MiB of ready vectors.
        lease: seconds after which the claims of a worker that has died are free for others; a live one renews its own.
        items: most items to claim in this run, those that turn out to be broken, changed or gone included.
        seconds: longest time this run may take.
        rate: most items per second.
        p95: most milliseconds that the 95th percentile of searches may take while this worker claims work.
    """

    batch_size: int | None = None
    lease: float = 300.0
    items: int | None = None
    seconds: float | None = None
    rate: float | None = None
    p95: float | None = None

    def __post_init__(self) -> None:
        for name in ("batch_size", "lease", "items", "seconds", "rate", "p95"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise InputError(f"{name} should be above 0 and finite, got {value}")


class RateLimit:
    """At most `rate` items per second on average, None for no limit, without a burst after a pause."""

    def __init__(self, rate: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate = rate
        self._clock = clock
        self._free_at = clock()

    def wait(self) -> float:
        """Seconds until more work may begin."""
        return 0.0 if self.rate is None else max(0.0, self._free_at - self._clock())

    def begin(self, items: int) -> None:
        """Count so many items as begun now."""
        if self.rate is not None:
            self._free_at = max(self._clock(), self._free_at) + items / self.rate


class LatencyBudget:
    """Holds work back while searches are slower than they may be.

    A probe is a search like a user's, timed by this process; what slows the users' searches, the processor or the
    disk, slows it too. Probes run before work is claimed, so that work in hand is finished.

    `budget`: most milliseconds that the 95th percentile of recent probes may take; None for no limit. `clock`: seconds,
    rising.
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
