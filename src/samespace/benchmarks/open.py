"""The published benchmarks by name, each from its own files."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from samespace.benchmarks.base import Benchmark
from samespace.benchmarks.face_packs import read_pack_pairs
from samespace.benchmarks.ijb import IJB, Weights
from samespace.benchmarks.landmark_files import read_gldv2, read_revisited
from samespace.benchmarks.lfw import LFW
from samespace.benchmarks.reid import Reid
from samespace.benchmarks.vehicleid import VehicleID
from samespace.errors import InputError, suggest

BenchmarkName = Literal[
    "ijbb", "ijbc", "market1501", "msmt17", "roxford5k", "rparis6k", "gldv2", "lfw", "facepack", "vehicleid"
]

BENCHMARKS: tuple[str, ...] = get_args(BenchmarkName)


def open_benchmark(
    name: str, files: str | Path, *, weights: Weights = "none", distractors: str | Path | None = None
) -> Benchmark:
    """Read a benchmark from the files its publishers gave.

    Args:
        name: `ijbb` or `ijbc`: the folder of meta files. `market1501` or `msmt17`: the folder of the data set, of which
            only names are read. `roxford5k` or `rparis6k`: the ground truth `gnd_….pkl`, or its folder. `gldv2`: the
            folder of the retrieval solution and the list of index images. `lfw`: `pairs.txt`, or its folder.
            `facepack`: a pack of pairs, such as `cfp_fp.bin`. `vehicleid`: one of its lists, `test_list_800.txt`.
        files: where they are.
        distractors: more images for the gallery that no query looks for. Market-1501: a folder of images, as the 500k
            distractors come. ROxford5k, RParis6k: a list of images, one a line, such as `revisitop1m.txt`.
        weights: `detector` multiplies each image's vector by the face detector's score; IJB only.

    Raises:
        InputError: no such benchmark, files that are missing or malformed, or weights where there are none.
    """
    if weights != "none" and name not in ("ijbb", "ijbc"):
        raise InputError(f"weights are those of the face detector of IJB; {name} has none")
    if distractors is not None and name not in ("market1501", "roxford5k", "rparis6k"):
        raise InputError(f"distractors go with market1501, roxford5k and rparis6k; {name} has none")
    match name:
        case "ijbb" | "ijbc":
            return IJB.read(files, name="IJB-B" if name == "ijbb" else "IJB-C", weights=weights)
        case "market1501":
            return Reid.read(files, name="Market-1501", layout="market1501", distractors=distractors)
        case "msmt17":
            return Reid.read(files, name="MSMT17", layout="msmt17")
        case "roxford5k":
            return read_revisited(files, name="ROxford5k", distractors=distractors)
        case "rparis6k":
            return read_revisited(files, name="RParis6k", distractors=distractors)
        case "gldv2":
            return read_gldv2(files)
        case "lfw":
            return LFW.read(files)
        case "facepack":
            return read_pack_pairs(files)
        case "vehicleid":
            return VehicleID.read(files)
    raise InputError(f"unknown benchmark '{name}'; {suggest(name, BENCHMARKS)}")
