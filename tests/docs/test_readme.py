"""The long way in README.md, taken as it stands from a folder of images, with a smaller network."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
from PIL import Image

from samespace.cli.main import run

from .test_docs import ROOT, blocks

NETWORK = "iresnet50, embedding_dim: 512, image_size: 112"
SMALL = "convnet4, embedding_dim: 8, image_size: 16"


def test_its_commands_work_one_after_the_other_from_images_alone(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for name in range(20):
        folder = Path("images") / f"thing-{name:02}"
        folder.mkdir(parents=True)
        pattern = random.integers(0, 256, (16, 16))
        for number in range(4):
            noisy = np.clip(pattern + random.normal(0, 20, (16, 16)), 0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(folder / f"{number}.png")
    page = blocks(ROOT / "README.md")
    shown = [block for block in page if block.remarks.get("file")]
    for block in shown:
        assert NETWORK in block.text
        recipe = block.text.replace(NETWORK, SMALL) + "optim: {epochs: 1, batch_size: 16}\n"
        Path(block.remarks["file"]).write_text(recipe)
    assert [block.remarks["file"] for block in shown] == ["v1.yaml", "v2.yaml"]
    texts = [block.text for block in page if block.language == "console"]
    (long,) = [text for text in texts if "samespace data allocate" in text]
    (live,) = [text for text in texts if "samespace gallery create" in text]
    for line in (long + live).splitlines():
        _, program, *arguments = shlex.split(line)
        assert program == "samespace"
        # one epoch promises nothing: the verdict is not what is tested
        accepted = ["--accept-uncertified"] if arguments[:2] == ["gallery", "upgrade"] else []
        assert run([*arguments, *accepted]) in ((0, 1) if arguments[0] == "check" else (0,)), line
