"""Made-up certificates with plausible numbers: one that passes, one that fails, one with everything absent."""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

SEPARATION = {"old": 2.6, "cross": 3.0, "new": 3.5, "paragon": 3.6}
RANK1 = {"old": 0.612, "cross": 0.684, "new": 0.702, "paragon": 0.699}


def space(name: str, digits: str, dim: int = 64) -> dict[str, Any]:
    preprocessing = '{"channels": 1, "size": 32, "mean": [0.5], "std": [0.5]}'
    return {
        "id": digits * 6,
        "weights": digits * 32,
        "preprocessing": preprocessing,
        "dim": dim,
        "normalized": True,
        "name": name,
    }


def metric(old: float, cross: float, new: float | None, paragon: float | None, half: float = 0.013) -> dict[str, Any]:
    gain = cross - old
    low, high = gain - half, gain + half
    lead = None if paragon is None else paragon - old
    update = gain / lead if lead and gain > 0 else None

    def around(value: float | None) -> list[float] | None:
        return None if value is None else [max(value - 1.6 * half, 0.0), min(value + 1.6 * half, 1.0)]

    return {
        "old": old,
        "cross": cross,
        "new": new,
        "paragon": paragon,
        "control": 0.0052,
        "difference": [low, high],
        "absolute_gain": gain,
        "update_gain": update,
        "update_gain_interval": None if update is None else [update - 0.15, update + 0.16],
        "criterion": gain > 0,
        "compatible": low > 0,
        "intervals": {"old": around(old), "cross": around(cross), "new": around(new), "paragon": around(paragon)},
        "paragon_lead": None if lead is None else [lead - half, lead + half],
    }


def curves(separation: dict[str, float], rank1: dict[str, float]) -> dict[str, Any]:
    normal = NormalDist()
    far = np.logspace(-5, 0, 60)
    roc = {}
    for pair, distance in separation.items():
        tar = [1 - normal.cdf(normal.inv_cdf(1 - f) - distance) if f < 1 else 1.0 for f in far]
        roc[pair] = {"far": far.tolist(), "tar": tar}
    cmc = {pair: [1 - (1 - value) * k**-0.55 for k in range(1, 21)] for pair, value in rank1.items()}
    edges = np.linspace(-0.6, 1.0, 51)
    centres = (edges[1:] + edges[:-1]) / 2
    histograms: dict[str, Any] = {"edges": edges.tolist()}
    for pair in ("old", "cross", "new"):
        genuine, impostor = NormalDist(0.15 * separation[pair], 0.14), NormalDist(0.02, 0.13)
        histograms[pair] = {
            "genuine": [genuine.pdf(x) for x in centres],
            "impostor": [impostor.pdf(x) for x in centres],
        }
    return {"roc": roc, "cmc": cmc, "histograms": histograms}


def hits(label: str, ranks_of_mates: set[int], top: float, seed: int) -> list[dict[str, Any]]:
    others = ["Braille-07", "Futurama-11", "Tagalog-02", "Sanskrit-31", "Gurmukhi-19", "Angelic-04"]
    return [
        {
            "id": f"g{100 * seed + rank:04d}",
            "label": label if rank in ranks_of_mates else others[(seed + rank) % len(others)],
            "score": top - 0.031 * rank,
            "mate": rank in ranks_of_mates,
        }
        for rank in range(5)
    ]


def example(number: int, kind: str, label: str) -> dict[str, Any]:
    found = {"fixed": ({2}, {0, 1}), "broken": ({0}, {1, 3}), "both-right": ({0, 1, 2}, {0, 1, 2, 3})}
    old, cross = found.get(kind, (set(), {4}))
    return {
        "query": {"id": f"q{number:04d}", "label": label},
        "kind": kind,
        "old": hits(label, old, 0.71, 3 * number),
        "cross": hits(label, cross, 0.78, 3 * number + 1),
        "new": hits(label, cross | {2}, 0.81, 3 * number + 2),
    }


def compatible_certificate() -> dict[str, Any]:
    shares = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    metrics = {
        "rank@1": metric(0.612, 0.684, 0.702, 0.699),
        "rank@5": metric(0.804, 0.851, 0.862, 0.866),
        "TAR@FAR=1e-4": metric(0.132, 0.236, 0.412, 0.449),
        "TPIR-merged@FPIR=1e-2": metric(0.301, 0.355, 0.377, 0.389, half=0.021),
        "mAP": metric(0.487, 0.541, 0.566, 0.571),
    }
    spread = {name: (values["cross"], values["new"]) for name, values in metrics.items()}
    return {
        "format": "samespace.certificate/1",
        "samespace": "0.1.0",
        "created": "2026-01-01T00:00:00Z",
        "seed": 0,
        "replicates": 2000,
        "confidence": 0.95,
        "compatible": True,
        "old_space": space("glyphs-v1", "3f"),
        "new_space": space("glyphs-v2 (UniBCT refined)", "91"),
        "paragon_space": space("glyphs-v2 (no influence)", "c4"),
        "data": {
            "queries": 1000,
            "gallery": 2000,
            "identities": 200,
            "mated_queries": 900,
            "unmated_queries": 100,
            "genuine_pairs": 9000,
            "impostor_pairs": 1991000,
            "self_matches_dropped": 0,
        },
        "options": {"prefix": False},
        "metrics": metrics,
        "strict": {
            "positive_share": 0.641,
            "negative_share": 0.512,
            "positive_improved": 0.641,
            "negative_improved": 0.512,
        },
        "flips": {
            "cross": {"negative": 0.034, "positive": 0.106, "relative_negative": 0.18},
            "new": {"negative": 0.031, "positive": 0.121, "relative_negative": 0.17},
        },
        "backfill": {
            "metrics": ["rank@1", "mAP"],
            "points": [
                {
                    "share": share,
                    "values": {
                        name: spread[name][0] + (spread[name][1] - spread[name][0]) * share**1.3
                        for name in ("rank@1", "mAP")
                    },
                }
                for share in shares
            ],
        },
        "sweep": sweep(),
        "curves": curves(SEPARATION, RANK1),
        "examples": [
            example(1, "fixed", "Atemayar-12"),
            example(2, "fixed", "Manipuri-33"),
            example(3, "broken", "Keble-05"),
            example(4, "both-right", "Glagolitic-21"),
            example(5, "both-wrong", "Tengwar-17"),
        ],
        "notes": ["TPIR-merged@FPIR=1e-2 rests on 100 unmated queries; its interval is wide."],
    }


def sweep() -> dict[str, Any]:
    """A calibrated merge that climbs and a raw one that dips, in two orders."""

    def curve(dip: float) -> dict[str, Any]:
        shares = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
        points = [
            {
                "share": share,
                "values": {"rank@1": 0.684 + 0.018 * share - dip * share * (1 - share), "mAP": 0.532 + 0.04 * share},
                "negative_flips": 0.03,
                "since_start": {"rank@1": [-0.01, 0.02], "mAP": [0.0, 0.03]},
                "to_end": {"rank@1": [-0.01, 0.02], "mAP": [0.0, 0.03]},
            }
            for share in shares
        ]
        return {
            "points": points,
            "area": {"rank@1": 0.5 - 10 * dip, "mAP": None},
            "holds": {"rank@1": dip == 0, "mAP": True},
        }

    orders = {order: {"calibrated": curve(0.0), "raw": curve(0.2)} for order in ("random", "distance")}
    return {"scale": "logistic", "metrics": ["rank@1", "mAP"], "orders": orders}


def failing_certificate() -> dict[str, Any]:
    """An independently trained successor: the cross test is at chance; one metric rises without proof."""
    value = compatible_certificate()
    value["compatible"] = False
    value["new_space"] = space("glyphs-v2 (independent)", "77", dim=128)
    value["metrics"] = {
        "rank@1": metric(0.612, 0.006, 0.702, 0.699),
        "TAR@FAR=1e-4": metric(0.132, 0.0001, 0.412, 0.449),
        "mAP": metric(0.487, 0.494, 0.566, 0.571),
    }
    value["curves"] = curves(SEPARATION | {"cross": 0.05}, RANK1 | {"cross": 0.006})
    value["backfill"] = value["sweep"] = None
    value["flips"]["cross"] = {"negative": 0.608, "positive": 0.002, "relative_negative": 2.01}
    value["notes"] = ["The paragon's lead at mAP is inside the noise; no update gain is given."]
    return value


def minimal_certificate() -> dict[str, Any]:
    """Vectors of unknown origin, no optional input, nothing that could be computed beyond one metric."""
    empty = dict.fromkeys(metric(0.5, 0.5, None, None))
    return {
        "format": "samespace.certificate/1",
        "samespace": "0.1.0",
        "created": "2026-01-01T00:00:00Z",
        "seed": 0,
        "replicates": 2000,
        "confidence": 0.95,
        "compatible": False,
        "old_space": {"id": None, "name": "", "dim": 64},
        "new_space": {"id": None, "name": "", "dim": 64},
        "paragon_space": None,
        "data": {"queries": 3, "gallery": 4},
        "options": {},
        "metrics": {"rank@1": metric(0.5, 0.5, None, None) | {"control": None}, "TPIR@FPIR=1e-2": empty},
        "strict": None,
        "flips": None,
        "backfill": None,
        "curves": {
            "roc": {"old": None, "cross": None, "new": None, "paragon": None},
            "cmc": None,
            "histograms": None,
        },
        "examples": [],
        "notes": ["TPIR@FPIR=1e-2 needs unmated queries, and there are none."],
    }


@pytest.fixture
def compatible() -> dict[str, Any]:
    return compatible_certificate()


@pytest.fixture
def failing() -> dict[str, Any]:
    return failing_certificate()


@pytest.fixture
def minimal() -> dict[str, Any]:
    return minimal_certificate()
