"""The meta files of IJB-B and IJB-C, as the face recognition community passes them on.

`ijbc_face_tid_mid.txt` has a line `image template medium` per face, `ijbc_template_pair_label.txt` a line
`template template label` per pair, `ijbc_name_5pts_score.txt` a line per face that ends in the detector's score,
`ijbc_1N_gallery_G1.csv`, `…_G2.csv` (S1 and S2 for IJB-B) and `ijbc_1N_probe_mixed.csv` begin with the columns
`TEMPLATE_ID,SUBJECT_ID`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from samespace import text
from samespace.errors import InputError, suggest
from samespace.files import require_file
from samespace.metrics._arrays import Floats, Ints

IJBName = Literal["IJB-B", "IJB-C"]
Templates = tuple[Ints, Ints]

_PREFIXES: dict[IJBName, str] = {"IJB-C": "ijbc", "IJB-B": "ijbb"}
_GALLERIES = {"ijbb": ("S1", "S2"), "ijbc": ("G1", "G2")}
_SCORE_COLUMNS = 12


@dataclass(frozen=True, eq=False)
class IJBMeta:
    """What the meta files say.

    Attributes:
        images: (E,) image of each line of the template list.
        templates: (E,) template of each line.
        media: (E,) medium of each line.
        first: (P,) first template of each pair.
        second: (P,) second template.
        genuine: (P,) bool, whether it is one person.
        galleries: by name, (templates, subjects) of each line; empty where the 1:N files are absent.
        probes: (templates, subjects) of each line; None likewise.
        scores: (E,) detector score of each line; None where not asked for.
        name: as published, `IJB-B` or `IJB-C`.
    """

    images: npt.NDArray[np.str_]
    templates: Ints
    media: Ints
    first: Ints
    second: Ints
    genuine: npt.NDArray[np.bool_]
    galleries: Mapping[str, Templates] = field(default_factory=dict)
    probes: Templates | None = None
    scores: Floats | None = None
    name: IJBName = "IJB-C"


def read_meta(folder: str | Path, *, name: IJBName | None = None, scores: bool = False) -> IJBMeta:
    """Read the meta files of IJB-B or IJB-C from a folder or its `meta` folder.

    By default whichever of the two is there, without the detector's scores.

    Raises:
        InputError: a file is missing, cut short, or does not fit the others.
    """
    meta, published = _locate(Path(folder), name)
    kind = _PREFIXES[published]
    faces = meta / f"{kind}_face_tid_mid.txt"
    pairs = meta / f"{kind}_template_pair_label.txt"
    image, template, medium = _columns(faces, ("image", "template", "medium"), (str, int, int))
    first, second, label = _columns(pairs, ("first template", "second template", "label"), (int, int, int))
    if label.size and not ((label == 0) | (label == 1)).all():
        row = int(np.argmax((label != 0) & (label != 1)))
        raise InputError(f"{pairs}:{row + 1}: a label is 1 for one person or 0 for two, got {label[row]}")
    listed = np.unique(template)
    for column in (first, second):
        _require_known(column, listed, pairs, faces)
    galleries, probes = _search_lists(meta, kind, listed, faces)
    return IJBMeta(
        images=image,
        templates=template,
        media=medium,
        first=first,
        second=second,
        genuine=label == 1,
        galleries=galleries,
        probes=probes,
        scores=_scores(meta / f"{kind}_name_5pts_score.txt", image, faces) if scores else None,
        name=published,
    )


def _locate(folder: Path, name: IJBName | None) -> tuple[Path, IJBName]:
    if name is not None and name not in _PREFIXES:
        raise InputError(f"unknown set '{name}'; {suggest(str(name), _PREFIXES)}")
    wanted = [name] if name is not None else list(_PREFIXES)
    for place in (folder, folder / "meta"):
        for published in wanted:
            if (place / f"{_PREFIXES[published]}_face_tid_mid.txt").is_file():
                return place, published
    prefix = _PREFIXES[wanted[0]]
    raise InputError(
        f"{folder} holds no meta files of {' or '.join(wanted)}: expected {prefix}_face_tid_mid.txt, "
        f"{prefix}_template_pair_label.txt and the 1:N lists there or in its folder 'meta'"
    )


def _search_lists(meta: Path, kind: str, listed: Ints, faces: Path) -> tuple[dict[str, Templates], Templates | None]:
    """Galleries and probes; nothing where none of the three files is there."""
    names = _GALLERIES[kind]
    paths = {name: meta / f"{kind}_1N_gallery_{name}.csv" for name in names}
    probe_path = meta / f"{kind}_1N_probe_mixed.csv"
    if not any(path.exists() for path in (*paths.values(), probe_path)):
        return {}, None
    lists = {name: _subjects(path, listed, faces) for name, path in (*paths.items(), ("", probe_path))}
    probes = lists.pop("")
    return lists, probes


def _subjects(path: Path, listed: Ints, faces: Path) -> Templates:
    import pyarrow
    import pyarrow.csv

    require_file(path, "a 1:N list of IJB, with the columns TEMPLATE_ID and SUBJECT_ID")
    try:
        table = pyarrow.csv.read_csv(path)
    except pyarrow.ArrowException as error:
        raise InputError(
            f"{path} is no table with TEMPLATE_ID and SUBJECT_ID ({_reason(error)}); is it whole?"
        ) from None
    columns = {name.strip().upper(): name for name in table.column_names}
    missing = [name for name in ("TEMPLATE_ID", "SUBJECT_ID") if name not in columns]
    if missing:
        raise InputError(f"{path} has no column {' or '.join(missing)}; it has {', '.join(table.column_names[:6])}")
    template, subject = (
        _integers(table.column(columns[name]), path, name, 2) for name in ("TEMPLATE_ID", "SUBJECT_ID")
    )
    if not len(template):
        raise InputError(f"{path} lists no template")
    _require_known(template, listed, path, faces)
    return template, subject


def _columns(path: Path, names: Sequence[str], kinds: Sequence[type]) -> list[npt.NDArray[Any]]:
    """Columns of a file of words parted by single spaces."""
    import pyarrow
    import pyarrow.csv

    require_file(path, f"lines of '{' '.join(names)}'")
    types = {
        name: pyarrow.string() if kind is str else pyarrow.int64() for name, kind in zip(names, kinds, strict=True)
    }
    try:
        table = pyarrow.csv.read_csv(
            path,
            read_options=pyarrow.csv.ReadOptions(column_names=list(names)),
            parse_options=pyarrow.csv.ParseOptions(delimiter=" ", quote_char=False),
            convert_options=pyarrow.csv.ConvertOptions(column_types=types, strings_can_be_null=True, null_values=[""]),
        )
    except pyarrow.ArrowException as error:
        raise InputError(f"{path} is no list of lines '{' '.join(names)}' ({_reason(error)}); is it whole?") from None
    if not table.num_rows:
        raise InputError(f"{path} is empty; expected lines of '{' '.join(names)}'")
    return [
        _words(table.column(name), path, name) if kind is str else _integers(table.column(name), path, name, 1)
        for name, kind in zip(names, kinds, strict=True)
    ]


def _integers(column: Any, path: Path, name: str, first_line: int) -> Ints:
    import pyarrow

    if not pyarrow.types.is_integer(column.type):
        raise InputError(f"{path}: column '{name}' should be integers, got {column.type}")
    _require_whole(column, path, name, first_line)
    return np.asarray(column.to_numpy(), dtype=np.int64)


def _words(column: Any, path: Path, name: str) -> npt.NDArray[np.str_]:
    _require_whole(column, path, name, 1)
    return np.asarray(column.to_pylist(), dtype=np.str_)


def _require_whole(column: Any, path: Path, name: str, first_line: int) -> None:
    if column.null_count:
        row = int(np.argmax(column.is_null().to_numpy()))
        raise InputError(f"{path}:{row + first_line}: the {name} is missing; is the file whole?")


def _require_known(templates: Ints, listed: Ints, path: Path, faces: Path) -> None:
    unknown = np.setdiff1d(templates, listed)
    if unknown.size:
        raise InputError(
            f"{path} names {unknown.size} templates that have no image in {faces.name}, the first {unknown[0]}"
        )


def _scores(path: Path, images: npt.NDArray[np.str_], faces: Path) -> Floats:
    names, scores = [], []
    what = "lines of an image, its ten landmark coordinates and the detector's score"
    for number, line in text.lines(path, what):
        words = line.split()
        if len(words) != _SCORE_COLUMNS:
            raise InputError(f"{path}:{number}: expected {_SCORE_COLUMNS} words, got {len(words)}; is it whole?")
        names.append(words[0])
        scores.append(words[-1])
    if len(names) != len(images):
        raise InputError(f"{path} has {len(names)} lines and {faces.name} {len(images)}; they should be the same faces")
    differ = np.asarray(names) != images
    if differ.any():
        row = int(np.argmax(differ))
        raise InputError(f"{path}:{row + 1}: expected the face '{images[row]}' of {faces.name}, got '{names[row]}'")
    try:
        return np.asarray(scores, dtype=np.float64)
    except ValueError:
        row = next(row for row, score in enumerate(scores) if not text.parses_as_float(score))
        raise InputError(f"{path}:{row + 1}: a score should be a number, got '{scores[row]}'") from None


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0][:160]
