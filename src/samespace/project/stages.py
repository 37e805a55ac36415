"""Stages of a build: each made once from what it depends on, kept while that stays the same, put aside when not."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samespace.files import read_json, write_json

_FILE = "stages.json"
EARLIER = "earlier"


@dataclass(frozen=True, eq=False)
class Stage:
    """One step of a build.

    Attributes:
        name: short, such as `paragon`.
        what: what it makes, for people.
        made: the files and folders that it makes.
        key: stands for everything that these are made from.
        do: makes them, carrying on where it was cut off.
        seconds: it should take on this machine.
        units: images that its progress bars count.
        commands: the long way to the same.
    """

    name: str
    what: str
    made: tuple[Path, ...]
    key: str
    do: Callable[[], None]
    seconds: float
    units: int = 1
    commands: tuple[str, ...] = ()


def key_of(*parts: Any) -> str:
    """Sixteen hex digits that stand for JSON-ready values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


class Record:
    """Which stages of a folder are under way or done, and from what; `stages.json`."""

    def __init__(self, out: Path) -> None:
        self.out = out
        there = (out / _FILE).is_file()
        self._marks: dict[str, dict[str, Any]] = read_json(out / _FILE, "the stages of a build") if there else {}

    def is_done(self, stage: Stage) -> bool:
        """Whether everything a stage makes is there, made from what it would be made from now."""
        mark = self._marks.get(stage.name)
        whole = all(path.exists() for path in stage.made)
        return whole and mark is not None and mark["key"] == stage.key and bool(mark["done"])

    def is_stale(self, stage: Stage) -> bool:
        """Whether it was made, or begun, from something else."""
        mark = self._marks.get(stage.name)
        return mark is not None and mark["key"] != stage.key

    def begin(self, stage: Stage) -> None:
        """Note that a stage is under way; what was made from something else goes to `earlier`, or comes from there."""
        mark = self._marks.get(stage.name)
        if mark is not None and mark["key"] != stage.key:
            self._move(stage, self._earlier(stage, mark["key"]), aside=True)
            self._move(stage, self._earlier(stage, stage.key), aside=False)
        self._put(stage, done=False)

    def finish(self, stage: Stage) -> None:
        """Note that a stage is done."""
        self._put(stage, done=True)

    def _put(self, stage: Stage, *, done: bool) -> None:
        self._marks[stage.name] = {"key": stage.key, "done": done}
        write_json(self.out / _FILE, self._marks)

    def _earlier(self, stage: Stage, key: str) -> Path:
        return self.out / EARLIER / f"{stage.name}-{key[:8]}"

    def _move(self, stage: Stage, folder: Path, *, aside: bool) -> None:
        for path in stage.made:
            kept = folder / path.name
            origin, target = (path, kept) if aside else (kept, path)
            partial = path.with_name(f"{path.name}.partial")
            if aside and partial.exists():
                shutil.rmtree(partial, ignore_errors=True)
            if not origin.exists():
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.is_dir():
                shutil.rmtree(target)
            origin.replace(target)


def changes(before: Mapping[str, Any], now: Mapping[str, Any], where: str = "") -> list[str]:
    """Keys whose values differ, as `key: value before → value now`."""
    found: list[str] = []
    for key in now:
        old, new = before.get(key), now[key]
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += changes(old, new, f"{where}{key}.")
        elif old != new:
            found.append(f"{where}{key}: {json.dumps(old)} → {json.dumps(new)}")
    return found
