"""Who the templates of IJB are: subjects of the 1:N lists, joined by the pairs that are said to be of one person."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from samespace.benchmarks.ijb_files import IJBMeta
from samespace.errors import InputError
from samespace.metrics._arrays import Ints
from samespace.scoring.pairs import distinct, places_of, worth_a_table
from samespace.scoring.search import GalleryList

Codes = npt.NDArray[np.int32]

# one table of scores is made where it has at most this much more to do than the two it replaces
_SHARED_EXCESS = 1.25


@dataclass(frozen=True, eq=False)
class People:
    """The lists of a benchmark in numbers of templates.

    Attributes:
        templates: (T,) id of each template, ascending.
        first: (P,) number of the first template of each pair.
        second: (P,) number of the second.
        genuine: (P,) bool, whether the pair is of one person.
        identity: (T,) number of each template's person, the unit of the bootstrap.
        identities: how many people there are.
        galleries: templates and subjects of each gallery.
        probe: (Q,) number of each probe's template.
        probe_subject: (Q,) its subject.
        notes: what the lists contradict.
    """

    templates: Ints
    first: Codes
    second: Codes
    genuine: npt.NDArray[np.bool_]
    identity: Codes
    identities: int
    galleries: tuple[GalleryList, ...]
    probe: Ints
    probe_subject: Ints
    notes: tuple[str, ...]

    @classmethod
    def of(cls, meta: IJBMeta) -> People:
        """Number the templates and tell the people apart.

        Where a template is in no 1:N list, the pairs of one person say who it is; one that is in none of them is a
        person of its own.

        Raises:
            InputError: a template has two subjects, a template is unknown, or galleries come without probes.
        """
        if bool(meta.galleries) != (meta.probes is not None):
            raise InputError(f"{meta.name} needs both galleries and probes for 1:N, or neither")
        templates = np.unique(meta.templates)
        number = _Numbers(templates)
        lists = {name: _distinct(name, number(listed), subject) for name, (listed, subject) in meta.galleries.items()}
        probe, probe_subject = (
            _distinct("the probes", number(meta.probes[0]), meta.probes[1]) if meta.probes else (_none(), _none())
        )
        subject = np.full(len(templates), -1, dtype=np.int64)
        for name, (template, known) in (*lists.items(), ("the probes", (probe, probe_subject))):
            differ = (subject[template] >= 0) & (subject[template] != known)
            if differ.any():
                row = int(np.argmax(differ))
                raise InputError(
                    f"template {templates[template[row]]} has subject {known[row]} in {name} and "
                    f"{subject[template[row]]} elsewhere; a template is of one person"
                )
            subject[template] = known
        first, second = number(meta.first), number(meta.second)
        same = np.flatnonzero(meta.genuine)
        identity, joined = _identities(subject, first[same], second[same])
        return cls(
            templates=templates,
            first=first,
            second=second,
            genuine=np.asarray(meta.genuine, dtype=bool),
            identity=identity,
            identities=int(identity.max(initial=-1)) + 1,
            galleries=tuple(GalleryList(name, *columns) for name, columns in lists.items()),
            probe=probe,
            probe_subject=probe_subject,
            notes=_notes(joined),
        )

    @property
    def gallery_templates(self) -> Ints:
        """Templates of all galleries, one gallery after the other."""
        return np.concatenate([_none(), *(gallery.template for gallery in self.galleries)])

    @cached_property
    def tables(self) -> Tables:
        """Which templates stand in the tables of scores."""
        gallery, probe = self.gallery_templates, self.probe
        searched = len(gallery) * len(probe)
        if not searched or not worth_a_table(len(self.first), searched):
            return Tables(gallery, probe, shared=False)
        row, column = self._searched_places
        if row.min() >= 0 and column.min() >= 0:
            return Tables(gallery, probe, shared=True)
        count = len(self.templates)
        first, second = distinct(self.first, count), distinct(self.second, count)
        rows = np.concatenate([gallery, np.setdiff1d(first, gallery)])
        columns = np.concatenate([probe, np.setdiff1d(second, probe)])
        if len(rows) * len(columns) > _SHARED_EXCESS * (searched + len(first) * len(second)):
            return Tables(gallery, probe, shared=False)
        return Tables(rows, columns, shared=True)

    @cached_property
    def _searched_places(self) -> tuple[Codes, Codes]:
        """Place of the first of each pair among the galleries, and of the second among the probes; −1 elsewhere."""
        count = len(self.templates)
        return places_of(self.gallery_templates, self.first, count), places_of(self.probe, self.second, count)

    @property
    def pair_places(self) -> tuple[Codes, Codes]:
        """Row and column of each pair in a table that pairs share."""
        if len(self.tables.rows) == len(self.gallery_templates) and len(self.tables.columns) == len(self.probe):
            return self._searched_places
        count = len(self.templates)
        return places_of(self.tables.rows, self.first, count), places_of(self.tables.columns, self.second, count)

    @cached_property
    def impostor_identities(self) -> tuple[Codes, Codes]:
        """Identities of both templates of the pairs of two people."""
        return self.identity[self.first[~self.genuine]], self.identity[self.second[~self.genuine]]


@dataclass(frozen=True, eq=False)
class Tables:
    """The templates of the table of scores that the searches look into, and, where they share it, the pairs.

    Attributes:
        rows: galleries one after the other, then, where shared, further first templates of pairs.
        columns: probes, then, where shared, further second templates of pairs.
        shared: whether one table for both does little more than two, as in IJB, where the first of a pair is a gallery
            template and the second a probe.
    """

    rows: Ints
    columns: Ints
    shared: bool


class _Numbers:
    """From template ids to their numbers; a table where ids are small, as they are in IJB."""

    def __init__(self, templates: Ints) -> None:
        self.templates = templates
        self.table: Codes | None = None
        if len(templates) and templates[0] >= 0 and templates[-1] < max(1 << 24, 4 * len(templates)):
            self.table = np.full(int(templates[-1]) + 1, -1, dtype=np.int32)
            self.table[templates] = np.arange(len(templates), dtype=np.int32)

    def __call__(self, ids: Ints) -> Codes:
        if not len(ids):
            return np.zeros(0, dtype=np.int32)
        known = self.templates
        inside = bool(len(known)) and known[0] <= ids.min() and ids.max() <= known[-1]
        place = self._place(ids) if inside else None
        if place is None or place.min() < 0:
            raise InputError(f"template {ids[~np.isin(ids, known)][0]} has no image in the template list")
        return place

    def _place(self, ids: Ints) -> Codes:
        """Number of each id between the lowest and the highest; −1 for one that is not there."""
        if self.table is not None:
            return self.table[ids]
        place = np.searchsorted(self.templates, ids)
        return np.where(self.templates[place] == ids, place, -1).astype(np.int32)


def _distinct(name: str, template: Codes, subject: Ints) -> tuple[Ints, Ints]:
    """Each template once, ascending, with its subject; a 1:N list names a template once for each of its images."""
    if len(subject) and int(subject.min()) < 0:
        raise InputError(f"{name}: subjects should be numbers of at least 0, got {subject.min()}")
    distinct, row, back = np.unique(template, return_index=True, return_inverse=True)
    if (subject[row][back] != subject).any():
        place = int(np.argmax(subject[row][back] != subject))
        raise InputError(f"{name}: a template has two subjects, {subject[row][back][place]} and {subject[place]}")
    return distinct.astype(np.int64), subject[row]


def _identities(subject: Ints, first: Codes, second: Codes) -> tuple[Codes, int]:
    """Number of each template's person, and how many pairs of one person have two subjects."""
    known = subject >= 0
    names, code = np.unique(subject[known], return_inverse=True)
    group = np.empty(len(subject), dtype=np.int64)
    group[known] = code
    group[~known] = len(names) + np.arange(np.count_nonzero(~known))
    links = np.unique(np.stack([group[first], group[second]], axis=1), axis=0)
    links = links[links[:, 0] != links[:, 1]]
    conflicts = int(np.count_nonzero(known[first] & known[second] & (group[first] != group[second])))
    root: dict[int, int] = {}
    for one, other in links.tolist():
        root[max(_root(root, one), _root(root, other))] = min(_root(root, one), _root(root, other))
    for joined in list(root):
        group[group == joined] = _root(root, joined)
    return np.unique(group, return_inverse=True)[1].astype(np.int32), conflicts


def _root(root: dict[int, int], place: int) -> int:
    while root.get(place, place) != place:
        place = root[place]
    return place


def _notes(conflicts: int) -> tuple[str, ...]:
    if not conflicts:
        return ()
    return (
        f"{conflicts} pairs are said to be of one person though their templates have two subjects in the 1:N lists; "
        "1:1 follows the pair list, 1:N the subjects.",
    )


def _none() -> Ints:
    return np.zeros(0, dtype=np.int64)
