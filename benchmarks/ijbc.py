"""IJB-C at its true size with made-up features, against the evaluation functions that the field uses.

Run `python benchmarks/ijbc.py`; each side runs in a process of its own, so that its peak memory can be told. The peer's
functions are transcriptions of the method of insightface's published scripts (`eval_ijbc.py` for 1:1, `ijb_evals.py`
for 1:N): template by template and medium by medium, pairs gathered in float64 100,000 at a time, scikit-learn's
`roc_curve`, a full sort per probe.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

from samespace.benchmarks.ijb import IJB
from samespace.benchmarks.ijb_files import IJBMeta
from samespace.metrics import tar_at_far
from samespace.scoring.thresholds import thresholds_at

IMAGES, DIM = 469_375, 512
GALLERY, PROBES = (1_772, 1_759), 19_593
PAIRS, GENUINE = 15_658_489, 19_557
RATES = [f"1e-{power}" for power in range(6, 0, -1)]
ALARMS = ["1e-2", "1e-1"]
AGREEMENT = 1e-4
ONE_TO_ONE = ["lists", "templates", "pair scores", "TAR@FAR"]

Times = dict[str, tuple[float, float]]


def make(seed: int = 0) -> dict[str, np.ndarray]:
    """Lists and features of IJB-C's shape: every subject one gallery template, 15.66 M pairs of gallery and probe.

    Template sizes and shares of video are made up: a gallery template has stills alone, a probe one still or a video
    of many frames.
    """
    generator = np.random.default_rng(seed)
    people = sum(GALLERY)
    owner = np.concatenate([generator.permutation(people), generator.integers(people, size=PROBES)])
    count = people + PROBES
    size = np.ones(count, dtype=np.int64)
    size += generator.multinomial(IMAGES - count, generator.dirichlet(np.full(count, 0.35)))
    template = np.repeat(np.arange(count), size)
    video = np.repeat(generator.random(count) < 0.4, size)
    slot = np.arange(IMAGES) - np.repeat(np.cumsum(size) - size, size)
    medium = np.where(video, template * 1000 + slot // 40, 10**8 + np.arange(IMAGES))
    centre = generator.standard_normal((people, DIM), dtype=np.float32)
    hard = generator.gamma(2.0, 0.8, count).astype(np.float32)
    blur = generator.standard_normal((count, DIM), dtype=np.float32)
    vectors = centre[owner[template]] + hard[template, None] * blur[template]
    for start in range(0, IMAGES, 65536):
        part = vectors[start : start + 65536]
        part += 1.5 * generator.standard_normal(part.shape, dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    probe = people + np.arange(PROBES)
    mate = np.empty(people, dtype=np.int64)
    mate[owner[:people]] = np.arange(people)
    first = np.repeat(np.arange(people), -(-PAIRS // people))[: PAIRS - GENUINE]
    second = people + generator.integers(PROBES, size=PAIRS - GENUINE)
    clash = owner[first] == owner[second]
    while clash.any():
        second[clash] = people + generator.integers(PROBES, size=int(clash.sum()))
        clash = owner[first] == owner[second]
    genuine = generator.permutation(probe)[:GENUINE]
    order = np.argsort(np.concatenate([first, mate[owner[genuine]]]), kind="stable")
    return {
        "vectors": vectors,
        "template": template,
        "medium": medium,
        "first": np.concatenate([first, mate[owner[genuine]]])[order],
        "second": np.concatenate([second, genuine])[order],
        "label": np.concatenate([np.zeros(len(first), np.int64), np.ones(GENUINE, np.int64)])[order],
        "owner": owner,
    }


def peer_templates(features: np.ndarray, templates: np.ndarray, media: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Templates one by one, found by comparing the whole list; media one by one within each."""
    names = np.unique(templates)
    pooled = np.zeros((len(names), features.shape[1]))
    for place, name in enumerate(names):
        rows = np.where(templates == name)[0]
        mine, mine_media = features[rows], media[rows]
        parts = []
        for medium, frames in zip(*np.unique(mine_media, return_counts=True), strict=True):
            chosen = np.where(mine_media == medium)[0]
            parts.append(mine[chosen] if frames == 1 else np.mean(mine[chosen], axis=0, keepdims=True))
        pooled[place] = np.sum(np.array(parts), axis=0)[0]
    return pooled / np.sqrt((pooled**2).sum(axis=1, keepdims=True)), names


def peer_scores(pooled: np.ndarray, names: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Pairs gathered as float64 rows, 100,000 at a time."""
    place = np.zeros((names.max() + 1, 1), dtype=int)
    for row, name in enumerate(names):
        place[name] = row
    score = np.zeros(len(first))
    for start in range(0, len(first), 100_000):
        part = np.arange(start, min(start + 100_000, len(first)))
        score[part] = np.sum(pooled[place[first[part]]] * pooled[place[second[part]]], -1).flatten()
    return score


def peer_tars(label: np.ndarray, score: np.ndarray) -> list[float]:
    """The point of scikit-learn's curve whose false accept rate comes nearest, which may exceed the target."""
    from sklearn.metrics import roc_curve

    far, tar, _ = roc_curve(label, score)
    far, tar = np.flipud(far), np.flipud(tar)
    found = []
    for rate in RATES:
        _, place = min(list(zip(abs(far - float(rate)), range(len(far)), strict=True)))
        found.append(float(tar[place]))
    return found


def peer_search(
    probes: np.ndarray, gallery: np.ndarray, probe_ids: np.ndarray, gallery_ids: np.ndarray, rates: list[float]
) -> tuple[list[float], list[float]]:
    """Rank 1, 5, 10 and TPIR of one gallery: a product, then a full sort and masks for each probe."""
    similarity = np.dot(probes, gallery.T)
    hits, mates, others, strangers = [0, 0, 0], [], [], []
    for row, person in enumerate(probe_ids):
        if person in gallery_ids:
            place = np.argwhere(gallery_ids == person)[0, 0]
            ranking = np.argsort(similarity[row])[::-1]
            hits = [count + (place in ranking[:k]) for count, k in zip(hits, (1, 5, 10), strict=True)]
            mates.append(similarity[row][gallery_ids == person][0])
            others.append(similarity[row][gallery_ids != person])
        else:
            strangers.append(similarity[row])
    mate, other, stranger = np.array(mates), np.array(others), np.array(strangers)
    right = mate > other.max(1)
    alarms = np.sort(stranger.max(1))[::-1]
    tpir = []
    for rate in rates:
        threshold = alarms[max(int(len(alarms) * rate) - 1, 0)]
        tpir.append(float(np.logical_and(right, mate > threshold).sum() / len(mate)))
    return [count / len(mate) for count in hits], tpir


def timed(work: Callable[[], Any], times: Times, name: str) -> Any:
    """Do the work; its seconds by the clock, and of processor time, under its name."""
    began, spent = time.perf_counter(), time.process_time()
    result = work()
    times[name] = (time.perf_counter() - began, time.process_time() - spent)
    return result


def run_peer(data: dict[str, np.ndarray], times: Times) -> dict[str, Any]:
    """1:1 from image features to TAR, then 1:N from the templates."""
    pooled, names = timed(lambda: peer_templates(data["vectors"], data["template"], data["medium"]), times, "templates")
    score = timed(lambda: peer_scores(pooled, names, data["first"], data["second"]), times, "pair scores")
    nearest = timed(lambda: peer_tars(data["label"], score), times, "TAR@FAR")
    same = data["label"] == 1
    peak = peak_gib()
    galleries, probes = split(data["owner"])
    searches = []
    for gallery in galleries:
        lost = int((~np.isin(data["owner"][probes], data["owner"][gallery])).sum())
        # this script's threshold is the false alarm at place int(n · rate): one more makes it ours
        rates = [(int(Fraction(rate) * lost) + 1.5) / lost for rate in ALARMS]
        searches.append(
            timed(
                lambda gallery=gallery, rates=rates: peer_search(
                    pooled[probes], pooled[gallery], data["owner"][probes], data["owner"][gallery], rates
                ),
                times,
                f"1:N, gallery of {len(gallery)}",
            )
        )
    ranks, tpirs = (np.mean([search[kind] for search in searches], axis=0).tolist() for kind in (0, 1))
    exact = [tar_at_far(score[same], score[~same], Fraction(rate)) for rate in RATES]
    return {"tar": exact, "nearest": nearest, "rank": ranks, "tpir": tpirs, "peak": peak}


def run_ours(data: dict[str, np.ndarray], times: Times) -> dict[str, Any]:
    """The same, from the same arrays."""
    owner = data["owner"]
    galleries, probes = split(owner)
    lists = {f"G{number}": (gallery, owner[gallery]) for number, gallery in enumerate(galleries, 1)}
    meta = IJBMeta(
        images=np.arange(IMAGES).astype(str),
        templates=data["template"],
        media=data["medium"],
        first=data["first"],
        second=data["second"],
        genuine=data["label"] == 1,
        galleries=lists,
        probes=(probes, owner[probes]),
    )

    def number() -> IJB:
        made = IJB.of(meta)
        if len(made.ids) != IMAGES:
            raise SystemExit("an image is listed twice")
        return made

    benchmark = timed(number, times, "lists")
    pooled = timed(lambda: benchmark.prepare(data["vectors"]), times, "templates")
    found = benchmark.run(pooled, pooled)
    timed(lambda: found.measure(), times, "pair scores")
    names = [f"TAR@FAR={rate}" for rate in RATES]
    ones = np.ones((1, benchmark.identities), dtype=np.int64)
    tar = timed(lambda: found.values(ones, names), times, "TAR@FAR")
    peak = peak_gib()
    ranked = [f"rank@{k}" for k in (1, 5, 10)] + [f"TPIR@FPIR={rate}" for rate in ALARMS]
    search = timed(lambda: benchmark.run(pooled, pooled).values(ones, ranked), times, "1:N")
    both = timed(lambda: benchmark.run(pooled, pooled).values(ones, names + ranked), times, "1:1 and 1:N together")
    assert both == tar | search
    values = [float(search[name][0]) for name in ranked]
    return {"tar": [float(tar[name][0]) for name in names], "rank": values[:3], "tpir": values[3:], "peak": peak}


def split(owner: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """Gallery templates by gallery, and probe templates."""
    people = sum(GALLERY)
    return [np.arange(GALLERY[0]), np.arange(GALLERY[0], people)], people + np.arange(PROBES)


def peak_gib() -> float:
    """Peak resident memory of this process since `forget_peak`, or ever where Linux does not tell."""
    status = Path("/proc/self/status")
    if status.is_file():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        return int(lines["VmHWM"].split()[0]) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def forget_peak() -> None:
    """Count the peak of resident memory from here on, where Linux lets us."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def compare_curves(seed: int = 1) -> tuple[float, float]:
    """Seconds for TAR at six bounds from as many scores, medians of three: ours, and scikit-learn's curve alone."""
    from sklearn.metrics import roc_curve

    same = np.arange(PAIRS) < GENUINE
    score = np.random.default_rng(seed).normal(0, 0.1, PAIRS).astype(np.float32) + np.float32(0.45) * same
    times: Times = {}

    def ours() -> list[float]:
        genuine, impostor = score[same], score[~same]
        levels = thresholds_at(impostor, [Fraction(rate) for rate in RATES])
        return [float(np.mean(genuine > level)) for level in levels]

    for turn in "abc":
        found = timed(ours, times, f"ours {turn}")
        timed(lambda: roc_curve(same, score), times, f"peer {turn}")
    exact = roc_curve(same, score, drop_intermediate=False)
    for value, rate in zip(found, RATES, strict=True):
        if abs(value - exact[1][exact[0] <= float(rate)].max()) > AGREEMENT:
            raise SystemExit(f"TAR at {rate} differs from the curve: {value}")
    ours_s, peer_s = (float(np.median([times[f"{side} {turn}"][0] for turn in "abc"])) for side in ("ours", "peer"))
    return ours_s, peer_s


def side(name: str) -> None:
    """One side in this process; prints its times and values as JSON."""
    data = make()
    times: Times = {}
    forget_peak()
    base = peak_gib()
    values = (run_peer if name == "peer" else run_ours)(data, times)
    print(json.dumps({"times": times, "values": values, "base": base}))


def in_process(name: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, __file__, "--side", name], check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def show(name: str, result: dict[str, Any]) -> None:
    print(f"  {name}")
    for step, (seconds, spent) in result["times"].items():
        print(f"    {step:28} {seconds:8.2f} s  {spent:8.2f} s of processor time")
    print(f"    {'peak memory of 1:1':28} {result['values']['peak']:8.2f} GiB, {result['base']:.2f} before (features)")


def report(ours: list[dict[str, Any]], peer: dict[str, Any]) -> None:
    best = middle(ours)
    show("peer", peer)
    show(f"samespace, median of {len(ours)} for each step", best)
    search = [step for step in peer["times"] if step.startswith("1:N")]
    for what, mine, theirs, wanted in (
        ("1:1, image features to TAR", total(best, ONE_TO_ONE), total(peer, ONE_TO_ONE), 40),
        ("template pooling", total(best, ["templates"]), total(peer, ["templates"]), 30),
        ("1:N, both galleries", total(best, ["1:N"]), total(peer, search), 4),
    ):
        clock, processor = (a / b for a, b in zip(theirs, mine, strict=True))
        print(f"  {what:28} {clock:8.1f} x, by processor time {processor:.1f} x (wanted {wanted})")
    values, others = best["values"], peer["values"]
    print("  TAR at FAR                   " + "".join(f"{rate:>9}" for rate in RATES))
    rows = {
        "samespace": values["tar"],
        "peer's scores, our rule": others["tar"],
        "peer, nearest point": others["nearest"],
    }
    for name, row in rows.items():
        print(f"    {name:26} " + "".join(f"{value:9.4f}" for value in row))
    worst = max(abs(a - b) for a, b in zip(values["tar"], others["tar"], strict=True))
    search_worst = max(
        abs(a - b) for a, b in zip(values["rank"] + values["tpir"], others["rank"] + others["tpir"], strict=True)
    )
    print(
        f"  rank 1, 5, 10; TPIR at {', '.join(ALARMS)}: "
        + ", ".join(f"{v:.4f}" for v in values["rank"] + values["tpir"])
    )
    print(f"  largest difference: TAR {worst:.1e}, 1:N {search_worst:.1e}")
    if max(worst, search_worst) > AGREEMENT:
        raise SystemExit(f"the two sides differ by more than {AGREEMENT}")


def middle(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Values of the first run, with the median time of each step and the highest peak of memory."""
    times = {step: np.median([run["times"][step] for run in runs], axis=0).tolist() for step in runs[0]["times"]}
    peak = max(run["values"]["peak"] for run in runs)
    return runs[0] | {"times": times, "values": runs[0]["values"] | {"peak": peak}}


def total(run: dict[str, Any], steps: list[str]) -> tuple[float, float]:
    """Seconds by the clock and of processor time, of some steps."""
    spent = [run["times"][step] for step in steps if step in run["times"]]
    return sum(seconds for seconds, _ in spent), sum(processor for _, processor in spent)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", choices=["peer", "ours"], help="run one side alone and print JSON")
    parser.add_argument(
        "--repeats", type=int, default=3, help="runs of our side before and after the peer, which runs once"
    )
    options = parser.parse_args()
    if options.side:
        side(options.side)
        return
    print(
        f"python {platform.python_version()}, torch {torch.__version__}, numpy {np.__version__}, "
        f"{platform.machine()}, {torch.get_num_threads()} threads\n"
        f"{IMAGES:,} images x {DIM}, {sum(GALLERY) + PROBES:,} templates, {PAIRS:,} pairs",
        flush=True,
    )
    before = [in_process("ours") for _ in range(options.repeats)]
    peer = in_process("peer")
    report([*before, *(in_process("ours") for _ in range(options.repeats))], peer)
    mine, theirs = compare_curves()
    print(f"  TAR at six FAR from {PAIRS:,} scores: roc_curve {theirs:.2f} s, samespace {mine:.2f} s")
    print(f"  {'TAR against roc_curve':28} {theirs / mine:8.1f} x (wanted 15)")


if __name__ == "__main__":
    main()
