"""Causes that lie in what the check was given: files in the wrong place, near duplicates, nothing left to gain."""

from __future__ import annotations

from dataclasses import replace

from samespace.evaluate.cause import Cause
from samespace.evaluate.diagnosis.case import Case, Test, bounds, has_threshold, listed, percent, points

# a metric is full where at most this share is left to gain, or this and fewer than five queries
_LEAST_LEFT, _LITTLE_LEFT, _FEWEST_LEFT = 0.005, 0.1, 5
_LEAST_DUPLICATES = 0.01

_SIDES: dict[Test, tuple[str, str]] = {
    "old": ("baseline", "gallery"),
    "new": ("queries", "new gallery"),
    "paragon": ("paragon queries", "paragon gallery"),
}


def same_vectors(case: Case) -> Cause | None:
    """Queries and baseline are the same vectors: the old model was not changed, or one file was given twice."""
    if not _same(case):
        return None
    name, one = next(iter(case.failing.items()))
    # the files that were given may be the mistake
    files = replace(case.files, queries="NEW_Q")
    if files.new_gallery == files.gallery:
        files = replace(files, new_gallery="NEW_G")
    return Cause(
        name="same-vectors",
        metrics=tuple(case.failing),
        sentence=f"Queries and baseline give the same scores on the old gallery, and both reach {percent(one.old)} in "
        f"{name}: the model was not changed, or one file was given as both.",
        figures={"old": one.old, "cross": one.cross},
        advice=f"Embed the {'queries' if case.judged else 'query images'} with the new model, and give those vectors "
        "as queries.",
        commands=(_embed("runs/v2/model", "NEW_Q"), *replace(case, files=files).again()),
    )


def _same(case: Case) -> bool:
    if case.certificate.fusion is not None:
        return False
    results = case.certificate.metrics.values()
    return case.evidence.same_vectors or all(
        one.new is not None and 0 < one.old == one.cross == one.new < 1 for one in results
    )


def interchanged(case: Case) -> Cause | None:
    """Queries and baseline stand in each other's place."""
    found = case.evidence.mixed_up
    if found is None or not case.not_above:
        return None
    name, one = next(iter(case.not_above.items()))
    if found.by == "space":
        sign = "queries and gallery declare one space"
    elif found.by == "items":
        sign = (
            f"items that are in queries and gallery have equal vectors (median cosine {found.queries:.4f}), and those "
            f"of the baseline do not ({found.baseline:.4f})"
        )
    else:
        sign = (
            f"genuine pairs score {found.queries:.3f} among the queries and {found.gallery:.3f} among the gallery, but "
            f"{found.baseline:.3f} among the baseline"
        )
    figures = {key: getattr(found, key) for key in ("queries", "baseline", "gallery")}
    return Cause(
        name="interchanged",
        metrics=tuple(case.not_above),
        sentence=f"The vectors given as new queries seem to be the old model's, and the baseline the new model's: "
        f"{sign}. The other way round {name} would go from {percent(one.cross)} to {percent(one.old)}.",
        figures={key: value for key, value in figures.items() if value is not None}
        | {"old": one.old, "cross": one.cross},
        advice="Give the new model's vectors as queries and the old model's as baseline.",
        commands=case.again(case.files.exchanged()),
    )


def not_one_model(case: Case) -> Cause | None:
    """A test within one model is at chance, so its two files are of two models, or the labels are wrong."""
    results = case.certificate.metrics
    at_chance = [test for test in _SIDES if all(case.at_chance(name, test) for name in results)]
    if not at_chance or _same(case):
        return None
    name, one = next(iter(results.items()))
    values = {test: getattr(one, test) for test in ("old", "cross", "new", "paragon")}
    figures = {test: value for test, value in values.items() if value is not None} | {"chance": case.chance(name)}
    pairs = listed([f"{' and '.join(_SIDES[test])} ({percent(figures[test])})" for test in at_chance])
    run = [test for test in _SIDES if values[test] is not None]
    if at_chance == run and (len(run) > 1 or all(case.at_chance(metric, "cross") for metric in results)):
        reason = "every test is at chance: the labels of queries and gallery may not mean the same, or rows of vectors "
        reason += "and of labels are in another order"
    else:
        reason = "the two are not of one model, or that model gives all items nearly one vector"
    role = at_chance[0]
    model = {"old": "runs/v1/model", "new": "runs/v2/model", "paragon": "runs/paragon/model"}[role]
    outs = {"old": ("OLD_Q", "OLD_G"), "new": ("NEW_Q", "NEW_G"), "paragon": ("P_Q", "P_G")}[role]
    return Cause(
        name="not-one-model",
        metrics=tuple(case.failing),
        sentence=f"{name} of {pairs} is at chance ({percent(case.chance(name))}): {reason}.",
        figures=figures,
        advice="Embed both sides again with one model; vectors made by samespace embed declare their space, so that "
        "a mix is refused.",
        commands=tuple(_embed(model, out) for out in outs),
    )


def near_duplicates(case: Case) -> Cause | None:
    """Pictures that are in queries and gallery make the old model look better than it is."""
    found = case.evidence.duplicates
    if found is None or found.share < _LEAST_DUPLICATES or not case.failing:
        return None
    result = case.certificate.metrics.get(found.metric)
    with_them = None if result is None else result.absolute_gain
    without = found.cross - found.old
    proven = found.difference[0] > 0
    turned = with_them is not None and with_them <= 0 < without
    if not (proven or turned):
        return None
    before = "" if result is None else f" instead of {percent(result.old)} ({points(result.absolute_gain)})"
    names = "; ".join(f"{query} and {item}" for query, item in found.named)
    return Cause(
        name="near-duplicates",
        metrics=tuple(case.failing),
        sentence=f"{found.queries:,} of the mated queries ({percent(found.share)}) have nearly the same image in the "
        f"gallery (cosine above 0.999 by the old model), such as {names}. Without them old {found.metric} is "
        f"{percent(found.old)}{before}, and cross − old {points(without)} points ({bounds(found.difference)}).",
        figures={
            "queries": found.queries,
            "share": found.share,
            "old_without": found.old,
            "cross_without": found.cross,
            "low_without": found.difference[0],
            "high_without": found.difference[1],
        },
        advice="Leave these images out on one side and check again; look for more of them in the images.",
        commands=("samespace data describe images/ --deep", *case.again()),
    )


def saturated(case: Case) -> Cause | None:
    """The old model already answers nearly everything, so that no model could be proven better."""
    queries = case.certificate.data.get("mated_queries")
    found = {
        name: one
        for name, one in case.failing.items()
        if 1 - one.old <= _LEAST_LEFT
        or (
            queries is not None
            and not has_threshold(name)
            and 1 - one.old <= _LITTLE_LEFT
            and (1 - one.old) * queries < _FEWEST_LEFT
        )
    }
    if not found:
        return None
    name, one = next(iter(found.items()))
    left = f", {(1 - one.old) * queries:.0f} of {queries:,} queries" if queries and not has_threshold(name) else ""
    kept = [metric for metric in case.certificate.metrics if metric not in found]
    others = listed(list(found))
    return Cause(
        name="saturated",
        metrics=tuple(found),
        sentence=f"The old model has {percent(one.old)} in {name}; there is only {percent(1 - one.old)} to gain{left}, "
        f"too little to prove a gain in {others}.",
        figures={"old": one.old, "left": 1 - one.old},
        advice="Ask for a smaller k, or judge more, and harder, queries."
        if case.judged
        else "Ask for a harder metric (a smaller k, mAP, a lower rate) or check on more, and more alike, identities.",
        commands=case.again(metrics=kept or (["nDCG@1"] if case.judged else ["mAP", "TAR@FAR=1e-4"])),
    )


def fusion_kept_old(case: Case) -> Cause | None:
    """The fused query is the old one alone."""
    fusion = case.certificate.fusion
    if fusion is None or fusion.alpha != 0:
        return None
    why = "asked for" if fusion.chosen == "given" else "chosen, since no other was at least as good in every metric"
    return Cause(
        name="fusion-kept-old",
        metrics=tuple(case.failing),
        sentence=f"The share of the new query is 0, as {why}: the fused query is the old one, which cannot gain.",
        figures={"alpha": 0.0},
        advice="Check without --fuse: its diagnosis tells what keeps the new queries from helping.",
        commands=case.again(fuse=False),
    )


def _embed(model: str, out: str) -> str:
    return f"samespace embed {model} images/ --out {out}"
