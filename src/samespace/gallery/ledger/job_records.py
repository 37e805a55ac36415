"""Records of the backfills that services run, kept with the gallery so that each of its processes knows them.

A record is a row of `meta`, and so is a wish to stop one; no search notices either. Only the process that runs a job
writes its record, and who takes a job over from a dead one replaces just the record that it has read.
"""

from __future__ import annotations

from samespace.gallery.ledger.transactions.queue import WorkQueue
from samespace.gallery.ledger.transactions.reader import LedgerReader

_JOB, _STOP = "service job ", "stop service job "


def job_records(reader: LedgerReader) -> tuple[dict[str, str], set[str]]:
    """The record of each job by its id, and the ids of those that should stop."""
    sql = "SELECT key, value FROM meta WHERE key LIKE ?"
    records = {key.removeprefix(_JOB): value for key, value in reader.session.all(sql, [f"{_JOB}%"])}
    return records, {key.removeprefix(_STOP) for key, _ in reader.session.all(sql, [f"{_STOP}%"])}


def add_job_record(writer: WorkQueue, name: str, record: str) -> None:
    """Store the record of a new job."""
    writer.session.run("INSERT INTO meta VALUES (?, ?)", [_JOB + name, record])


def replace_job_record(writer: WorkQueue, name: str, record: str, before: str) -> bool:
    """Store another record in the place of one that is still what it was `before`; whether it was."""
    sql = "UPDATE meta SET value = ? WHERE key = ? AND value = ?"
    return writer.session.run(sql, [record, _JOB + name, before]) == 1


def drop_job_record(writer: WorkQueue, name: str) -> None:
    """Forget a job."""
    writer.session.run("DELETE FROM meta WHERE key = ? OR key = ?", [_JOB + name, _STOP + name])


def ask_to_stop(writer: WorkQueue, name: str) -> None:
    """Let the process that runs a job know that it should stop."""
    writer.session.run("INSERT INTO meta VALUES (?, '') ON CONFLICT (key) DO NOTHING", [_STOP + name])
