"""Notes of a certificate on how far its results go."""

from __future__ import annotations

from collections.abc import Mapping

from samespace.evaluate.certificate import Fusion, MetricResult
from samespace.evaluate.verdict import FEW_IDENTITIES, control_cautions


def fusion_notes(fusion: Fusion) -> list[str]:
    """What the fused queries of the cross test mean, and how their share was chosen."""
    notes = [
        "The cross test is of fused queries: it vouches for the new model's queries only together with the old model's."
    ]
    if fusion.chosen == "halves":
        notes.append(
            f"Half of the check's classes, {len(fusion.classes)} drawn by seed, chose the share of the new query; only "
            "the others are judged."
        )
    if fusion.chosen != "given" and fusion.alpha == 0:
        notes.append("No share of the new query was at least as good as the old query alone in every metric.")
    return notes


def cautions(results: Mapping[str, MetricResult], mated: int) -> list[str]:
    """What makes the results of so many identities with mates doubtful."""
    notes = []
    if mated < 2:
        notes.append("Only one identity has mates: nothing can be said of others, so no metric counts as compatible.")
    elif mated < FEW_IDENTITIES:
        notes.append(f"Only {mated} identities have mates: the intervals rest on few and may be too narrow.")
    return notes + _exchanged(results) + control_cautions(results, "queries")


def _exchanged(results: Mapping[str, MetricResult]) -> list[str]:
    """A note where new queries find clearly more in the old gallery than in the new one, in every metric."""
    beyond = [
        result.new is not None and (interval := result.intervals["cross"]) is not None and interval[0] > result.new
        for result in results.values()
    ]
    if not all(beyond):
        return []
    name, one = next(iter(results.items()))
    return [
        f"New queries find clearly more in the gallery than in the new gallery ({name} {one.cross:.1%} against "
        f"{one.new:.1%}): gallery and new gallery may stand in each other's place, and then the verdict means nothing. "
        "Vectors that declare their space are refused in such a place."
    ]
