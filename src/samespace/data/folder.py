"""Image folders laid out as `root/class/image`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from samespace.data.pixels import Size, as_size, decode, header, require_channels
from samespace.data.source import as_rows, digest
from samespace.errors import InputError

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
BUDGET = 2 * 1024**3
CHUNK = 4096
SHOWN = 5
T = TypeVar("T")
Skipped = tuple[tuple[str, str], ...]


class FolderSource:
    """Labelled images from `root/class/image`; the id of an image is its path relative to the root.

    Files and folders are read in the order of their names. If all images fit into `budget` bytes they are decoded
    once and kept; otherwise files are looked at for signs of damage now and decoded when asked for. An image that
    does not have the wanted size is resized to it, without keeping its proportions.

    Args:
        root: the folder.
        image_size: side, or (height, width), in pixels; needed where the images differ in size.
        channels: 3 for RGB, 1 for grey.
        broken: what to do about images that cannot be read and classes without images: refuse, naming them, or
            skip them and list them in `skipped`.
        budget: bytes of decoded images to keep in memory.
        workers: decoding threads.

    Attributes:
        skipped: path and reason of everything left out because it is broken or empty.
        ignored: files and folders that are no images or lie at another depth.

    Raises:
        InputError: no folder, no class, an empty class, a broken image, or unlike sizes without `image_size`.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        image_size: int | tuple[int, int] | None = None,
        channels: int | None = None,
        broken: Literal["refuse", "skip"] = "refuse",
        budget: int = BUDGET,
        workers: int | None = None,
    ) -> None:
        self.root = Path(root)
        self.name = f"{self.root}/"
        require_channels(channels)
        if broken not in ("refuse", "skip"):
            raise InputError(f"broken must be 'refuse' or 'skip', got {broken!r}")
        self._size, self._channels = as_size(image_size), channels or 3
        self._fingerprint: str | None = None
        self._workers = workers or min(8, os.cpu_count() or 1)
        found, empty, self.ignored = _scan(self.root)
        bad = [(name, "a class folder without images") for name in empty]
        if not found:
            raise InputError(_nothing(self.root, empty, self.ignored))
        kept, bad, pixels = self._read(found, bad, budget)
        if bad and broken == "refuse":
            raise InputError(_refusal(self.root, len(found), bad))
        if not kept or self._size is None:
            raise InputError(f"none of the {len(found)} images in {self.name} can be read; first: {bad[0]}")
        names = [path.parent.name for path in kept]
        lost = sorted({path.parent.name for path in found} - set(names))
        self.skipped: Skipped = tuple(bad + [(name, "a class whose images are all broken") for name in lost])
        classes, labels = np.unique(np.array(names), return_inverse=True)
        self.classes = tuple(str(name) for name in classes)
        self.labels: npt.NDArray[np.int64] = labels.astype(np.int64)
        self.ids: npt.NDArray[np.str_] = np.array([path.relative_to(self.root).as_posix() for path in kept])
        self._paths, self._pixels = kept, pixels
        self.image_shape = (self._channels, *self._size)

    def __len__(self) -> int:
        """Number of images."""
        return len(self._paths)

    def load(self, rows: Sequence[int] | npt.NDArray[np.int64]) -> torch.Tensor:
        """Images of these rows in this order, `(B, C, H, W)` uint8.

        Raises:
            InputError: a file that was not kept in memory can no longer be decoded.
        """
        index = as_rows(rows, len(self))
        if self._pixels is not None:
            return self._pixels[torch.from_numpy(index)]
        out = np.empty((len(index), *self.image_shape), dtype=np.uint8)
        for position, result in enumerate(self._decode([self._paths[row] for row in index])):
            if isinstance(result, str):
                raise InputError(f"{self._paths[index[position]]} cannot be read ({result}); repair or remove it")
            out[position] = result
        return torch.from_numpy(out)

    def fingerprint(self) -> str:
        """The sha256 of ids, file sizes, modification times and the shape the images are brought to."""
        if self._fingerprint is None:
            facts = [str(self.image_shape)]
            facts += [f"{name} {_stamp(path)}" for name, path in zip(self.ids, self._paths, strict=True)]
            self._fingerprint = digest(fact.encode(errors="surrogateescape") for fact in facts)
        return self._fingerprint

    def _read(
        self, paths: list[Path], bad: list[tuple[str, str]], budget: int
    ) -> tuple[list[Path], list[tuple[str, str]], torch.Tensor | None]:
        """Decode everything if it fits, else look at headers; return what is good, what is not, and the pixels."""
        sizes: dict[Path, Size] = {}
        if self._size is None or len(paths) * self._bytes(self._size) > budget:
            for path, result in zip(paths, self._map(header, paths), strict=True):
                if isinstance(result, str):
                    bad.append((self._relative(path), result))
                else:
                    sizes[path] = result
            paths = list(sizes)
        if self._size is None and sizes:
            self._size = _common_size(self.root, sizes)
        if not paths or self._size is None or len(paths) * self._bytes(self._size) > budget:
            return paths, bad, None
        pixels = np.empty((len(paths), self._channels, *self._size), dtype=np.uint8)
        kept: list[Path] = []
        for path, decoded in zip(paths, self._decode(paths), strict=True):
            if isinstance(decoded, str):
                bad.append((self._relative(path), decoded))
            else:
                pixels[len(kept)] = decoded
                kept.append(path)
        return kept, bad, torch.from_numpy(pixels[: len(kept)])

    def _decode(self, paths: Sequence[Path]) -> Iterator[npt.NDArray[np.uint8] | str]:
        channels, size = self._channels, self._size

        def one(path: Path) -> npt.NDArray[np.uint8]:
            return decode(path, channels, size)

        return self._map(one, paths)

    def _map(self, read: Callable[[Path], T], paths: Sequence[Path]) -> Iterator[T | str]:
        """Results or reasons in the order of the paths, from threads that end with the iteration.

        Paths are handed out a chunk at a time, since every path handed out holds memory until its turn comes.
        """
        with ThreadPoolExecutor(self._workers, "samespace-decode") as pool:
            for start in range(0, len(paths), CHUNK):
                yield from pool.map(_guarded(read), paths[start : start + CHUNK])

    def _bytes(self, size: Size) -> int:
        return self._channels * size[0] * size[1]

    def _relative(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()


def _scan(root: Path) -> tuple[list[Path], list[str], tuple[str, ...]]:
    """Image paths in order, names of classes without any, and everything else that lies there."""
    if not root.is_dir():
        raise InputError(f"{root} is not a folder; expected images as root/class/image")
    images: list[Path] = []
    empty: list[str] = []
    ignored: list[str] = []
    for entry in sorted(root.iterdir(), key=lambda path: path.name):
        if entry.name.startswith("."):
            continue
        if not entry.is_dir():
            ignored.append(entry.name)
            continue
        inside = sorted((path for path in entry.iterdir() if not path.name.startswith(".")), key=lambda p: p.name)
        found = [path for path in inside if path.suffix.lower() in SUFFIXES and path.is_file()]
        usable = set(found)
        ignored += [path.relative_to(root).as_posix() for path in inside if path not in usable]
        images += found
        if not found:
            empty.append(entry.name)
    return images, empty, tuple(ignored)


def _guarded(read: Callable[[Path], T]) -> Callable[[Path], T | str]:
    """Turn whatever a decoder raises into one short reason."""

    def guarded(path: Path) -> T | str:
        try:
            return read(path)
        except Exception as error:  # Pillow's decoders raise nearly anything on damaged bytes
            text = str(error).replace(str(path), path.name).split("\n")[0]
            return text or type(error).__name__

    return guarded


def _common_size(root: Path, sizes: dict[Path, Size]) -> Size:
    different = sorted(set(sizes.values()))
    if len(different) > 1:
        few, many = different[0], different[-1]
        raise InputError(
            f"images in {root}/ differ in size, from {few[1]}x{few[0]} to {many[1]}x{many[0]} pixels "
            "(width x height); give an image_size to bring them to"
        )
    return different[0]


def _nothing(root: Path, empty: list[str], ignored: tuple[str, ...]) -> str:
    if empty:
        return f"no images in {root}/: class folder {empty[0]!r} is empty; expected root/class/image"
    if any(Path(name).suffix.lower() in SUFFIXES for name in ignored):
        return f"{root}/ holds images but no class folders; expected root/class/image"
    return f"no class folders in {root}/; expected images as root/class/image"


def _refusal(root: Path, count: int, bad: list[tuple[str, str]]) -> str:
    named = "; ".join(f"{name}: {reason}" for name, reason in bad[:SHOWN])
    more = f"; and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
    return (
        f"{root}/ ({count} images) holds {len(bad)} broken or empty: {named}{more}; "
        "repair or remove them, or skip them with --broken skip (data.broken: skip)"
    )


def _stamp(path: Path) -> str:
    stat = path.stat()
    return f"{stat.st_size} {stat.st_mtime_ns}"
