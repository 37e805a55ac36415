"""The short way, recorded: from a folder of Omniglot to a live upgrade, with images alone and with old vectors only.

Writes docs/results/short-way.md: every command with what it printed, and the time to the first certificate.

    python benchmarks/short_way.py --data omniglot.npz --work runs/record
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

from samespace import VectorSet

PAGE = Path(__file__).resolve().parents[1] / "docs" / "results" / "short-way.md"
AFTER = ("samespace gallery backfill live", "samespace gallery rollback live")


def write_images(data: Path, folder: Path, classes: int) -> int:
    """Write some characters of Omniglot as `folder/alphabet-character/drawer.png`; the number of images."""
    arrays = np.load(data)
    images, labels, names = arrays["images"], arrays["labels"], arrays["label_names"]
    count = 0
    for label in np.sort(np.random.default_rng(0).permutation(len(names))[:classes]):
        name = str(names[label])
        place = folder / name.replace("/", "-").replace(" ", "_")
        place.mkdir(parents=True)
        for number, row in enumerate(np.flatnonzero(labels == label)):
            Image.fromarray(images[row]).save(place / f"{number:02}.png")
            count += 1
    return count


class Recording:
    """Commands run in one folder, as text, with the seconds each took."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.text = folder, ""
        self.seconds: list[tuple[str, float, int]] = []

    def run(self, command: str) -> int:
        """Run a command of samespace and write down what it prints, progress included."""
        began = time.monotonic()
        _, *arguments = shlex.split(command)
        done = subprocess.run(
            [sys.executable, "-m", "samespace", *arguments],
            cwd=self.folder, capture_output=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            check=False, env={**os.environ, "COLUMNS": "110"},
        )  # fmt: skip
        spent = time.monotonic() - began
        self.seconds.append((command, spent, done.returncode))
        self.text += f"$ {command}\n{done.stdout}"
        self.folder.with_suffix(".txt").write_text(self.text, encoding="utf-8")
        print(f"{spent:7.1f} s, status {done.returncode}: {command}", flush=True)
        return done.returncode

    def upgrade(self, start: str) -> None:
        """The three commands, and what the last one says to do next."""
        self.run(start)
        yes = self.run("samespace build project.yaml") == 0
        self.run(f"samespace gallery upgrade live --from project.yaml{'' if yes else ' --accept-uncertified'}")
        for command in AFTER:
            self.run(command)

    def section(self, title: str) -> str:
        """As a part of the page."""
        to_certificate = sum(spent for _, spent, _ in self.seconds[:2])
        lines = [
            f"## {title}",
            "",
            f"To the first certificate: **{to_certificate / 60:.1f} minutes**, "
            f"to the live upgrade {sum(spent for _, spent, _ in self.seconds[:3]) / 60:.1f}.",
            "",
            "| command | seconds | exit status |",
            "|---|---:|---:|",
            *(f"| `{command}` | {spent:.0f} | {status} |" for command, spent, status in self.seconds),
            "",
            "```text",
            self.text.rstrip(),
            "```",
        ]
        return "\n".join(lines)


def main() -> None:
    """Record both ways and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="omniglot.npz")
    parser.add_argument("--work", type=Path, required=True, help="an empty folder")
    parser.add_argument("--classes", type=int, default=400)
    given = parser.parse_args()
    work = given.work.absolute()
    first, second = Recording(work / "images-alone"), Recording(work / "old-vectors")
    count = write_images(given.data, first.folder / "images", given.classes)
    shutil.copytree(first.folder / "images", second.folder / "images")
    first.upgrade("samespace start images/")
    # the vectors that a team would have stored: the stand-in's, with the paths that its index knows the images by
    first_model = first.folder / "project" / "runs" / "old"
    subprocess.run(
        [sys.executable, "-m", "samespace", "embed", first_model, "images", "--out", work / "stored", "--quiet"],
        cwd=second.folder, check=True,
    )  # fmt: skip
    stored = VectorSet.load(work / "stored")
    ids = np.array([f"/srv/pictures/{name}" for name in stored.ids.tolist()])
    np.savez(second.folder / "old.npz", vectors=stored.vectors, ids=ids)
    second.upgrade("samespace start images/ --old-vectors old.npz")
    PAGE.write_text(
        "\n".join(
            [
                "# The short way, recorded",
                "",
                f"`python benchmarks/short_way.py --data omniglot.npz --work runs/record --classes {given.classes}`:",
                f"a folder of {count:,} images of {given.classes} characters of Omniglot (Lake et al., Science 2015), "
                "the commands one after the other in an empty folder, everything that they printed. Old vectors of "
                "the second recording are those of the first one's old model; the model itself is not given.",
                "",
                f"Python {platform.python_version()}, {os.cpu_count()} cores, one thread for each command, on a "
                "machine that other work shared.",
                "",
                first.section("Images alone"),
                "",
                second.section("Stored old vectors only"),
                "",
            ]
        ),
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
