"""Every format goes through the commands: described, allocated, trained on, embedded."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from samespace import VectorSet
from samespace.cli.main import run

PEOPLE, EACH = 4, 3


def write_images(folder: Path, picture, names: list[str]) -> None:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        # sizes differ, as those of photographs do
        (folder / name).write_bytes(picture(number, "JPEG", (16 + number % 3, 20)))


@pytest.fixture
def sources(tmp_path, picture, write_recordio) -> dict[str, str]:
    """One small data set of each format; the specs by kind."""
    people = np.repeat(np.arange(1, PEOPLE + 1), EACH).tolist()
    records = [(key, float(person), picture(key, "JPEG", (16, 16))) for key, person in enumerate(people)]
    write_recordio(tmp_path / "faces" / "train.rec", records)
    names = [f"img/{number:02d}.jpg" for number in range(len(people))]
    write_images(tmp_path, picture, names)
    (tmp_path / "l.csv").write_text("".join(f"{n},p{person}\n" for n, person in zip(names, people, strict=True)))
    for part in ("bounding_box_train", "query"):
        shots = [f"{part}/{person:04d}_c{n % 2 + 1}s1_{n:06d}_00.jpg" for n, person in enumerate(people)]
        write_images(tmp_path / "market", picture, shots)
    shots = [f"{person:04d}/{person:04d}_000_{n % 3 + 1:02d}_x_{n}.jpg" for n, person in enumerate(people)]
    write_images(tmp_path / "msmt" / "train", picture, shots)
    (tmp_path / "msmt" / "list_train.txt").write_text("".join(f"{shot} {int(shot[:4])}\n" for shot in shots))
    marks = [f"{n:016x}"[::-1] for n in range(len(people))]
    write_images(tmp_path / "marks" / "train", picture, [f"{m[0]}/{m[1]}/{m[2]}/{m}.jpg" for m in marks])
    lines = [f"{m},u,{person}\n" for m, person in zip(marks, people, strict=True)]
    (tmp_path / "marks" / "train.csv").write_text("id,url,landmark_id\n" + "".join(lines))
    return {
        "rec": f"rec:{tmp_path}/faces",
        "list": f"list:{tmp_path}/l.csv",
        "market1501": f"market1501:{tmp_path}/market",
        "msmt17": f"msmt17:{tmp_path}/msmt",
        "gldv2": f"gldv2:{tmp_path}/marks",
    }


@pytest.mark.parametrize("kind", ["rec", "list", "market1501", "msmt17", "gldv2"])
def test_described_allocated_trained_on_and_embedded(sources, kind, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    source = sources[kind]
    assert run(["data", "describe", source, "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["images"], found["classes"]) == (PEOPLE * EACH, PEOPLE)
    split = ["data", "allocate", source, "--kind", "extended-data", "--out", "split.json", "--held-out", "0.5"]
    assert run(split) == 0
    recipe = {
        "data": {"source": source, "allocation": "split.json", "part": "new"},
        "model": {"backbone": "convnet16", "embedding_dim": 4, "image_size": 8},
        "optim": {"epochs": 1, "batch_size": 4},
        "run": {"device": "cpu"},
    }
    Path("recipe.yaml").write_text(yaml.safe_dump(recipe))
    assert run(["train", "recipe.yaml", "--out", "run", "--quiet"]) == 0
    embed = ["embed", "run", source, "--out", "queries", "--device", "cpu", "--quiet"]
    assert run([*embed, "--allocation", "split.json", "--part", "queries"]) == 0
    assert run([*embed[:4], "all", *embed[5:]]) == 0
    everything = VectorSet.load("all")
    assert len(everything) == PEOPLE * EACH
    assert everything.has_ids
    assert set(VectorSet.load("queries").ids) < set(everything.ids)


def test_broken_sets_end_in_one_line_and_status_2(sources, tmp_path, capsys):
    rec = tmp_path / "faces" / "train.rec"
    rec.write_bytes(rec.read_bytes()[:-40])
    (tmp_path / "marks" / "train.csv").write_text("id,url\nabc,u\n")
    (tmp_path / "l.csv").write_text("img/00.jpg,1\nimg/01.jpg\n")
    for kind in ("rec", "gldv2", "list"):
        assert run(["data", "allocate", sources[kind], "--kind", "open-data", "--out", str(tmp_path / "s.json")]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("samespace: error: ")
        assert len(err.splitlines()) == 1
    assert not (tmp_path / "s.json").exists()
    assert run(["data", "describe", sources["rec"]]) == 0
    out = capsys.readouterr().out
    assert "left out, because they cannot be read: 1" in out
    assert "record 11: cut short" in out
