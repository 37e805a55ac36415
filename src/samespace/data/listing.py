"""What a data set says it holds, image by image, whatever its format."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from samespace.data.decoding.fit import Size

Rows = npt.NDArray[np.int64]
Skipped = tuple[tuple[str, str], ...]
PassedOver = tuple[tuple[str, str], ...]


@dataclass(frozen=True, eq=False)
class Listing:
    """What a data set says it holds, before any image is decoded.

    Attributes:
        name: what to call the set in messages.
        ids: one unique name per image, `(N,)`.
        classes: the class of each image, `(N,)` whole numbers or strings; classes come in their sorted order.
        read: the file of image `n`, or its bytes; called from several threads.
        facts: what tells the contents of the images of these numbers from other contents, for the fingerprint.
        bad: name and reason of what is known to be unusable.
        passed_over: name and kind of what lies there and is no image of the set.
        doubtful: numbers of the images that may be damaged; None for all.
        size: (height, width) of every image, where the set declares it.
        named: False where ids are row numbers, which mean nothing in another set.
        item: what stands before an id in messages, such as `record`.
        notes: what its columns were taken as, or what else of it was read how, a sentence each.
    """

    name: str
    ids: npt.NDArray[np.str_]
    classes: npt.NDArray[np.int64] | npt.NDArray[np.str_]
    read: Callable[[int], Path | bytes]
    facts: Callable[[Rows], Iterable[bytes]]
    bad: Skipped = ()
    doubtful: Rows | None = None
    size: Size | None = None
    named: bool = True
    item: str = ""
    passed_over: PassedOver = ()
    notes: tuple[str, ...] = ()

    @classmethod
    def of_files(
        cls,
        name: str,
        ids: npt.NDArray[np.str_],
        classes: npt.NDArray[np.int64] | npt.NDArray[np.str_],
        path_of: Callable[[int], Path],
        *,
        told: npt.NDArray[np.generic] | None = None,
        bad: Skipped = (),
        passed_over: PassedOver = (),
        notes: tuple[str, ...] = (),
    ) -> Listing:
        """Images that are files; their facts are id, size, modification time, and `told` where ids do not tell it."""

        def facts(rows: Rows) -> Iterator[bytes]:
            for row in rows.tolist():
                stat = path_of(row).stat()
                label = "" if told is None else f" {told[row]}"
                yield f"{ids[row]} {stat.st_size} {stat.st_mtime_ns}{label}".encode(errors="surrogateescape")

        return cls(name, ids, classes, path_of, facts, bad, passed_over=passed_over, notes=notes)
