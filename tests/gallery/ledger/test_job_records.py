"""Records of the jobs of services, on every kind of store."""

from __future__ import annotations

from samespace.gallery.ledger.job_records import (
    add_job_record,
    ask_to_stop,
    drop_job_record,
    job_records,
    replace_job_record,
)
from samespace.gallery.ledger.ledger import Ledger


def test_a_record_is_replaced_only_as_it_was_read(ledger: Ledger) -> None:
    revision = ledger.state().revision
    with ledger.claiming() as writer:
        add_job_record(writer, "a", '{"who": "one"}')
        add_job_record(writer, "b", "%")
    with ledger.claiming() as writer:
        assert replace_job_record(writer, "a", "two", '{"who": "one"}')
        assert not replace_job_record(writer, "a", "three", '{"who": "one"}')
        assert not replace_job_record(writer, "c", "three", "two")
        ask_to_stop(writer, "a")
        ask_to_stop(writer, "a")
    with ledger.read() as reader:
        assert job_records(reader) == ({"a": "two", "b": "%"}, {"a"})
    with ledger.claiming() as writer:
        drop_job_record(writer, "a")
    with ledger.read() as reader:
        assert job_records(reader) == ({"b": "%"}, set())
    assert ledger.state().revision == revision
