"""The files of the landmark benchmarks: the ground truth of revisited Oxford and Paris, and the solution of GLDv2."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import numpy.typing as npt

from samespace import text
from samespace.benchmarks.landmarks import DEPTHS, Landmarks, Setting
from samespace.data.published.safe_pickle import load_plain
from samespace.errors import InputError
from samespace.metrics._arrays import Ints
from samespace.scoring.mates import Pairs

_KINDS = ("easy", "hard", "junk")
# which lists are to be found and which take no place (Radenović et al., CVPR 2018, section 3.3)
_SETTINGS = {
    "easy": (("easy",), ("junk", "hard")),
    "medium": (("easy", "hard"), ("junk",)),
    "hard": (("hard",), ("junk", "easy")),
}
_GLDV2_DEPTH = 100


def read_revisited(path: str | Path, *, name: str, distractors: str | Path | None = None) -> Landmarks:
    """ROxford5k or RParis6k from `gnd_roxford5k.pkl` or `gnd_rparis6k.pkl`, read without running the pickle.

    Metrics are `mAP-easy`, `mAP-medium`, `mAP-hard` (trapezoidal, as published) and `mP@1-…`, `mP@5-…`, `mP@10-…`. A
    query without relevant images under a setting is left out of it.

    Args:
        path: the file, or the folder that has it.
        name: as published, `ROxford5k` or `RParis6k`.
        distractors: a list of more index images, one a line, such as `revisitop1m.txt` of R1M; their ids are the names
            without folder and suffix.

    Raises:
        InputError: no such file, a pickle that holds more than plain data, or lists that do not fit each other.
    """
    file = Path(path)
    if file.is_dir():
        file = file / f"gnd_{name.lower()}.pkl"
    what = f"the ground truth of {name}, gnd_{name.lower()}.pkl"
    truth = load_plain(file, what)
    if not isinstance(truth, dict) or not {"imlist", "qimlist", "gnd"} <= set(truth):
        raise InputError(f"{file}: expected {what}, a dictionary with 'imlist', 'qimlist' and 'gnd'")
    index, queries = _names(truth["imlist"], f"{file}: 'imlist'"), _names(truth["qimlist"], f"{file}: 'qimlist'")
    more = [] if distractors is None else _distractors(Path(distractors))
    entries = truth["gnd"]
    if not isinstance(entries, list) or len(entries) != len(queries):
        got = len(entries) if isinstance(entries, list) else type(entries).__name__
        raise InputError(f"{file}: 'gnd' should have an entry for each of {len(queries)} queries, got {got}")
    lists: dict[str, list[Ints]] = {kind: [] for kind in _KINDS}
    boxes = []
    for row, entry in enumerate(entries):
        where = f"{file}: entry {row} of 'gnd' (query '{queries[row]}')"
        if not isinstance(entry, dict) or not set(_KINDS) <= set(entry):
            raise InputError(f"{where} should have the lists 'easy', 'hard' and 'junk'")
        for kind in _KINDS:
            lists[kind].append(_rows(entry[kind], len(index), f"{where}: '{kind}'"))
        boxes.append(_box(entry.get("bbx"), where))
        if len(np.unique(np.concatenate([lists[kind][-1] for kind in _KINDS]))) != sum(
            len(lists[kind][-1]) for kind in _KINDS
        ):
            raise InputError(f"{where} names an image twice")
    title = f"{name} with {len(more):,} distractors" if more else name
    # they stand behind the index, whose places the ground truth counts
    return _revisited(title, queries, np.concatenate([index, np.array(more, dtype=str)]), lists, boxes)


def _distractors(path: Path) -> list[str]:
    names = [PurePath(line.strip()).stem for _, line in text.lines(path, "a list of distractors, one image a line")]
    if not names:
        raise InputError(f"{path} names no images")
    return names


def _revisited(
    name: str,
    queries: npt.NDArray[np.str_],
    index: npt.NDArray[np.str_],
    lists: Mapping[str, list[Ints]],
    boxes: list[Any],
) -> Landmarks:
    parts = {kind: Pairs.of_lists(lists[kind]) for kind in _KINDS}
    pairs = Pairs(
        query=np.concatenate([parts[kind].query for kind in _KINDS]),
        item=np.concatenate([parts[kind].item for kind in _KINDS]),
    )
    kind_of = np.repeat(np.array(_KINDS), [len(parts[kind]) for kind in _KINDS])
    settings, notes = [], []
    for setting, (relevant, ignored) in _SETTINGS.items():
        wanted = np.isin(kind_of, relevant)
        settings.append(Setting(f"-{setting}", relevant=wanted, ignored=np.isin(kind_of, ignored)))
        if empty := len(queries) - len(np.unique(pairs.query[wanted])):
            notes.append(f"{setting}: {empty} queries have no image to be found and were left out.")
    if not any(setting.relevant.any() for setting in settings):
        raise InputError(f"{name}: no query has an image to be found")
    kept = [setting for setting in settings if setting.relevant.any()]
    kinds = ["mAP", *(f"mP@{depth}" for depth in DEPTHS)]
    return Landmarks(
        name=name,
        ids=_joined(queries, index, name),
        queries=len(queries),
        pairs=pairs,
        settings=tuple(kept),
        metrics=tuple(f"{kind}{setting.suffix}" for kind in kinds for setting in kept),
        data={
            "queries": len(queries),
            "gallery": len(index),
            **{f"{kind}_pairs": len(parts[kind]) for kind in _KINDS},
        },
        notes=tuple(notes),
        boxes=None if any(box is None for box in boxes) else np.array(boxes, dtype=np.float64).reshape(-1, 4),
    )


def read_gldv2(folder: str | Path) -> Landmarks:
    """Retrieval on Google Landmarks v2: `retrieval_solution_v2.1.csv` and the list of its index images.

    Metrics are `mAP@100` over all queries and `mAP@100-public`, `mAP@100-private` over those of each part. Queries
    whose `Usage` is `Ignored` are left out.

    Args:
        folder: with one `retrieval_solution*.csv` (columns id, images, Usage) and one list of index images,
            `index_image_to_landmark*.csv` or `index.csv` (first column id).

    Raises:
        InputError: a file is missing or there are several, a column is missing, or an image is not in the index.
    """
    folder = Path(folder)
    solution = _one(folder, ("retrieval_solution*.csv",), "the retrieval solution of GLDv2")
    listing = _one(folder, ("index_image_to_landmark*.csv", "index.csv"), "the list of index images of GLDv2")
    index = np.array([row[0] for _, row in _csv(listing, ("id",))], dtype=str)
    place = {image: row for row, image in enumerate(index.tolist())}
    queries, usages, lists = [], [], []
    ignored = 0
    for number, (name, images, usage) in _csv(solution, ("id", "images", "Usage")):
        if usage == "Ignored":
            ignored += 1
            continue
        if usage not in ("Public", "Private"):
            raise InputError(f"{solution}:{number}: Usage should be Public, Private or Ignored, got '{usage[:80]}'")
        rows = [place.get(image, -1) for image in images.split()]
        if not rows or -1 in rows:
            missing = images.split()[rows.index(-1)] if rows else ""
            reason = f"image '{missing[:80]}' is not in {listing.name}" if rows else "no image is listed"
            raise InputError(f"{solution}:{number}: {reason}")
        queries.append(name)
        usages.append(usage)
        lists.append(np.unique(np.array(rows, dtype=np.int64)))
    if not queries:
        raise InputError(f"{solution}: no query is Public or Private")
    pairs = Pairs.of_lists(lists)
    usage_of = np.array(usages)[pairs.query]
    none = np.zeros(len(pairs), dtype=bool)
    settings = [Setting("", relevant=~none, ignored=none)]
    for part in ("Public", "Private"):
        if part in usages:
            settings.append(Setting(f"-{part.lower()}", relevant=usage_of == part, ignored=none))
    return Landmarks(
        name="GLDv2",
        ids=_joined(np.array(queries, dtype=str), index, str(folder)),
        queries=len(queries),
        pairs=pairs,
        settings=tuple(settings),
        metrics=tuple(f"mAP@{_GLDV2_DEPTH}{setting.suffix}" for setting in settings),
        data={"queries": len(queries), "gallery": len(index), "genuine_pairs": len(pairs), "ignored_queries": ignored},
        notes=(f"{ignored} queries that the solution ignores were left out.",) if ignored else (),
    )


def _names(value: Any, where: str) -> npt.NDArray[np.str_]:
    if not isinstance(value, list | tuple | np.ndarray) or not all(isinstance(name, str) for name in value):
        raise InputError(f"{where} should be a list of image names")
    return np.array([str(name) for name in value], dtype=str)


def _rows(value: Any, count: int, where: str) -> Ints:
    array = np.asarray(value if isinstance(value, list | tuple | np.ndarray) else [None])
    if not array.size:
        return np.zeros(0, dtype=np.int64)
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise InputError(f"{where} should be a list of places in 'imlist'")
    if array.min() < 0 or array.max() >= count:
        raise InputError(f"{where} points at image {int(array.max())}, but 'imlist' has {count}, counted from 0")
    return array.astype(np.int64)


def _box(value: Any, where: str) -> npt.NDArray[np.float64] | None:
    if value is None:
        return None
    box = np.asarray(value)
    if box.shape != (4,) or box.dtype.kind not in "iuf":
        raise InputError(f"{where}: 'bbx' should be four numbers, left, upper, right, lower")
    return box.astype(np.float64)


def _joined(queries: npt.NDArray[np.str_], index: npt.NDArray[np.str_], where: str) -> npt.NDArray[np.str_]:
    ids = np.concatenate([queries, index])
    names, counts = np.unique(ids, return_counts=True)
    if len(names) != len(ids):
        raise InputError(f"{where}: image '{names[int(counts.argmax())]}' is listed twice among queries and index")
    return ids


def _one(folder: Path, patterns: tuple[str, ...], what: str) -> Path:
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; expected one with {what}, {patterns[0]}")
    for pattern in patterns:
        files = sorted(folder.glob(pattern))
        if len(files) > 1:
            raise InputError(
                f"{folder} has several files {pattern}: {', '.join(path.name for path in files)}; keep one"
            )
        if files:
            return files[0]
    raise InputError(f"{folder} lacks {what}, {' or '.join(patterns)}")


def _csv(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, list[str]]]:
    """Line number and the named columns of each row."""
    table = text.rows(path, f"a table with {', '.join(columns)}")
    header = [name.strip() for name in next(table, (1, []))[1]]
    if missing := [name for name in columns if name not in header]:
        raise InputError(f"{path}: column '{missing[0]}' is missing; its columns are {', '.join(header)[:80]}")
    wanted = [header.index(name) for name in columns]
    for number, fields in table:
        if len(fields) != len(header):
            raise InputError(f"{path}:{number}: expected {len(header)} columns, got {len(fields)}")
        yield number, [fields[place].strip() for place in wanted]
