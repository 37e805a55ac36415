"""`samespace serve` as a process: what it says, and how it ends."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from samespace import Client
from samespace.cli.main import run
from samespace.gallery import Gallery

from .running import NEW, made


def test_sigterm_finishes_what_is_under_way(tmp_path: Path, shop: Gallery) -> None:
    shop.upgrade(NEW, accept_uncertified=True)
    for space in (shop.space, made(1).space):
        shop.calibrate(made(40, NEW), made(40, space, first=100))
    shop.close()
    command = [sys.executable, "-m", "samespace", "serve", "store=shop", "--port", "0"]
    body = json.dumps({"queries": {"space": NEW.id, "vectors": made(1, NEW).vectors.tolist()}}).encode()
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = process.stderr.readline()
        assert said.startswith("serving store at http://127.0.0.1:")
        assert "without --keys everybody on this machine" in process.stderr.readline()
        address = said.split()[3]
        with (
            Client(address, "store") as client,
            socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2]))) as slow,
        ):
            assert client.search(made(2, NEW), k=1).hits[0][0].item == "item-0"
            # a request of which half is sent before the signal, and half after
            head = f"POST /v1/store/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
            slow.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode() + body[:20])
            client.backfill(vectors=made(40, NEW))
            time.sleep(0.2)
            process.send_signal(signal.SIGTERM)
            time.sleep(0.2)
            slow.sendall(body[20:])
            answer = b"".join(iter(lambda: slow.recv(65536), b""))
        log = [json.loads(line) for line in process.stderr]
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert b'"item":"item-0"' in answer
    assert process.returncode == 0
    assert [line["status"] for line in log if line["message"] == "request"] == [200, 202, 200]
    with Gallery.open(tmp_path / "shop") as gallery:
        assert gallery.status().spaces[1].vectors == 40
        assert not [one for one in gallery.doctor().findings if one.level == "error"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none"], "none holds no gallery"),
        (["shop", "shop"], "Two galleries are called 'shop'"),
        (["postgresql://localhost/x"], "needs a name"),
        (["shop", "--host", "0.0.0.0"], "Without --keys only this machine may ask"),
        (["shop", "--keys", "none.json"], "none.json does not exist"),
        (["shop", "--model", "v2"], "write NAME=PLACE"),
        (["shop", "--model", "v2=nofolder"], "the model 'v2' cannot be used: nofolder"),
        (["shop", "--model", "v2=nofolder", "--workers", "2"], "the model 'v2' cannot be used: nofolder"),
        (["shop", "--tls-key", "k"], "go together"),
        (["shop", "--tls-key", "k", "--tls-certificate", "c"], "are no certificate and its key"),
        (["shop", "--deadline", "0"], "deadline should be above 0"),
        ([], "Missing argument"),
        (["shop", "--model", "v2=samespace:nothing", "--workers", "2"], "the model 'v2' cannot be used"),
        (["key", "add", "keys.json", "a", "--days", "-3"], "a key lasts more than 0 and less than 36,525 days, got -3"),
        (["key", "add", "kyes/keys.json", "a"], "kyes for keys.json; make it first, or correct it"),
        (["key", "revoke", "kyes/keys.json", "a"], "kyes/keys.json does not exist"),
        (["key", "list", "keys.json", "--json", "otu/keys.json"], "otu for keys.json; make it first"),
        (["key", "list", "shop"], "shop is a folder"),
    ],
)
def test_wrong_use_is_one_line(
    arguments: list[str], words: str, tmp_path: Path, shop: Gallery, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert run(["serve", *arguments]) == 2
    *before, said = capsys.readouterr().err.splitlines()
    assert words in said
    # a model that only its workers can load is refused after the address was said
    assert not before or "samespace:nothing" in arguments[2]
    assert [path.name for path in tmp_path.iterdir()] == ["shop"]


def test_keys_are_made_listed_and_revoked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["serve", "key", "add", "keys.json", "shop", "--scope", "write", "--days", "30"]) == 0
    assert capsys.readouterr().out.startswith("ss_")
    assert run(["serve", "key", "add", "keys.json", "shop"]) == 2
    assert "has a key 'shop' already" in capsys.readouterr().err
    assert run(["serve", "key", "list", "keys.json", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["keys"][0]["scope"] == "write"
    assert run(["serve", "key", "revoke", "keys.json", "shop"]) == 0
    assert capsys.readouterr().out == "revoked: shop (write)\n"
    assert run(["serve", "key", "revoke", "keys.json", "shop"]) == 2
    assert "has no key 'shop'" in capsys.readouterr().err
