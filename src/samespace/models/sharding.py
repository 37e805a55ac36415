"""Images embedded in shards, by several processes or machines that see one folder; the last one joins them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from samespace.data import ImageSource, subset
from samespace.errors import InputError
from samespace.files import write_json
from samespace.models.extract import LEFT_OUT, embed_to, job_of, left_out, vectors_to
from samespace.models.image_model import ImageModel
from samespace.progress import Advance, silent
from samespace.vectors import VectorSet

_ROWS = 65_536


@dataclass(frozen=True)
class Shard:
    """Number `index`, from 1, of `count` runs of consecutive images, of about equal length.

    Example:
        >>> Shard.parse("2/3").rows(10)
        range(3, 6)
    """

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read `2/8`. Raises InputError: something else, or an index beyond the count."""
        found = re.fullmatch(r"([1-9]\d*)/([1-9]\d*)", text)
        if found is None or int(found[1]) > int(found[2]):
            raise InputError(f"a shard is one of 1/N to N/N, such as 2/8 for the second of eight, got '{text}'")
        return cls(int(found[1]), int(found[2]))

    def rows(self, total: int) -> range:
        """Its rows among `total`."""
        return range((self.index - 1) * total // self.count, self.index * total // self.count)

    def folder(self, out: Path) -> Path:
        """Where its vectors lie until all are there."""
        return out.with_name(out.name + ".shards") / f"{self.index}-of-{self.count}"


def embed_shard(
    embedder: ImageModel,
    source: ImageSource,
    out: Path,
    shard: Shard,
    *,
    batch_size: int = 256,
    advance: Advance = silent,
) -> tuple[int, ...]:
    """Embed one shard of a source into `OUT.shards`, as `embed_to` does; the last one makes `out` of all of them.

    Each may be done anywhere and at any time, also again after a kill. What `out` then holds is what `embed_to` of the
    whole source writes.

    Returns:
        The numbers of the shards that are still to be done; none where `out` is whole.

    Raises:
        InputError: fewer images than shards, or `out` or the shard's folder holds something else.
    """
    if len(source) < shard.count:
        raise InputError(f"{source.name} has {len(source):,} images, too few for {shard.count:,} shards")
    if not out.exists():
        rows = np.asarray(shard.rows(len(source)))
        embed_to(embedder, subset(source, rows), shard.folder(out), batch_size=batch_size, advance=advance)
    shards = [replace(shard, index=number) for number in range(1, shard.count + 1)]
    missing = tuple(one.index for one in shards if not one.folder(out).exists())
    if missing and not out.exists():
        return missing
    _join(out, [one.folder(out) for one in shards], job_of(embedder, source), source.name)
    return ()


def _join(out: Path, folders: list[Path], job: dict[str, object], name: str) -> None:
    """Make one vector set of those of all shards, which are removed; nothing where it is there already."""
    parts = [] if out.exists() else [VectorSet.load(folder) for folder in folders]
    for folder, part in zip(folders, parts, strict=False):
        if part.space is not None and part.space.precision != job.get("precision", "fp32"):
            raise InputError(
                f"{folder} was made in {part.space.precision}, this shard in {job.get('precision', 'fp32')}: give all "
                "shards one --precision, fp32 or bf16, and remove the folders of the others"
            )
    ends = np.cumsum([len(part) for part in parts]).tolist()

    def batches(start: int) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]]:
        for part, end in zip(parts, ends, strict=True):
            first = end - len(part)
            for row in range(max(start, first), end, _ROWS):
                rows = np.arange(row, min(row + _ROWS, end))
                yield rows, part.take(rows - first)

    def finish(vectors: npt.NDArray[np.float32]) -> VectorSet:
        if unread := [pair for folder in folders for pair in left_out(folder)]:
            write_json(out.with_name(out.name + ".partial") / LEFT_OUT, dict(unread))
        one = parts[0]
        labels = None if one.labels is None else np.concatenate([part.labels for part in parts])
        whole = VectorSet.from_arrays(
            vectors, labels=labels, ids=np.concatenate([part.ids for part in parts]), space=one.space, name=name
        )
        return replace(whole, has_ids=one.has_ids)

    vectors_to(out, job, (ends[-1] if ends else 0, parts[0].dim if parts else 0), batches, finish)
    shutil.rmtree(folders[0].parent, ignore_errors=True)
