"""Memory of a training step of a margin head with SGD and momentum, computed without a GPU, by tensors without values.

    python benchmarks/head_memory.py [--classes 93431 4000000] [--kernel bf16]

Beside it, with `--measure`, the peak of a process that takes such steps on this CPU, in float32.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

import torch

from meta_device import MetaDevice
from samespace.demo.run import peak_memory
from samespace.losses.chunked import chunked_margin_loss
from samespace.losses.softmax import Kernel, Softmax


def step(weight: torch.nn.Parameter, optimizer: torch.optim.Optimizer, batch: int, kernel: Kernel) -> None:
    """One step of ArcFace."""
    vectors = torch.rand(batch, weight.shape[1], device=weight.device, requires_grad=True)
    targets = torch.zeros(batch, dtype=torch.long, device=weight.device)
    kind = Softmax("arcface", 64.0, 0.5, normalized=True, kernel=kernel)
    optimizer.zero_grad(set_to_none=True)
    chunked_margin_loss(vectors, weight, None, targets, kind).backward()
    optimizer.step()


def computed(classes: int, dim: int, batch: int, kernel: Kernel) -> tuple[int, int, int]:
    """Bytes of weight, gradient and momentum; the peak of the second step; kernels that a step launches."""
    with MetaDevice() as device:
        weight = torch.nn.Parameter(torch.empty(classes, dim, device="meta"))
        optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
        for _ in range(2):
            device.launches.clear()
            step(weight, optimizer, batch, kernel)
    return 3 * 4 * classes * dim, device.peak, device.launches.total()


def measured(classes: int, dim: int, batch: int) -> float:
    """Peak bytes of a process that takes two steps on the CPU, above what it has with one class."""
    command = [sys.executable, __file__, "--alone", str(classes), "--dim", str(dim), "--batch-size", str(batch)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def alone(classes: int, dim: int, batch: int) -> int:
    """Peak bytes of this process after two steps on the CPU."""
    weight = torch.nn.Parameter(torch.empty(classes, dim).normal_(std=0.01))
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
    for _ in range(2):
        step(weight, optimizer, batch, "float32")
    return peak_memory()


def main() -> None:
    """Compute or measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, nargs="+", default=[93_431, 1_000_000, 4_000_000])
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--kernel", choices=["float32", "bf16"], default="bf16")
    parser.add_argument("--measure", type=int, nargs=2, metavar="CLASSES", help="on this CPU, at these two sizes")
    parser.add_argument("--alone", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    size = (args.dim, args.batch_size)
    if args.alone:
        print(alone(args.alone, *size))
        return
    for classes in args.classes:
        kept, peak, launches = computed(classes, *size, args.kernel)
        print(
            f"{classes:>9,} classes x {args.dim}, batch {args.batch_size}, {args.kernel}: peak {peak / 1e9:6.2f} GB; "
            f"weight, gradient, momentum {kept / 1e9:6.2f} GB, the rest {(peak - kept) / 2**20:6.0f} MiB; "
            f"{launches} launches"
        )
    if args.measure:
        few, many = args.measure
        peaks = [measured(classes, *size) for classes in (few, many)]
        slope = (peaks[1] - peaks[0]) / (many - few)
        print(
            f"on this CPU, float32: peak {peaks[0] / 1e9:.2f} GB at {few:,} classes, {peaks[1] / 1e9:.2f} GB at "
            f"{many:,}: {slope:,.0f} bytes a class, {3 * 4 * args.dim:,} of them weight, gradient and momentum"
        )


if __name__ == "__main__":
    main()
