"""What a margin head costs, forward and backward: in chunks, with the whole matrix of logits, and two peers.

All sides take turns in one process on the same vectors and weights; their losses and gradients are compared first.
Peak memory is that of a process that runs one side alone, beyond the weight and the vectors:

    python benchmarks/head.py [--classes 93431] [--dim 512] [--batch-size 512] [--clock cpu] [--device cuda]

The peers are ArcFace of pytorch-metric-learning, where it is installed, and plain PyTorch: the formulas of ArcFace
written out for `cross_entropy`.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import math
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from samespace.demo.run import peak_memory
from samespace.losses import InfluenceLoss, MarginHead
from samespace.losses import chunked as chunked_module
from step_time import CLOCKS

SCALE, MARGIN = 64.0, 0.5
OURS, WHOLE, BESIDE, PLAIN, PML = "in chunks", "whole matrix", "influence, in chunks", "plain PyTorch", "PML ArcFace"
SIDES = (OURS, WHOLE, BESIDE, PLAIN, PML)
Loss = Callable[[Tensor, Tensor], Tensor]


def plain(weight: Tensor) -> Loss:
    """ArcFace in six lines, as a reader of the paper would write it."""

    def loss(embeddings: Tensor, labels: Tensor) -> Tensor:
        cosine = functional.linear(functional.normalize(embeddings), functional.normalize(weight))
        own = cosine.gather(1, labels[:, None]).clamp(-1 + 1e-7, 1 - 1e-7)
        lowered = torch.where(own > -math.cos(MARGIN), (own.acos() + MARGIN).cos(), own - MARGIN * math.sin(MARGIN))
        return functional.cross_entropy(SCALE * cosine.scatter(1, labels[:, None], lowered), labels)

    return loss


def side(name: str, weight: Tensor) -> tuple[Loss, Tensor | None]:
    """One side's loss of (embeddings, labels) on this weight (C, D), and the parameter that it trains."""
    classes, dim = weight.shape
    if name == BESIDE:
        return InfluenceLoss(weight, scale=SCALE).to(weight.device), None
    if name == PML:
        from pytorch_metric_learning.losses import ArcFaceLoss

        peer = ArcFaceLoss(classes, dim, margin=math.degrees(MARGIN), scale=SCALE).to(weight.device)
        peer.W.data = weight.T.clone()
        return peer, peer.W
    if name == PLAIN:
        parameter = torch.nn.Parameter(weight)
        return plain(parameter), parameter
    head = MarginHead(classes, 1, scale=SCALE)
    head.weight = torch.nn.Parameter(weight)
    return head, head.weight


def step(name: str, weight: Tensor, embeddings: Tensor, labels: Tensor) -> Callable[[], tuple[Tensor, Tensor]]:
    """Forward and backward of one side, which gives the loss and the gradient of the embeddings."""
    loss_of, parameter = side(name, weight)
    rule = math.inf if name == WHOLE else chunked_module.LEAST

    def run() -> tuple[Tensor, Tensor]:
        chunked_module.LEAST, kept = rule, chunked_module.LEAST
        given = embeddings.clone().requires_grad_()
        loss = loss_of(given, labels)
        loss.backward()
        chunked_module.LEAST = kept
        if parameter is not None:
            parameter.grad = None
        if given.is_cuda:
            torch.cuda.synchronize()
        assert given.grad is not None
        return loss.detach(), given.grad

    return run


def inputs(args: argparse.Namespace) -> tuple[Tensor, Tensor, Tensor]:
    """Weight, embeddings and labels."""
    random = torch.Generator().manual_seed(0)
    weight = torch.empty(args.classes, args.dim).normal_(std=0.01, generator=random)
    labels = torch.randint(0, args.classes, (args.batch_size,), generator=random)
    noise = torch.randn(args.batch_size, args.dim, generator=random)
    embeddings = functional.normalize(weight[labels]) + noise / args.dim**0.5
    return weight.to(args.device), embeddings.to(args.device), labels.to(args.device)


def memory(args: argparse.Namespace) -> float:
    """Peak MiB of this process beyond its inputs, running one side."""
    given = inputs(args)
    run = step(args.alone, *given)
    if args.device != "cpu":
        before = torch.cuda.memory_allocated()
        run()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    before = peak_memory()
    run()
    return (peak_memory() - before) / 2**20


def memory_of(name: str, args: argparse.Namespace) -> float:
    """`memory` in a process of its own."""
    command = [sys.executable, __file__, "--alone", name, "--device", args.device, "--threads", str(args.threads)]
    command += ["--classes", str(args.classes), "--dim", str(args.dim), "--batch-size", str(args.batch_size)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, default=93_431)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall", help="cpu: processor time, on a busy machine")
    parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=SIDES)
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--alone", choices=SIDES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.alone:
        print(memory(args))
        return
    # first of all: what is started by a large process counts as large as that from its start
    peaks = {} if args.no_memory else {name: memory_of(name, args) for name in args.sides}
    weight, embeddings, labels = inputs(args)
    sides = {name: step(name, weight, embeddings, labels) for name in args.sides}
    first, expected = sides[args.sides[0]]()
    for name, run in sides.items():
        loss, gradient = run()
        if name != BESIDE:
            torch.testing.assert_close(loss, first, rtol=1e-3, atol=0)
            assert (gradient - expected).norm() <= 1e-3 * expected.norm(), name
    clock = CLOCKS[args.clock]
    times: dict[str, list[float]] = {name: [] for name in sides}
    for index in range(args.steps):
        for name in list(sides)[:: 1 if index % 2 else -1]:
            began = clock()
            sides[name]()
            times[name].append(clock() - began)
    ours = times[args.sides[0]]
    print(f"{args.classes} classes x {args.dim}, batch {args.batch_size}, forward + backward, {args.device}")
    for name, taken in times.items():
        ratio = statistics.median(mine / base_ for mine, base_ in zip(taken, ours, strict=True))
        line = f"  {name:22} {1000 * statistics.median(taken):9.2f} ms  ratio {ratio:6.2f}"
        if peaks:
            line += f"   memory {peaks[name]:6.0f} MiB  ratio {peaks[name] / peaks[args.sides[0]]:5.2f}"
        print(line, flush=True)
    peer = importlib.metadata.version("pytorch-metric-learning") if PML in sides else "left out"
    print(
        f"{args.threads} threads, {args.clock} time, load {os.getloadavg()[0]:.1f}, torch {torch.__version__}, "
        f"pytorch-metric-learning {peer}, Python {platform.python_version()}, {platform.machine()}"
    )


if __name__ == "__main__":
    main()
