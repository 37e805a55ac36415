"""LFW, CFP-FP, AgeDB-30, CALFW and others as packs of pairs, `.bin`: pairs in ten folds, without names."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from samespace.benchmarks.lfw import LFW
from samespace.data.published.facepack import read_face_pack
from samespace.errors import InputError

_NAMES = {
    "lfw": "LFW",
    "cfp_fp": "CFP-FP",
    "cfp_ff": "CFP-FF",
    "agedb_30": "AgeDB-30",
    "calfw": "CALFW",
    "cplfw": "CPLFW",
}
_FOLDS = 10


def read_pack_pairs(path: str | Path) -> LFW:
    """The pairs of a pack; ids of the images are their places, `0`, `1`, …, as `facepack:FILE` gives them.

    Ten consecutive folds, the first of them a pair longer where pairs do not divide by ten, as the verification code
    published with ArcFace (Deng et al., CVPR 2019) splits them. Packs tell no names, so the people of the bootstrap are
    those of `FacePack`.

    Raises:
        InputError: what `read_face_pack` refuses, fewer than ten pairs, or pairs of one kind alone.
    """
    file = Path(path)
    pack = read_face_pack(file)
    pairs = len(pack.same)
    if pairs < _FOLDS or pack.same.all() or not pack.same.any():
        raise InputError(
            f"{file} holds {pairs} pairs, {int(pack.same.sum())} of one person; expected ten or more, of both kinds"
        )
    first = 2 * np.arange(pairs)
    people = pack.person.reshape(-1, 2)
    notes = ["The pack names nobody: images of a pair of one person, and equal images, count as one person."]
    if doubtful := int(((people[:, 0] == people[:, 1]) & ~pack.same).sum()):
        notes.append(f"{doubtful} pairs of two people are of images that other pairs say are of one person.")
    return LFW(
        ids=np.arange(2 * pairs).astype(np.str_),
        first=first,
        second=first + 1,
        same=pack.same,
        fold=np.repeat(np.arange(_FOLDS), [len(part) for part in np.array_split(first, _FOLDS)]),
        people=people,
        identities=int(pack.person.max()) + 1,
        name=_NAMES.get(file.stem.lower(), file.stem),
        notes=tuple(notes),
    )
