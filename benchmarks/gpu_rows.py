"""The rows of `gpu_speed.py`: each function measures one and says in words what it found."""

from __future__ import annotations

import copy
import gc
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

import embedding
import prototypes as prototypes_beside
from head import SCALE, plain
from samespace.data.listed import ListedSource
from samespace.evaluate import check
from samespace.losses import InfluenceLoss, MarginHead
from samespace.models import Embedder, EmbedderConfig, Preprocessing
from samespace.models.extract import embed_rows
from samespace.models.precision import InBfloat16
from samespace.train import CompatibleTask, parse_recipe
from samespace.train.loop import Training
from samespace.train.methods.method import OldSide
from samespace.vectors import VectorSet

Row = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """Where to measure, and whether at the sizes of the table or at tiny ones."""

    device: str
    small: bool = False

    def __call__(self, full: int, small: int) -> int:
        """A size."""
        return small if self.small else full

    def wait(self) -> None:
        """Until the device is done."""
        if self.device != "cpu":
            torch.cuda.synchronize()

    def seconds(self, *runs: Callable[[], object], turns: int = 7, warm: int = 3) -> list[float]:
        """Median seconds of some functions that take turns."""
        if self.small:
            turns, warm = 1, 1
        times: list[list[float]] = [[] for _ in runs]
        for turn in range(turns + warm):
            for place, run in enumerate(runs):
                self.wait()
                began = time.perf_counter()
                run()
                self.wait()
                if turn >= warm:
                    times[place].append(time.perf_counter() - began)
        return [statistics.median(one) for one in times]

    def peak(self, run: Callable[[], object]) -> float:
        """MiB of GPU memory a function needs beyond what is there; NaN on a CPU."""
        if self.device == "cpu":
            run()
            return float("nan")
        gc.collect()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        run()
        self.wait()
        return float(torch.cuda.max_memory_allocated() - before) / 2**20


def _vectors(setting: Setting, count: int, dim: int) -> Tensor:
    random = torch.Generator(setting.device).manual_seed(0)
    return functional.normalize(torch.randn(count, dim, device=setting.device, generator=random))


def _step(loss: Callable[[Tensor, Tensor], Tensor], vectors: Tensor, labels: Tensor) -> Callable[[], None]:
    """Forward and backward under bf16 autocast, gradients written anew."""
    given = vectors.clone().requires_grad_()

    def run() -> None:
        given.grad = None
        with torch.autocast(vectors.device.type, torch.bfloat16):
            value = loss(given, labels)
        value.backward()

    return run


def _head(classes: int, dim: int, device: str) -> MarginHead:
    with torch.device(device):
        return MarginHead(classes, dim, scale=SCALE)


def _cleared(head: torch.nn.Module, run: Callable[[], None]) -> Callable[[], None]:
    def cleared() -> None:
        head.zero_grad(set_to_none=True)
        run()

    return cleared


def head(setting: Setting) -> Row:
    """A margin head of 93,431 classes, and the influence head beside it."""
    classes, dim, batch = setting(93_431, 200), setting(512, 16), setting(512, 8)
    vectors = _vectors(setting, batch, dim)
    labels = torch.randint(0, classes, (batch,), device=setting.device)
    own = _head(classes, dim, setting.device)
    weight = torch.nn.Parameter(own.weight.detach().clone())
    peer = torch.nn.Module()
    peer.register_parameter("weight", weight)
    influence = InfluenceLoss(_vectors(setting, classes, dim), scale=SCALE).to(setting.device)
    ours = _cleared(own, _step(own, vectors, labels))
    theirs = _cleared(peer, _step(plain(weight), vectors, labels))
    both = _cleared(own, _step(lambda x, y: own(x, y) + influence(x, y), vectors, labels))
    took = setting.seconds(ours, theirs, both, turns=20)
    gradient = classes * dim * 4 / 2**20
    beyond = []
    for run in (ours, theirs, both):
        own.zero_grad(set_to_none=True)
        peer.zero_grad(set_to_none=True)
        beyond.append(setting.peak(run) - gradient)
    mine, other, together = (1000 * one for one in took)
    return {
        "milliseconds": [mine, other, together],
        "mib_beyond_gradient": beyond,
        "measured": (
            f"{mine:.2f} ms, {beyond[0]:.0f} MiB beyond the gradient; plain bf16 {other:.2f} ms, {beyond[1]:.0f} MiB: "
            f"{mine / other:.2f} times; with influence {together:.2f} ms (+{100 * (together / mine - 1):.0f} %), "
            f"{beyond[2]:.0f} MiB"
        ),
    }


def four_million(setting: Setting) -> Row:
    """One step of SGD with momentum over 4,000,000 classes."""
    classes, dim, batch = setting(4_000_000, 400), setting(512, 16), setting(512, 8)
    own = _head(classes, dim, setting.device)
    optimizer = torch.optim.SGD(own.parameters(), lr=0.1, momentum=0.9)
    run = _step(own, _vectors(setting, batch, dim), torch.randint(0, classes, (batch,), device=setting.device))

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        run()
        optimizer.step()

    weight = classes * dim * 4 / 2**20
    most = weight + setting.peak(lambda: [step() for _ in range(2)])
    (took,) = setting.seconds(step, turns=5, warm=1)
    return {"seconds_a_step": took, "mib": most, "measured": f"{1000 * took:.0f} ms a step, {most / 1024:.1f} GiB"}


def _training(
    setting: Setting,
    source: ListedSource,
    backbone: str,
    classes: int,
    out: str,
    influence: bool,
    dim: int = 512,
    batch: int = 256,
    **options: dict[str, Any],
) -> Training:
    """A training whose steps the loop itself takes."""
    recipe = parse_recipe(
        {
            "data": {"source": "glyphs:classes=2,images=2", "workers": 8},
            "optim": {"batch_size": batch, **options.get("optim", {})},
            "augment": {"flip": True, "rotate": 8.0},
            "run": options.get("run", {}),
        }
    )
    height, channels = source.image_shape[1], source.image_shape[0]
    config = EmbedderConfig(backbone, dim, Preprocessing(size=height, channels=channels), batch_norm=True)
    term = InfluenceLoss(torch.randn(classes, dim), scale=SCALE) if influence else None
    task = CompatibleTask(Embedder(config), MarginHead(classes, dim, scale=SCALE), influence=term)
    training = Training(
        task,
        source,
        recipe,
        Path(out),
        OldSide(),
        validation=None,
        device=torch.device(setting.device),
        processes=None,
        quiet=True,
    )
    task.train()
    return training


def _faces(setting: Setting, size: int, count: int) -> ListedSource:
    return embedding.stream(embedding.jpegs(256 if not setting.small else 8, size), count, size)


def _steps(training: Training, held: list[Any], count: int) -> None:
    for number in range(count):
        training.step(held[number % len(held)], 1, 1.0, 0.01)


def training(setting: Setting) -> Row:
    """iresnet50 at 112 by the training loop: from JPEGs, on batches that lie ready, and with influence."""
    size, batch, count = setting(112, 16), setting(256, 8), setting(40, 2)
    backbone, classes = ("convnet16", 50) if setting.small else ("iresnet50", 93_431)
    source = _faces(setting, size, batch * (count + 5))
    with tempfile.TemporaryDirectory() as out:
        sides = [_training(setting, source, backbone, classes, out, one, batch=batch) for one in (False, True)]
        plain_side = sides[0]
        batches = plain_side.batches(0, 0)
        held = [next(batches) for _ in range(4)]
        ready = [lambda side=side: _steps(side, held, count // 2) for side in sides]
        took = [one / (count // 2) for one in setting.seconds(*ready, turns=3, warm=1)]
        setting.wait()
        began, taken = time.perf_counter(), 0
        for one in batches:
            plain_side.step(one, 1, 1.0, 0.01)
            taken += 1
            if taken == count:
                break
        setting.wait()
        loaded = (time.perf_counter() - began) / taken
        batches.close()  # type: ignore[attr-defined]
    more, busy = took[1] / took[0] - 1, min(took[0] / loaded, 1.0)
    return {
        "seconds_a_step": {"ready": took[0], "influence": took[1], "from_jpeg": loaded},
        "measured": (
            f"{batch / loaded:,.0f} images/s from JPEG, {batch / took[0]:,.0f} on batches that lie ready (busy "
            f"{100 * busy:.0f} %); influence {100 * more:+.1f} %"
        ),
    }


def refined(setting: Setting) -> Row:
    """Refined prototypes of 10,000 classes × 55 × 512; the paper's loop on a tenth of the classes, times ten."""
    classes, samples, dim = setting(10_000, 20), setting(55, 6), setting(512, 16)
    features, guide, labels = prototypes_beside.make_features(classes, samples, dim, "sorted")
    features, guide, labels = (one.to(setting.device) for one in (features, guide, labels))
    part, some = slice(0, len(labels) // 10), classes // 10
    given = features[part], labels[part], some, guide[part]

    def loop() -> Tensor:
        with torch.device(setting.device):
            return prototypes_beside.paper_loop(*given)

    difference = float((loop() - prototypes_beside.ours(*given)).abs().max())
    ours, theirs = setting.seconds(lambda: prototypes_beside.ours(features, labels, classes, guide), loop, turns=3)
    ratio = 10 * theirs / ours
    told = f"{1000 * ours:.0f} ms, {ratio:.0f} times the loop (differs by {difference:.0e})"
    return {"seconds": [ours, 10 * theirs], "difference": difference, "measured": told}


def embedded(setting: Setting) -> Row:
    """Images a second of `embed_rows` from JPEGs in bf16, against the bare forward pass in bf16."""
    size, batch, count = setting(112, 16), setting(256, 8), setting(24_576, 24)
    model = embedding.network("convnet16" if setting.small else "iresnet50", size, setting(512, 8), setting.device)
    fast, source = InBfloat16(model), _faces(setting, size, count)
    pixels = torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8)
    images = model.preprocessing(pixels).to(setting.device, torch.bfloat16)
    bare = copy.deepcopy(model).bfloat16()

    def forward() -> None:
        with torch.inference_mode():
            for _ in range(setting(20, 1)):
                bare(images)

    embed_rows(fast, source, stop=2 * batch, batch_size=batch)
    passes, exact, whole = setting.seconds(
        forward,
        lambda: embed_rows(model, source, stop=count // 4, batch_size=batch),
        lambda: embed_rows(fast, source, batch_size=batch),
        turns=2,
        warm=1,
    )
    rates = batch * setting(20, 1) / passes, count // 4 / exact, count / whole
    return {
        "images_per_second": rates,
        "measured": (
            f"{rates[2]:,.0f} images/s in bf16, {100 * rates[2] / rates[0]:.0f} % of the bare forward pass "
            f"({rates[0]:,.0f}); {rates[1]:,.0f} in fp32"
        ),
    }


def small_network(setting: Setting) -> Row:
    """Steps a second of the demo's network: as it is, with a fused optimiser, compiled, and with CUDA graphs."""
    batch, count, classes = setting(128, 8), setting(50, 2), setting(700, 20)
    source = _faces(setting, setting(32, 16), 8 * batch)
    kinds: dict[str, dict[str, dict[str, Any]]] = {"as it is": {}, "fused": {"optim": {"fused": True}}}
    for mode in () if setting.small else ("default", "reduce-overhead"):
        kinds[f"fused, compiled ({mode})"] = {"optim": {"fused": True}, "run": {"compile": mode}}
    with tempfile.TemporaryDirectory() as out:
        sides = [
            _training(setting, source, "convnet16", classes, out, False, 64, batch, **given)
            for given in kinds.values()
        ]  # fmt: skip
        held = [one for _, one in zip(range(8), sides[0].batches(0, 0), strict=False)]
        took = setting.seconds(*(lambda side=side: _steps(side, held, count) for side in sides), turns=5)
    rates = {name: count / one for name, one in zip(kinds, took, strict=True)}
    told = ", ".join(f"{name} {rate:,.0f}" for name, rate in rates.items())
    return {"steps_per_second": rates, "measured": f"steps/s: {told}"}


def checked(setting: Setting) -> Row:
    """`check` of 10,000 queries on 1,000,000 items, 128 dimensions, with intervals."""
    queries, items, dim = setting(10_000, 40), setting(1_000_000, 200), setting(128, 8)
    people = items // 80 or 10
    random = np.random.default_rng(0)
    centres = random.standard_normal((people, dim), dtype=np.float32)

    def of(count: int, noise: float, kind: str) -> VectorSet:
        labels = np.arange(count) % people
        vectors = centres[labels] + noise * random.standard_normal((count, dim), dtype=np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return VectorSet.from_arrays(vectors, labels=labels, ids=[f"{kind}{row}" for row in range(count)])

    old, gallery, new = of(queries, 1.5, "q"), of(items, 1.5, "g"), of(queries, 1.2, "q")
    metrics = ["rank@1", "mAP", "TAR@FAR=1e-3"]
    began = time.perf_counter()
    check(
        queries=new,
        gallery=gallery,
        baseline=old,
        metrics=metrics,
        replicates=setting(2000, 100),
        device=setting.device,
    )
    took = time.perf_counter() - began
    return {"seconds": took, "measured": f"{took:.1f} s"}


CASES: dict[str, tuple[str, str, Callable[[Setting], Row]]] = {
    "head": (
        "head 93,431 × 512, batch 512, forward + backward",
        "≤ 0.8 × plain PyTorch bf16, ≤ 256 MiB beyond the gradient; influence beside it ≤ +60 %",
        head,
    ),
    "four_million": ("4,000,000 classes × 512, batch 512, SGD momentum", "fits 80 GB", four_million),
    "refined": ("refined prototypes 10,000 × 55 × 512", "≥ 200 × the paper's loop", refined),
    "embedded": ("embedding, iresnet50 at 112 from JPEG", "≥ 90 % of the forward pass, ≥ 16,000 images/s", embedded),
    "training": (
        "training, iresnet50 at 112, batch 256",
        "≥ 1.4 × 4,400 images/s, busy ≥ 95 %; influence ≤ +3 %",
        training,
    ),
    "small_network": ("the demo's network", "≥ 3 × the steps/s as it is", small_network),
    "checked": ("check 10,000 × 1,000,000 × 128 with intervals", "≤ 5 s", checked),
}
"""By name: the case, the aim and what measures it."""


def measured(name: str, setting: Setting) -> Row:
    """A row, or why there is none."""
    torch.manual_seed(0)
    try:
        return CASES[name][2](setting)
    except Exception as error:
        if setting.small:
            raise
        return {"failed": f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}"}


if __name__ == "__main__":
    print(json.dumps(measured(sys.argv[1], Setting(sys.argv[2]))))
