"""`samespace embed` of texts by an encoder of texts."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from samespace.cli.main import run
from samespace.data.texts import read_texts
from samespace.encoders import from_callable
from samespace.encoders.texts import embed_texts
from samespace.errors import InputError
from samespace.vectors import VectorSet

CODE = """
from samespace.encoders import from_callable

def letters(texts):
    return [[text.count("a"), text.count("b"), 1.0] for text in texts]

def encoder():
    return from_callable(letters, name="letters", revision="1", dim=3)

def images():
    return from_callable(letters, name="letters", revision="1", dim=3, modality="image")
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "text_encoders", raising=False)
    (tmp_path / "text_encoders.py").write_text(CODE)
    rows = [{"id": f"d{row}", "text": "a" * row + "b", "label": row % 3} for row in range(10)]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def test_the_command_writes_vectors_with_ids_and_labels(here, capsys):
    command = ["embed", "text_encoders:encoder", "texts.jsonl", "--out", "vectors", "--batch-size", "3", "--quiet"]
    assert run(command) == 0
    told = capsys.readouterr().out
    assert "10 vectors of space" in told
    assert "ids from 'id', texts from 'text', labels from 'label'" in told
    found = VectorSet.load("vectors")
    assert found.ids.tolist() == [f"d{row}" for row in range(10)]
    assert found.labels.tolist() == [row % 3 for row in range(10)]
    expected = np.array([[row, 1, 1] for row in range(10)], dtype=np.float64)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(found.vectors, expected, atol=1e-6)
    assert found.space.name == "letters 1"
    assert run(command) == 0


def test_empty_texts_are_said(here, capsys):
    with (here / "texts.jsonl").open("a") as file:
        file.write('{"id": "d10", "text": "", "label": 0}\n')
    command = ["embed", "text_encoders:encoder", "texts.jsonl", "--out", "vectors", "--quiet"]
    assert run(command) == 2
    assert "line 11: no text" in capsys.readouterr().err
    assert run([*command, "--broken", "skip", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["left_out"] == 1


def test_after_a_cut_the_rest_is_embedded(here):
    calls = []

    def counting(some):
        calls.append(len(some))
        if sum(calls) > 900:
            raise KeyboardInterrupt
        return [[len(text), 1.0] for text in some]

    many = [{"id": str(row), "text": "a" * (row % 7 + 1)} for row in range(1000)]
    (here / "many.jsonl").write_text("".join(json.dumps(row) + "\n" for row in many))
    texts = read_texts("many.jsonl")
    encoder = from_callable(counting, name="n", revision="1", dim=2, normalized=False)
    with pytest.raises(KeyboardInterrupt):
        embed_texts(encoder, texts, "cut", batch_size=10)
    calls.clear()
    found = embed_texts(encoder, texts, "cut", batch_size=10)
    assert 0 < sum(calls) < 500
    assert found.vectors[:, 0].tolist() == [row % 7 + 1 for row in range(1000)]


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["text_encoders:images", "texts.jsonl"], "texts.jsonl"),
        (["text_encoders:encoder", "texts.txt"], "texts.txt"),
        (["text_encoders:encoder", "texts.jsonl", "--allocation", "a.json", "--part", "old"], "--allocation"),
    ],
)
def test_wrong_use_is_one_line(here, capsys, command, says):
    assert run(["embed", *command, "--out", "vectors", "--quiet"]) == 2
    assert says in capsys.readouterr().err


def test_an_encoder_of_images_is_refused(here):
    encoder = from_callable(lambda items: items, name="n", revision="1", dim=2, modality="image")
    with pytest.raises(InputError, match="takes items of modality 'image'"):
        embed_texts(encoder, read_texts("texts.jsonl"), "vectors")
