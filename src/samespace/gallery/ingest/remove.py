"""Items taken out of a gallery."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from samespace.errors import InputError
from samespace.gallery.ledger.ledger import Ledger


def remove_items(ledger: Ledger, ids: Sequence[str]) -> int:
    """Remove items by id, all or none; how many. Errors as of `Gallery.remove`."""
    with ledger.write() as writer:
        known = {name: item for name, item in writer.find(ids).items() if not item.deleted}
        unknown = [name for name in ids if name not in known]
        if unknown:
            raise InputError(f"the gallery has no item '{unknown[0]}'; nothing was removed")
        writer.remove_items(np.array(sorted({item.number for item in known.values()}), dtype=np.int64))
        writer.note("remove", items=len(known))
    return len(known)
