"""The paired bootstrap over identities: how much of a difference is the choice of test identities."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from samespace.errors import InputError
from samespace.metrics._arrays import Floats, Ints, as_labels, as_numpy, encode

_BLOCK_COUNTS = 1 << 24


def resamples(identities: int, *, replicates: int = 2000, seed: int = 0) -> Iterator[Ints]:
    """Draw identities with replacement, over and over: how often each is in each resample.

    Args:
        identities: how many there are; each resample draws as many.
        replicates: number of resamples.
        seed: of the generator; the same seed gives the same resamples.

    Yields:
        (r, identities) int64 counts, each row summing to `identities`; few rows at a time where there are many
        identities, so that memory stays bounded.

    Raises:
        InputError: no identity or no replicate.
    """
    if identities < 1 or replicates < 1:
        raise InputError(f"a bootstrap needs identities and replicates, got {identities} and {replicates}")
    generator = np.random.default_rng(seed)
    step = max(1, min(replicates, _BLOCK_COUNTS // identities))
    for start in range(0, replicates, step):
        rows = min(step, replicates - start)
        drawn = generator.integers(identities, size=(rows, identities))
        drawn += np.arange(rows)[:, None] * identities
        yield np.bincount(drawn.ravel(), minlength=rows * identities).reshape(rows, identities)


def resamples_by_name(names: Sequence[str], *, replicates: int = 2000, seed: int = 0) -> Iterator[Ints]:
    """Weigh identities at random, over and over, each by its name alone: the Poisson bootstrap.

    An identity's weight in a resample is a Poisson number of mean 1 that follows from its name, the seed and the number
    of the resample. Sets that share identities therefore share their weights, and sets that share none are independent,
    so that results on several sets may be averaged resample by resample. Metrics that are ratios have the distribution
    that `resamples` gives them, up to terms of the order of one over the number of identities (Hanley and MacGibbon,
    Creating non-parametric bootstrap samples using Poisson frequencies, 2006).

    Args:
        names: of the identities, each once.
        replicates: number of resamples.
        seed: of the weights.

    Yields:
        (r, identities) int64 weights in the order of `names`, few rows at a time where there are many identities.

    Raises:
        InputError: no identity or no replicate.

    Example:
        >>> one, other = (next(resamples_by_name(names, replicates=50)) for names in (["a", "b"], ["b", "c"]))
        >>> bool((one[:, 1] == other[:, 0]).all())
        True
    """
    if not len(names) or replicates < 1:
        raise InputError(f"a bootstrap needs identities and replicates, got {len(names)} and {replicates}")
    digests = (hashlib.sha256(str(name).encode()).digest() for name in names)
    generators = [np.random.default_rng([seed, int.from_bytes(digest)]) for digest in digests]
    step = max(1, _BLOCK_COUNTS // len(names))
    for start in range(0, replicates, step):
        rows = min(step, replicates - start)
        yield np.stack([generator.poisson(1.0, rows) for generator in generators], axis=1)


def interval(values: Any, confidence: float = 0.95) -> tuple[float, float]:
    """The percentile interval of bootstrap `values`; undefined ones (NaN) are left out.

    Returns:
        (low, high); (NaN, NaN) where no value is defined.

    Raises:
        InputError: `confidence` outside (0, 1).

    Example:
        >>> interval([0.0, 1.0, 2.0, 3.0, 4.0], 0.5)
        (1.0, 3.0)
    """
    if not 0 < confidence < 1:
        raise InputError(f"confidence lies between 0 and 1, got {confidence}")
    array = as_numpy(values).astype(np.float64)
    array = array[~np.isnan(array)]
    if array.size == 0:
        return float("nan"), float("nan")
    tail = (1 - confidence) / 2
    low, high = np.quantile(array, [tail, 1 - tail])
    return float(low), float(high)


def paired_bootstrap(
    values: Mapping[str, Any], identities: Any, *, replicates: int = 2000, seed: int = 0
) -> dict[str, Floats]:
    """Bootstrap the means of several systems over the same resamples of identities.

    All images of an identity are drawn together, because they are not independent; all systems see the same draw, so
    that subtracting two results gives the distribution of their difference.

    Args:
        values: per system, (Q,) values per query, such as 1 for a right answer; NaN leaves a query out.
        identities: (Q,) identity of each query, integers or strings.
        replicates: number of resamples.
        seed: of the generator.

    Returns:
        Per system, (replicates,) float64 means; NaN where a resample holds no usable query.

    Raises:
        InputError: counts that do not fit.

    Example:
        >>> right = {"old": [0, 0, 1, 1], "cross": [0, 1, 1, 1]}
        >>> means = paired_bootstrap(right, ["a", "a", "b", "b"], replicates=100)
        >>> bool((means["cross"] >= means["old"]).all())
        True
    """
    codes = encode(as_labels(identities, "identities"))[0]
    if codes.size == 0:
        raise InputError("a bootstrap needs at least one query, got none")
    sums: dict[str, tuple[Floats, Floats]] = {}
    for name, column in values.items():
        array = as_numpy(column).astype(np.float64)
        if array.shape != codes.shape:
            raise InputError(f"'{name}' should have one value per query {codes.shape}, got shape {array.shape}")
        usable = ~np.isnan(array)
        sums[name] = (weigh(codes, np.where(usable, array, 0.0)), weigh(codes, usable))
    parts: dict[str, list[Floats]] = {name: [] for name in values}
    for counts in resamples(int(codes.max()) + 1, replicates=replicates, seed=seed):
        for name, (total, usable_count) in sums.items():
            parts[name].append(ratio(counts @ total, counts @ usable_count))
    return {name: np.concatenate(part) for name, part in parts.items()}


def weigh(codes: Ints, weights: Any, length: int = 0) -> Floats:
    """Sum the weights of each identity, (at least `length`,) float64."""
    return np.asarray(np.bincount(codes, weights=np.asarray(weights, np.float64), minlength=length), np.float64)


def weighed(counts: Ints, codes: Ints, *weights: Any) -> list[Floats]:
    """Each of some weights (N,) of items with these codes, summed under each row of `counts`: (r,) float64 each.

    Only the identities that occur are looked at, and `counts` (r, identities) is brought to float64 once for all.
    """
    present, place = np.unique(codes, return_inverse=True)
    sums = [weigh(place, one, len(present)) for one in weights]
    rows = counts if len(present) == counts.shape[1] else counts[:, present]
    return list((rows.astype(np.float64) @ np.stack(sums, axis=1)).T)


def ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Numerator / denominator, NaN where the denominator is zero."""
    return np.asarray(numerator / np.where(denominator > 0, denominator, np.nan))
