"""Training images that could not be read, in whose place others stood: said once each, and kept over resumes."""

from __future__ import annotations

import json
from pathlib import Path

from samespace.data import Batch, ImageSource
from samespace.errors import escaped
from samespace.progress import notice

UNREADABLE = "unreadable.jsonl"


class UnreadableNotes:
    """Notes of unreadable images in a file that every process of a training appends to."""

    def __init__(self, file: Path, *, quiet: bool) -> None:
        self._file, self._quiet = file, quiet
        self._known = set(read_notes(file))

    def __call__(self, source: ImageSource, batch: Batch) -> None:
        """Note the images of a batch that could not be read."""
        for place, missing in batch.unreadable.items():
            name = str(source.ids[missing.row])
            if name in self._known:
                continue
            self._known.add(name)
            other = escaped(str(source.ids[batch.rows[place]]))
            if not self._quiet:
                notice(f"{escaped(name)} cannot be read ({missing.reason}); {other} stands in its place")
            with self._file.open("a", encoding="utf-8") as file:
                file.write(json.dumps([name, missing.reason]) + "\n")


def read_notes(file: Path) -> dict[str, str]:
    """Reason by image id, in the order of the ids; empty where there is no such file."""
    found: dict[str, str] = {}
    for line in file.read_text(encoding="utf-8").split("\n") if file.exists() else ():
        try:
            name, reason = json.loads(line)
        except ValueError:
            # the last line of a killed training may be cut
            continue
        found[name] = reason
    return dict(sorted(found.items()))
