"""Texts to vectors on disk, by any encoder of texts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from samespace.data.texts import Texts
from samespace.encoders.encoder import Encoder
from samespace.errors import InputError
from samespace.progress import Advance, silent
from samespace.vectors import VectorSet


def embed_texts(
    encoder: Encoder, texts: Texts, folder: str | Path, *, batch_size: int = 256, advance: Advance = silent
) -> VectorSet:
    """Embed texts into a vector set on disk; after a kill, the same call carries on.

    Texts are given to the encoder `batch_size` at a time. A folder that already holds the vectors of this encoder for
    these texts is left as it is.

    Raises:
        InputError: the encoder takes no texts, or `folder` holds something else.
    """
    from samespace.models.extract import vectors_to

    if encoder.modality != "text":
        raise InputError(
            f"{encoder.space.name or 'the encoder'} takes items of modality '{encoder.modality}', and {texts.name} "
            "holds texts; an encoder of texts is needed here"
        )

    def batches(start: int) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]]:
        for first in range(start, len(texts), batch_size):
            some = texts.texts[first : first + batch_size]
            yield np.arange(first, first + len(some)), encoder.encode(some, batch_size=batch_size)

    def finish(vectors: npt.NDArray[np.float32]) -> VectorSet:
        return VectorSet.from_arrays(vectors, labels=texts.labels, ids=texts.ids, space=encoder.space, name=texts.name)

    job = {"space": encoder.space.id, "source": texts.fingerprint(), "count": len(texts)}
    return vectors_to(folder, job, (len(texts), encoder.space.dim), batches, finish, advance)
