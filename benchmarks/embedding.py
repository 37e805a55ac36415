"""Embedding JPEGs by a network of faces: samespace in float32 and bf16, a plain DataLoader, ONNX Runtime.

All sides take turns in one process on the same files; their vectors are compared first. Peak memory is that of a
process that runs one side alone, beyond the network:

    python benchmarks/embedding.py [--images 64] [--threads 2] [--clock cpu] [--device cuda] [--json FILE]

ONNX Runtime needs the extra `onnx`.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import nn

from samespace.data.listed import ListedSource
from samespace.data.listing import Listing
from samespace.demo.run import peak_memory
from samespace.models import Embedder, EmbedderConfig, Preprocessing, export_onnx
from samespace.models.extract import embed_rows
from samespace.models.precision import InBfloat16, Parity
from step_time import CLOCKS

OURS, FAST, EAGER, ONNX = "samespace, fp32", "samespace, bf16", "DataLoader + module", "ONNX Runtime"
SIDES = (OURS, FAST, EAGER, ONNX)
Vectors = npt.NDArray[np.float32]
Side = Callable[[], Vectors]


def jpegs(count: int, size: int) -> list[bytes]:
    """Smooth random images with some noise, as JPEGs of quality 90."""
    random = np.random.default_rng(0)
    written = []
    for _ in range(count):
        coarse = Image.fromarray(random.integers(0, 256, (size // 8, size // 8, 3), dtype=np.uint8))
        pixels = np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC)).astype(np.int16)
        noisy = (pixels + random.integers(-8, 9, pixels.shape)).clip(0, 255).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(noisy).save(file, "JPEG", quality=90)
        written.append(file.getvalue())
    return written


def stream(files: list[bytes], count: int, size: int) -> ListedSource:
    """A source of `count` images, each decoded whenever it is asked for; files repeat where there are fewer."""
    names = np.array([f"{number:09}" for number in range(count)])
    listing = Listing(
        "stream",
        names,
        np.zeros(count, dtype=np.int64),
        lambda row: files[row % len(files)],
        lambda rows: [],
        doubtful=np.empty(0, dtype=np.int64),
        size=(size, size),
    )
    return ListedSource(listing, image_size=size, budget=0)


def network(backbone: str, size: int, dim: int = 512, device: str = "cpu") -> Embedder:
    """An embedder whose batch norms have seen images; its weights are random."""
    torch.manual_seed(0)
    config = EmbedderConfig(backbone, dim, Preprocessing(size=size, channels=3), batch_norm=True)
    model = Embedder(config, name=backbone).to(device)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None
    images = torch.randint(0, 256, (8, 3, size, size), dtype=torch.uint8)
    with torch.no_grad():
        model.train()(model.preprocessing(images.to(device)))
    return model.eval().requires_grad_(False)


class Decoded(torch.utils.data.Dataset[torch.Tensor]):
    """JPEGs as a reader of PyTorch's tutorials would read them."""

    def __init__(self, files: list[bytes], count: int) -> None:
        self.files, self.count = files, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, row: int) -> torch.Tensor:
        image = Image.open(io.BytesIO(self.files[row % len(self.files)])).convert("RGB")
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        return (pixels.float() / 255 - 0.5) / 0.5


class World:
    """The network, the images and the sides."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.files = jpegs(min(args.images, 256), args.size)
        self.model = network(args.backbone, args.size, device=args.device)

    def side(self, name: str) -> Side:
        """What embeds all images once."""
        if name in (OURS, FAST):
            model = self.model if name == OURS else InBfloat16(self.model)
            source = stream(self.files, self.args.images, self.args.size)
            return lambda: embed_rows(model, source, batch_size=self.args.batch_size)
        return self._eager() if name == EAGER else self._onnx()

    def _batches(self) -> Iterator[torch.Tensor]:
        loader = torch.utils.data.DataLoader(
            Decoded(self.files, self.args.images),
            batch_size=self.args.batch_size,
            num_workers=self.args.workers,
            pin_memory=self.args.device != "cpu",
        )
        yield from loader

    def _eager(self) -> Side:
        def run() -> Vectors:
            parts = []
            with torch.no_grad():
                for images in self._batches():
                    vectors = self.model(images.to(self.args.device))
                    parts.append(nn.functional.normalize(vectors, dim=1).cpu().numpy())
            return np.concatenate(parts)

        return run

    def _onnx(self) -> Side:
        import onnxruntime

        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "model.onnx"
            export_onnx(self.model, file)
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = self.args.threads
            kind = "CPU" if self.args.device == "cpu" else "CUDA"
            session = onnxruntime.InferenceSession(str(file), options, providers=[f"{kind}ExecutionProvider"])
        entry = session.get_inputs()[0].name

        def run() -> Vectors:
            # mean and std are inside the exported network
            units = (images * 0.5 + 0.5 for images in self._batches())
            return np.concatenate([session.run(None, {entry: unit.numpy()})[0] for unit in units])

        return run


def memory_of(name: str, arguments: list[str]) -> float:
    """Peak MiB of a process that runs one side, beyond its network and images."""
    command = [sys.executable, __file__, *arguments, "--alone", name]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def measured(world: World, names: list[str], clock: Callable[[], float], turns: int) -> dict[str, list[float]]:
    """Seconds of each side, turn by turn, after their vectors were found alike."""
    sides = {name: world.side(name) for name in names}
    expected = torch.from_numpy(sides[names[0]]())
    for name, run in sides.items():
        parity = Parity.of(expected, torch.from_numpy(run()))
        print(f"  {name}: {parity}", flush=True)
        assert parity.holds, name
    times: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(turns):
        for name in names[:: 1 if turn % 2 else -1]:
            began = clock()
            sides[name]()
            times[name].append(clock() - began)
    return times


def versions() -> str:
    """Of what was measured and with what."""
    found = []
    for package in ("torch", "onnxruntime", "simplejpeg", "Pillow"):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"no {package}")
    return f"{', '.join(found)}, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}"


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="iresnet50")
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, default=0, help="processes of the DataLoader")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall", help="cpu: processor time, on a busy machine")
    parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=SIDES)
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--alone", choices=SIDES, help=argparse.SUPPRESS)
    given = sys.argv[1:] if arguments is None else arguments
    args = parser.parse_args(given)
    torch.set_num_threads(args.threads)
    if args.alone:
        world = World(args)
        before = peak_memory()
        world.side(args.alone)()
        print((peak_memory() - before) / 2**20)
        return {}
    peaks = {} if args.no_memory else {name: memory_of(name, given) for name in args.sides}
    print(f"{args.backbone} at {args.size}, {args.images} JPEGs, batch {args.batch_size}, {args.device}")
    times = measured(World(args), args.sides, CLOCKS[args.clock], args.turns)
    result: dict[str, Any] = {}
    for name, taken in times.items():
        ratio = statistics.median(other / mine for other, mine in zip(times[args.sides[-1]], taken, strict=True))
        rate = args.images / statistics.median(taken)
        result[name] = {"images_per_second": rate, "ratio": ratio, "peak_mib": peaks.get(name)}
        memory = f", peak {peaks[name]:.0f} MiB" if peaks else ""
        print(f"  {name:20} {rate:8.1f} images/s, {ratio:5.2f} times {args.sides[-1]}{memory}", flush=True)
    print(f"  {args.threads} threads, {args.clock} time, {versions()}")
    if args.json:
        args.json.write_text(json.dumps(result, indent=2))
    return result


if __name__ == "__main__":
    main()
