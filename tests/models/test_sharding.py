from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from samespace.cli.main import run
from samespace.data import open_source
from samespace.errors import InputError
from samespace.models import Embedder, EmbedderConfig, Preprocessing
from samespace.models.extract import embed_to
from samespace.models.sharding import Shard, embed_shard
from samespace.vectors import VectorSet

SOURCE = "glyphs:classes=5,images=7,size=16"


@pytest.fixture(scope="module")
def model() -> Embedder:
    torch.manual_seed(0)
    return Embedder(EmbedderConfig("convnet16", 8, Preprocessing(size=16, channels=1)), name="v1").eval()


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_shards_in_any_order_give_what_one_call_writes(model: Embedder, tmp_path: Path) -> None:
    source = open_source(SOURCE)
    whole = embed_to(model, source, tmp_path / "whole", batch_size=1)
    out = tmp_path / "vectors"
    assert embed_shard(model, source, out, Shard(3, 3), batch_size=1) == (1, 2)
    assert embed_shard(model, source, out, Shard(3, 3), batch_size=1) == (1, 2), "done twice, it is done"
    assert embed_shard(model, source, out, Shard(1, 3), batch_size=1) == (2,)
    assert not out.exists()
    assert embed_shard(model, source, out, Shard(2, 3), batch_size=1) == ()
    assert files(out) == files(tmp_path / "whole")
    assert np.array_equal(VectorSet.load(out).vectors, whole.vectors)
    assert embed_shard(model, source, out, Shard(1, 3), batch_size=1) == ()
    assert {path.name for path in tmp_path.iterdir()} == {"whole", "vectors"}


def test_shards_that_a_kill_left_unjoined_are_joined_by_any_of_them(
    model: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = open_source(SOURCE), tmp_path / "vectors"
    embed_shard(model, source, out, Shard(1, 2))
    with monkeypatch.context() as patch:
        patch.setattr("samespace.models.sharding.vectors_to", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            embed_shard(model, source, out, Shard(2, 2))
    assert embed_shard(model, source, out, Shard(1, 2)) == ()
    assert len(VectorSet.load(out)) == len(source)


def test_shards_of_another_model_or_too_many_are_refused(model: Embedder, tmp_path: Path) -> None:
    source, out = open_source(SOURCE), tmp_path / "vectors"
    embed_shard(model, source, out, Shard(1, 2))
    torch.manual_seed(1)
    other = Embedder(EmbedderConfig("convnet16", 8, Preprocessing(size=16, channels=1)), name="v2").eval()
    with pytest.raises(InputError, match="holds something else"):
        embed_shard(other, source, out, Shard(1, 2))
    with pytest.raises(InputError, match="35 images, too few for 36 shards"):
        embed_shard(model, source, tmp_path / "more", Shard(1, 36))


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "a/b", "1/0", "-1/3"])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="such as 2/8 for the second of eight"):
        Shard.parse(text)


def test_the_command_says_what_is_still_to_come(
    model: Embedder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model.save(tmp_path / "model")
    command = ["embed", str(tmp_path / "model"), SOURCE, "--out", str(tmp_path / "v"), "--quiet", "--shard"]
    assert run([*command, "2/2"]) == 0
    assert "shard 2/2 is done; 1 of 2 are to come, the next 1/2" in capsys.readouterr().out
    assert run([*command, "1/2"]) == 0
    assert "35 vectors of space" in capsys.readouterr().out
    assert run([*command, "3/2"]) == 2
