"""The doctor: counts, orphans, damage, norms, canaries, indexes; for each finding what to do."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from samespace.errors import GalleryError, SamespaceError, counted
from samespace.gallery.index.adopted.store import store_of
from samespace.gallery.index.adopted.sync import differing
from samespace.gallery.index.base import Source
from samespace.gallery.index.manifest import MANIFEST
from samespace.gallery.ingest.checks import damaged
from samespace.gallery.ingest.images import ItemEmbedder
from samespace.gallery.ledger.ledger import Ledger
from samespace.gallery.ledger.state import State
from samespace.gallery.ledger.transactions.reader import LedgerReader
from samespace.gallery.upgrade.behind import dropped
from samespace.gallery.upgrade.model_check import require_same_model
from samespace.gallery.wording import backfill_call
from samespace.progress import Bar, silent
from samespace.scoring.score import SCORE_NAMES

_NORM_SLACK = 1e-3
_LAG = 50_000


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        level: `ok`, `note` (nothing is wrong yet) or `error`.
        what: what was seen.
        do: what to do about it; empty where nothing.
    """

    level: Literal["ok", "note", "error"]
    what: str
    do: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """The findings of the doctor.

    Attributes:
        findings: in the order they were looked at.
    """

    findings: tuple[Finding, ...]

    @property
    def healthy(self) -> bool:
        """Whether nothing is wrong."""
        return all(finding.level != "error" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {"healthy": self.healthy, "findings": [asdict(finding) for finding in self.findings]}


def examine(
    ledger: Ledger,
    source: Source,
    *,
    embedders: Mapping[int, ItemEmbedder] | None = None,
    repair: bool = False,
    advance: Bar = silent,
) -> Diagnosis:
    """Look at everything, every stored vector included; `embedders`, by generation, re-embed their canaries.

    `repair` brings the indexes up to date; no item and no vector is ever changed.
    """
    findings = list(_database(ledger))
    if any(finding.level == "error" for finding in findings):
        return Diagnosis(tuple(findings))
    with ledger.read() as reader:
        state = reader.state()
        findings += _counts(reader, state)
        findings += _pairs(state)
        for generation, kept in state.spaces.items():
            if not kept.retired:
                findings += _vectors(reader, state, generation, advance)
        findings += _work(reader, state)
        findings += _adopted(reader, source)
    for generation, embedder in (embedders or {}).items():
        findings.append(_canaries(ledger, state, generation, embedder))
    damaged = source.damaged()
    if repair:
        try:
            source.maintain(lambda rows, note: advance(0, note))
        except GalleryError as error:
            findings.append(Finding("error", str(error)))
            repair = False
    findings += _files(damaged, state, repair)
    findings += _indexes(source, state, repair)
    return Diagnosis(tuple(findings))


def _database(ledger: Ledger) -> Iterator[Finding]:
    wrong = list(ledger.engine.check())
    for line in wrong[:5]:
        yield Finding("error", f"the database is damaged: {line}", "restore it from a backup")
    if not wrong:
        yield Finding("ok", f"the database is whole, {ledger.engine.size() / 2**20:,.0f} MiB")


def _counts(reader: LedgerReader, state: State) -> Iterator[Finding]:
    items, served = reader.live(), reader.served(state.servable)
    parts = ", ".join(f"{count:,} by {state.spaces[generation].space}" for generation, count in served.items())
    left_out = dropped(state, reader)
    lacking = np.setdiff1d(reader.unserved(state.servable), left_out)
    yield Finding("ok", f"{counted(items, 'item')}; served: {parts}")
    if len(left_out):
        yield Finding(
            "note",
            f"{counted(len(left_out), 'item was', 'items were')} dropped at the switch: no search finds "
            "them, and a seal removes them",
            "embed them with gallery.backfill(retry=True), or roll back",
        )
    if len(lacking):
        names = [item.id for item in reader.items(lacking[:3]).values()]
        yield Finding(
            "error",
            f"{counted(len(lacking), 'item has', 'items have')} no vector that serves, such as "
            f"{', '.join(map(repr, names))}: no search "
            "finds them",
            f"give them one with {backfill_call(state, state.query)}, or add them again",
        )


def _pairs(state: State) -> Iterator[Finding]:
    for generation in state.servable:
        if generation == state.query:
            continue
        pair = f"queries of {state.spaces[state.query].space} on {state.spaces[generation].space}"
        link = state.links.get((state.query, generation))
        certify = (
            "run 'samespace check' for the pair; where it says yes, gallery.rollback() and "
            "gallery.upgrade(certificates=…) put its certificate in"
        )
        if link is None:
            yield Finding("error", f"{pair}: no certificate", certify)
        elif link.certificate is None:
            yield Finding("note", f"{pair}: accepted without a certificate", certify)
        else:
            fused = "" if link.share is None else f", of queries fused with share {link.share:g} of the new one"
            yield Finding("ok", f"{pair}: certificate of {link.certificate.get('created')}{fused}")
        if not state.calibrated(generation):
            calibrate = "run gallery.calibrate(queries, items) on held-out items"
            yield Finding("error", f"{pair}: no calibration", calibrate)


def _vectors(reader: LedgerReader, state: State, generation: int, advance: Bar) -> Iterator[Finding]:
    space, score = state.spaces[generation].space, state.spaces[generation].score
    total = torn = bent = 0
    longest = 0.0
    for rows in reader.batches(generation):
        total += len(rows.items)
        torn += damaged(rows)
        lengths = np.sqrt(np.einsum("ij,ij->i", rows.values, rows.values, dtype=np.float64))
        longest = max(longest, float(np.fmax.reduce(lengths)))
        fine = abs(lengths - 1) <= _NORM_SLACK if space.normalized else np.isfinite(rows.values).all(axis=1)
        bent += int((~fine).sum())
        advance(len(rows.items))
    orphans = reader.orphans(generation)
    again = "remove these items and add them again, or restore a backup"
    if torn:
        yield Finding("error", f"{space}: {torn:,} of {total:,} vectors are not what was written", again)
    if bent:
        what = "are not of unit length" if space.normalized else "are not finite"
        yield Finding("error", f"{space}: {bent:,} of {total:,} vectors {what}", again)
    if orphans:
        yield Finding("error", f"{space}: {counted(orphans, 'vector')} of items that are gone or have changed", again)
    if total and score == "ip" and longest > reader.longest(generation) * (1 + _NORM_SLACK):
        torn += 1
        yield Finding("error", f"{space}: vectors are longer than the greatest length that the ledger keeps", again)
    if not (torn or bent or orphans):
        how = "" if score == "cosine" else f", searched by {SCORE_NAMES[score]}"
        yield Finding("ok", f"{space}: {counted(total, 'vector')}, checksums and norms right, no orphans{how}")


def _work(reader: LedgerReader, state: State) -> Iterator[Finding]:
    now = time.time()
    target = state.query if state.filling is None else state.filling.new
    work = reader.work(target, now)
    if work.failed and not len(dropped(state, reader)):
        (name, reason), *_ = reader.failures(target, 1)
        yield Finding(
            "note",
            f"{counted(work.failed, 'item')} could not be embedded, the first is '{name}': {reason}",
            "mend the images and run gallery.backfill(retry=True), or remove the items",
        )
    if work.open:
        alive = len(reader.workers(now - 30))
        yield Finding(
            "note",
            f"{counted(work.open, 'item is', 'items are')} on the work list, "
            f"{counted(alive, 'worker is', 'workers are')} at it",
            "" if alive else f"run {backfill_call(state, target)} to go on",
        )


def _adopted(reader: LedgerReader, source: Source) -> Iterator[Finding]:
    store = store_of(source)
    if store is None:
        return
    found = differing(store, reader)
    added = f"{counted(found.added, 'row')} added"
    what = f"{store.name}: {added}, {found.changed:,} changed, {found.gone:,} gone since the last look"
    if found.added or found.changed or found.gone:
        yield Finding("note", what, "run gallery.sync()")
    else:
        yield Finding("ok", what)


def _canaries(ledger: Ledger, state: State, generation: int, embedder: ItemEmbedder) -> Finding:
    try:
        canaries = require_same_model(ledger, generation, embedder)
    except SamespaceError as error:
        return Finding("error", str(error), "give the model that made the vectors")
    if not canaries.checked:
        return Finding(
            "note", f"{state.spaces[generation].space}: no canary could be compared", "give the items' images"
        )
    return Finding("ok", f"{state.spaces[generation].space}: {canaries.checked} canaries agree to {canaries.worst:.6f}")


def _files(damaged: dict[int, list[str]], state: State, repaired: bool) -> Iterator[Finding]:
    for generation, names in damaged.items():
        files = counted(len(names), "index file is", "index files are")
        what = f"{state.spaces[generation].space}: {files} not what was written: {', '.join(names)}"
        if repaired:
            yield Finding("note", f"{what}; made anew from the database")
        else:
            again = "see whether the disk fails, and run gallery.doctor(repair=True)"
            meanwhile = "searches answer no damaged row, but may miss its item"
            if names == [MANIFEST]:
                meanwhile = "without it no index file counts, and each opening reads the database instead"
            yield Finding("error", f"{what}; {meanwhile}", again)


def _indexes(source: Source, state: State, repaired: bool) -> Iterator[Finding]:
    for generation, covered in source.coverage().items():
        lag, kind = int(covered["lag"]), str(covered["kind"])
        indexed = int(covered["indexed"])
        what = f"{state.spaces[generation].space}: index ({kind}) covers {indexed:,} vectors, lags by {lag:,}"
        if lag > _LAG:
            yield Finding("note", what, "" if repaired else "run gallery.doctor(repair=True)")
        else:
            yield Finding("ok", what)
