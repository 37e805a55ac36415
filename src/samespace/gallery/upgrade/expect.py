"""A step of an upgrade that can be sent twice: it says how many steps its sender knows of, and counts but once."""

from __future__ import annotations

from samespace.errors import GalleryError, counted
from samespace.gallery.ledger.transactions.reader import LedgerReader


def require_step(reader: LedgerReader, expect: int | None) -> None:
    """Refuse a step whose sender has not seen the last one, such as a step that is sent twice.

    `expect`: how many steps of upgrades its sender knows of; None for a sender that does not care.

    Raises:
        GalleryError: another number was taken.
    """
    taken = reader.steps_taken()
    if expect is not None and expect != taken:
        steps = counted(taken, "step of upgrades has", "steps of upgrades have")
        raise GalleryError(
            f"{steps} been taken here, not the {expect} that were expected: another one came in between, or this one "
            "was carried out already. Nothing was changed; look at the status first"
        )
