"""What other libraries and papers call our metrics, so that a wrong name is answered with the right one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from samespace.errors import suggest

_RATE = r"(\d*\.?\d+(?:e[-+]?\d+)?)(%?)"
_Written = Callable[[re.Match[str]], str]


def _at(name: str) -> _Written:
    """The name with the rate of the match; percent as a share."""

    def written(match: re.Match[str]) -> str:
        rate = match[1] if not match[2] else f"{float(match[1]) / 100:g}"
        return f"{name}={rate}"

    return written


# tried in this order on the name in lower case, without spaces, underscores and hyphens
_ALIASES: tuple[tuple[re.Pattern[str], _Written], ...] = tuple(
    (re.compile(pattern), written)
    for pattern, written in (
        (r"(?:r|rank|recall|top|hit|hits|hr|acc|accuracy|cmc)@?(\d+)(?:acc|accuracy)?", lambda m: f"rank@{int(m[1])}"),
        (r"(?:p|prec|precision)@?1", lambda m: "rank@1"),
        (r"r|rank|recall|top|cmc|acc|accuracy", lambda m: "rank@1"),
        (r"m?ap@?r", lambda m: "MAP@R"),
        (r"rp|rprec|rprecision|precision@?r|p@r", lambda m: "R-precision"),
        (r"(?:m|mean)?(?:ap|averageprecision)", lambda m: "mAP"),
        (r"(?:tar|tpr|gar)(?:@?(?:far|fpr|fmr))?[@=]+" + _RATE, _at("TAR@FAR")),
        (r"(?:tpir|dir)(?:@?(?:fpir|far))?[@=]+" + _RATE, _at("TPIR@FPIR")),
        (r"tpirmerged(?:@?fpir)?[@=]+" + _RATE, _at("TPIR-merged@FPIR")),
        (r"(?:tar|tpr|gar)(?:@(?:far|fpr|fmr)=?)?", lambda m: "TAR@FAR=1e-4"),
        (r"(?:tpir|dir)(?:@(?:fpir|far)=?)?", lambda m: "TPIR@FPIR=1e-2"),
    )
)


def meant(name: str) -> str | None:
    """The metric that a name of other libraries stands for, as it is written here; None where nothing is known.

    Example:
        >>> [meant(name) for name in ("R@5", "recall@1", "map", "TPR@FPR=0.01%", "loss")]
        ['rank@5', 'rank@1', 'mAP', 'TAR@FAR=0.0001', None]
    """
    spare = re.sub(r"(?<!e)-|[\s_]", "", name.lower())
    for pattern, written in _ALIASES:
        if match := pattern.fullmatch(spare):
            return written(match)
    return None


def suggest_metric(name: str, legal: Iterable[str], *, allows: Callable[[str], bool] | None = None) -> str:
    """As `errors.suggest`, with the metric that other names stand for first.

    Args:
        name: as given.
        legal: names to list.
        allows: whether a name that is not listed is legal, too, such as `rank@7`; by default none is.
    """
    names = list(legal)
    right = meant(name)
    known = right is not None and right != name and (right in names or (allows is not None and allows(right)))
    return suggest(name, names, meant=right if known else None)
