"""The images of a `Listing` as a source: decoded once, or when asked for."""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal, TypedDict, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from samespace.data.decoding.fit import Size
from samespace.data.decoding.pixels import ImageSize, Seen, as_fit, decode, look, prepare_pillow, read, require_channels
from samespace.data.listing import Listing, Rows, Skipped
from samespace.data.readable import UnreadableImages
from samespace.data.source import as_rows, digest
from samespace.errors import InputError, SamespaceError, escaped
from samespace.names import faults

if TYPE_CHECKING:
    import torch

BUDGET = 2 * 1024**3
CHUNK, GROUP = 4096, 16
SHOWN = 5
T = TypeVar("T")


class ListedOptions(TypedDict, total=False):
    """Keyword arguments of `ListedSource`."""

    image_size: ImageSize | None
    channels: int | None
    broken: Literal["refuse", "skip"]
    budget: int
    workers: int | None


class ListedSource:
    """The images of a `Listing`, an `ImageSource`.

    If all images fit into `budget` bytes they are decoded once and kept; otherwise they are looked at for signs of
    damage now and decoded when asked for. An image that does not have the wanted size is resized to it, without
    keeping its proportions unless a `Fit` says so.

    Args:
        listing: which images there are, and where.
        image_size: side, or (height, width), in pixels, or a `Fit`; needed where the images differ in size.
        channels: 3 for RGB, 1 for grey.
        broken: what to do about images that cannot be read: refuse, naming them, or skip them and list them in
            `skipped`; those that turn out so only when they are asked for raise UnreadableImages then.
        budget: bytes of decoded images to keep in memory.
        workers: decoding threads.

    Attributes:
        skipped: name and reason of everything left out because it is broken, missing or empty.
        passed_over: name and kind of what lies there and is no image of the set, such as hidden files.
        seen: how many images were looked into; those of a large set of one known size only where they may be damaged.
        changes: how many of them are changed on the way to pixels, by how, such as `turned_upright`.
        resized: how many of them have another size than the source gives them.
        sizes: how many of them have each (height, width), upright.
        named: whether ids mean anything outside this set.
        notes: how the set was read, a sentence each.

    Raises:
        InputError: no image, a broken one, or unlike sizes without `image_size`.
    """

    def __init__(
        self,
        listing: Listing,
        *,
        image_size: ImageSize | None = None,
        channels: int | None = None,
        broken: Literal["refuse", "skip"] = "refuse",
        budget: int = BUDGET,
        workers: int | None = None,
    ) -> None:
        require_channels(channels)
        if broken not in ("refuse", "skip"):
            raise InputError(f"broken must be 'refuse' or 'skip', got {broken!r}")
        self.name, self.named, self.notes = listing.name, listing.named, listing.notes
        self._skips = broken == "skip"
        self._listing, self._channels = listing, channels or 3
        self._fit = as_fit(image_size)
        self._size = self._fit.size if self._fit is not None else listing.size
        self._workers = workers or min(8, os.cpu_count() or 1)
        self._fingerprint: str | None = None
        self.sizes: Counter[Size] = Counter()
        self._changes: Counter[str] = Counter()
        rows, bad, self._pixels = self._sift(budget)
        bad = [*((escaped(name), reason) for name, reason in listing.bad), *bad]
        if bad and broken == "refuse":
            raise InputError(_refusal(self.name, len(listing.ids), bad))
        if not len(rows) or self._size is None:
            name, reason = bad[0]
            if len(bad) == 1 and name == self.name:
                raise InputError(f"{name} cannot be read as an image: {reason}")
            raise InputError(
                f"none of the {len(listing.ids)} images in {self.name} can be read; the first, {name}: {reason}"
            )
        self._rows = rows
        present, labels = np.unique(listing.classes[rows], return_inverse=True)
        lost = np.setdiff1d(listing.classes, present)
        word = "class " if lost.dtype.kind == "i" else ""
        self.skipped: Skipped = (
            *bad,
            *((f"{word}{escaped(str(name))}", "a class whose images are all broken") for name in lost),
        )
        self.passed_over = tuple((escaped(name), escaped(kind)) for name, kind in listing.passed_over)
        self.classes = tuple(str(name) for name in present)
        self.labels: npt.NDArray[np.int64] = labels.astype(np.int64)
        self.ids: npt.NDArray[np.str_] = listing.ids[rows]
        self.image_shape = (self._channels, *self._size)

    def __len__(self) -> int:
        """Number of images."""
        return len(self._rows)

    def load(self, rows: Sequence[int] | npt.NDArray[np.int64]) -> torch.Tensor:
        """Images of these rows in this order, `(B, C, H, W)` uint8.

        Raises:
            UnreadableImages: images that were not kept in memory cannot be decoded, and such are skipped.
            InputError: likewise, and such are refused.
        """
        import torch

        index = as_rows(rows, len(self))
        if self._pixels is not None:
            return torch.from_numpy(self._pixels[index])
        out = np.empty((len(index), *self.image_shape), dtype=np.uint8)
        unreadable: dict[int, str] = {}
        for place, result in enumerate(self._map(self._read, self._rows[index])):
            if isinstance(result, str):
                unreadable[place] = result
            else:
                out[place] = result[0]
        if unreadable:
            raise self._unreadable(index, unreadable)
        return torch.from_numpy(out)

    def original(self, row: int) -> npt.NDArray[np.uint8]:
        """The image of a row at its own size, `(C, H, W)` uint8.

        Raises:
            UnreadableImages, InputError: it cannot be decoded; as `load`.
        """
        whole = partial(decode, channels=self._channels, size=None)
        result = _guarded(self._listing.read, whole, int(self._rows[row]))
        if isinstance(result, str):
            raise self._unreadable(np.array([row]), {0: result})
        return result

    @property
    def seen(self) -> int:
        """How many images were looked into."""
        return self.sizes.total()

    @property
    def changes(self) -> dict[str, int]:
        """How many of the images looked into are changed on the way to pixels, by how, the most frequent first."""
        return dict(self._changes.most_common())

    @property
    def resized(self) -> int:
        """How many of the images looked into have another size than the source gives them."""
        return self.seen - self.sizes[self.image_shape[1:]]

    def fingerprint(self) -> str:
        """The sha256 of what the format tells of the images' contents, and of the shape they are brought to.

        Where ids are mere numbers the shape plays no part: an allocation is then tied to this fingerprint, and has
        to fit the same images at every size.
        """
        if self._fingerprint is None:
            bare = all(name.isdecimal() for name in self.ids.tolist())
            shape = [] if bare else [str(self.image_shape).encode()]
            if self._fit is not None and not self._fit.plain:
                shape.append(str(self._fit).encode())
            self._fingerprint = digest([*shape, *self._listing.facts(self._rows)])
        return self._fingerprint

    def _sift(self, budget: int) -> tuple[Rows, list[tuple[str, str]], npt.NDArray[np.uint8] | None]:
        """Decode everything if it fits, else look at heads and tails; return what is good, what is not, and pixels."""
        rows, bad = self._named()
        if self._size is None or len(rows) * self._bytes(self._size) > budget:
            rows, broken = self._look(rows)
            bad += broken
            if self._size is None and self.sizes:
                self._size = _common_size(self.name, set(self.sizes))
        if not len(rows) or self._size is None or len(rows) * self._bytes(self._size) > budget:
            return rows, bad, None
        self.sizes.clear()
        self._changes.clear()
        pixels = np.empty((len(rows), self._channels, *self._size), dtype=np.uint8)
        kept: list[int] = []
        for row, decoded in zip(rows.tolist(), self._map(self._read, rows), strict=True):
            if isinstance(decoded, str):
                bad.append((self._called(row), decoded))
            else:
                pixels[len(kept)] = decoded[0]
                self._count(decoded[1])
                kept.append(row)
        return np.array(kept, dtype=np.int64), bad, pixels[: len(kept)]

    def _named(self) -> tuple[Rows, list[tuple[str, str]]]:
        """Rows whose id and class can be kept with vectors and in a gallery; those that cannot, and why."""
        unfit = faults(self._listing.ids.tolist())
        if self._listing.classes.dtype.kind == "U":
            unfit = {**faults(self._listing.classes.tolist()), **unfit}
        fit = np.setdiff1d(np.arange(len(self._listing.ids)), list(unfit)).astype(np.int64)
        return fit, [(self._called(row), unfit[row]) for row in sorted(unfit)]

    def _look(self, rows: Rows) -> tuple[Rows, list[tuple[str, str]]]:
        """Rows without signs of damage, and what is damaged and why."""
        doubtful = self._listing.doubtful
        looked = rows if self._size is None or doubtful is None else np.intersect1d(rows, doubtful)
        sound = np.ones(len(self._listing.ids), dtype=np.bool_)
        bad: list[tuple[str, str]] = []
        for row, result in zip(looked.tolist(), self._map(self._seen, looked), strict=True):
            if isinstance(result, str):
                sound[row] = False
                bad.append((self._called(row), result))
            else:
                self._count(result)
        return rows[sound[rows]], bad

    def _seen(self, file: Path | BinaryIO) -> Seen:
        return look(file, self._channels)

    def _read(self, file: Path | BinaryIO) -> tuple[npt.NDArray[np.uint8], Seen]:
        return read(file, self._channels, self._fit or self._size)

    def _count(self, seen: Seen) -> None:
        self.sizes[seen.size] += 1
        self._changes.update(seen.changes)

    def _map(self, look: Callable[[Path | BinaryIO], T], rows: Rows) -> Iterator[T | str]:
        """Results or reasons in the order of the rows, from threads that end with the iteration.

        Rows are handed out a chunk at a time, since every row handed out holds memory until its turn comes.
        """
        prepare_pillow()
        with ThreadPoolExecutor(self._workers, "samespace-decode") as pool:
            for start in range(0, len(rows), CHUNK):
                part = rows[start : start + CHUNK].tolist()
                size = max(1, min(GROUP, len(part) // self._workers))
                groups = [part[first : first + size] for first in range(0, len(part), size)]
                for results in pool.map(partial(_all_guarded, self._listing.read, look), groups):
                    yield from results

    def _unreadable(self, asked: Rows, reasons: dict[int, str]) -> InputError:
        """The error that says so of the first of some rows; `reasons` are by the place among them."""
        first = min(reasons)
        message = f"{self._place(int(asked[first]))} cannot be read ({reasons[first]}); repair or remove it"
        return UnreadableImages(message, reasons) if self._skips else InputError(message)

    def _bytes(self, size: Size) -> int:
        return self._channels * size[0] * size[1]

    def _called(self, row: int) -> str:
        return " ".join(filter(None, (self._listing.item, escaped(self._listing.ids[row]))))

    def _place(self, row: int) -> str:
        try:
            held = self._listing.read(int(self._rows[row]))
        except (InputError, OSError):
            held = b""
        return str(held) if isinstance(held, Path) else f"{self._called(self._rows[row])} of {self.name}"


def _all_guarded(
    read: Callable[[int], Path | bytes], look: Callable[[Path | BinaryIO], T], rows: list[int]
) -> list[T | str]:
    """What `_guarded` gives for each of some rows; a small image takes less time than handing it to a thread."""
    return [_guarded(read, look, row) for row in rows]


def _guarded(read: Callable[[int], Path | bytes], look: Callable[[Path | BinaryIO], T], row: int) -> T | str:
    """Turn whatever reading or decoding raises into one short reason."""
    held: Path | bytes = b""
    try:
        held = read(row)
        return look(held if isinstance(held, Path) else io.BytesIO(held))
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged bytes
        text = reason_of(error)
        return text.replace(str(held), held.name) if isinstance(held, Path) else text


def reason_of(error: Exception) -> str:
    """Why an image cannot be read, in one line, from what reading or decoding raised."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, UnidentifiedImageError):
        return "not an image of a known kind"
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels, which is too many to decode"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error).split("\n")[0]
    if isinstance(error, SamespaceError):
        return text
    return f"it cannot be decoded ({text})" if text else "it cannot be decoded"


def _common_size(name: str, sizes: set[Size]) -> Size:
    different = sorted(sizes)
    if len(different) > 1:
        few, many = different[0], different[-1]
        raise InputError(
            f"images in {name} differ in size, from {few[1]}x{few[0]} to {many[1]}x{many[0]} pixels "
            "(width x height); give an image_size to bring them to"
        )
    return different[0]


def _refusal(name: str, count: int, bad: Sequence[tuple[str, str]]) -> str:
    named = "; ".join(f"{item}: {reason}" for item, reason in bad[:SHOWN])
    more = f"; and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
    return (
        f"{name} ({count} images) holds {len(bad)} that cannot be used: {named}{more}; "
        "repair or remove them, or skip them with --broken skip (data.broken: skip)"
    )
