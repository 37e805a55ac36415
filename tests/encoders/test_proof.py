"""An import proves which model made the vectors: equal ones get its space, others are refused by their deviation."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from samespace import Embedder, VectorSet
from samespace.cli.main import run
from samespace.models import EmbedderConfig, Preprocessing

CODE = """
import hashlib
import numpy as np
from samespace.encoders import from_callable

def words(texts, longest=8):
    def vector(word):
        return np.random.default_rng(hashlib.sha256(word.encode()).digest()[0]).standard_normal(6)
    return [sum(vector(word) for word in text.split()[:longest]) for text in texts]

def encoder():
    return from_callable(words, name="words", revision="1", dim=6)

def rows():
    return from_callable(words, name="words", revision="1", dim=6, modality="row")
"""
ROWS = 40
COMMAND = ["vectors", "import", "v.npz", "--out", "set", "--model", "proof_encoders:encoder", "--quiet"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "proof_encoders", raising=False)
    (tmp_path / "proof_encoders.py").write_text(CODE)
    texts = [
        {"id": f"d{row}", "text": " ".join(f"w{row * k % 11}" for k in range(1, 4 + row % 9))} for row in range(ROWS)
    ]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in texts))
    (tmp_path / "anonymous.jsonl").write_text("".join(json.dumps({"text": row["text"]}) + "\n" for row in texts))
    assert run(["embed", "proof_encoders:encoder", "texts.jsonl", "--out", "made", "--quiet"]) == 0
    return tmp_path


def given(vectors, rows=slice(None), **more):
    made = VectorSet.load("made")
    np.savez("v.npz", vectors=vectors[rows], **(more or {"ids": made.ids[rows]}))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_the_models_own_vectors_get_its_space(here, dtype, capsys):
    made = VectorSet.load("made")
    given(np.asarray(made.vectors).astype(dtype), slice(None, None, -1))
    assert run([*COMMAND, "--items", "texts.jsonl", "--json", "-"]) == 0
    proof = json.loads(capsys.readouterr().out)["proof"]
    assert (proof["compared"], proof["tolerance"]) == (16, 0.02)
    assert proof["deviation"] < 1e-3
    assert VectorSet.load("set").space == made.space
    given(np.asarray(made.vectors), vectors_of_no_name=np.zeros(1))  # no ids: row by row
    assert run([*COMMAND, "--items", "anonymous.jsonl"]) == 0
    assert "16 items embedded anew deviate by at most" in capsys.readouterr().out


def other(change):
    """The vectors of a model that does something else with the texts, of unit length."""
    import proof_encoders

    texts = [json.loads(line)["text"] for line in Path("texts.jsonl").read_text().splitlines()]
    vectors = np.array(proof_encoders.words(*change(texts)), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda: 3 * VectorSet.load("made").vectors,
            "look at normalisation: directions agree, .* length 3, ",
        ),
        (lambda: other(lambda texts: (texts, 5)), r"look at long texts \(truncation\), .* \d+ of 16 agree"),
        (lambda: other(lambda texts: ([f"query: {text}" for text in texts],)), "look at prefixes|of 16 agree"),
        (lambda: VectorSet.load("made").vectors[:, :4], "have 4 dimensions, and .* gives 6; are they truncated"),
    ],
)
def test_others_are_refused_with_what_to_look_at_and_nothing_is_lost(here, change, message, capsys):
    VectorSet.from_arrays(np.eye(3), ids=["x", "y", "z"]).save("set")
    given(change())
    assert run([*COMMAND, "--items", "texts.jsonl", "--force"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert re.search(message, told)
    assert "dimensions" in message or re.search(
        r"'d\d+' deviates most, by [\d.]+ of its length \(tolerance 0.02\)", told
    )
    assert VectorSet.load("set").ids.tolist() == ["x", "y", "z"]


def test_what_cannot_be_proved_is_one_line(here, capsys):
    made = VectorSet.load("made")
    given(np.asarray(made.vectors), ids=[f"x{row}" for row in range(ROWS)])
    for more, message in (
        (
            ["--items", "texts.jsonl"],
            "has no item of v.npz: its ids are such as 'd0', those of the vec",
        ),
        ([], "--model and --items go together"),
        (["--items", "texts.jsonl", "--space", "x"], "--model and --space-name exclude each other"),
        (["--items", "nowhere.jsonl"], "nowhere.jsonl"),
        (["--items", "texts.jsonl", "--model", "proof_encoders:rows"], "modality 'row'"),
    ):
        assert run([*COMMAND, *more]) == 2
        assert message in capsys.readouterr().err
    given(np.asarray(made.vectors), slice(30), nothing=np.zeros(1))
    assert run([*COMMAND, "--items", "texts.jsonl"]) == 2
    assert "v.npz has no ids, and there are 40 items of texts.jsonl for 30 vectors" in capsys.readouterr().err
    made.subset(np.arange(5)).save("other")
    assert run(["vectors", "export", "made", "--to", "own.npz", "--quiet"]) == 0
    assert run([*COMMAND[:2], "own.npz", *COMMAND[3:], "--items", "texts.jsonl"]) == 0  # declared, and proved


def test_images_are_compared_as_they_are_embedded(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for row in range(6):
        place = tmp_path / "items" / f"c{row % 2}" / f"{row}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 255, (20, 20, 3), dtype=np.uint8)).save(place)
    for name, mean in (("m", 0.5), ("n", 0.3)):
        torch.manual_seed(0)
        Embedder(EmbedderConfig("convnet16", 8, Preprocessing(size=16, channels=3, mean=mean)), name=name).save(name)
    assert run(["embed", "m", "items", "--out", "made", "--quiet"]) == 0
    assert run(["vectors", "export", "made", "--to", "v.csv", "--quiet"]) == 0
    command = ["vectors", "import", "v.csv", "--out", "set", "--items", "items", "--quiet", "--model"]
    assert run([*command, "m"]) == 0
    assert VectorSet.load("set").space == VectorSet.load("made").space
    assert run([*command, "n"]) == 2
    assert "look at preprocessing (size, crop, interpolation, mean and std)" in capsys.readouterr().err
