"""Every command that a message suggests: it exists as it is written, and in the situation of the message it works."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import click
import numpy as np
import pytest
import yaml
from PIL import Image

import samespace
from samespace import Space, VectorSet
from samespace.cli.bridge import _advice
from samespace.cli.gallery.wording import as_commands
from samespace.cli.main import cli, run
from samespace.data import open_source
from samespace.demo.run import summary
from samespace.evaluate import Certificate, check
from samespace.gallery import Gallery
from samespace.gallery.upgrade import upgrade as upgrading
from samespace.gallery.wording import ARGUMENTS
from samespace.project import make
from samespace.project.choosing import Lead, Outlook
from samespace.project.cost import Pace
from samespace.project.plan import Plan
from samespace.report import page

SOURCES = Path(samespace.__file__).parent
WORD = r"(?:'[^']*'|[^\s';,)…\\]+)"
HINT = re.compile(
    rf"samespace (?:check|embed|probe|train|bridge|data|gallery|export|reproduce|benchmark|start|build)(?: {WORD})*"
)
SETS = "--queries new_q --gallery old_g --baseline old_q --new-gallery new_g --replicates 100 --metric rank@1"


def texts() -> Iterator[tuple[str, str]]:
    """Where each message stands, and its text; what is filled in is written X."""
    for path in sorted(SOURCES.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        described = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and isinstance(node.body[0], ast.Expr)
        }
        inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in ast.walk(tree):
            if id(node) in described | inner:
                continue
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            if not all(isinstance(part, (ast.Constant, ast.FormattedValue)) for part in parts):
                continue
            text = "".join(
                (part.value if isinstance(part.value, str) else "") if isinstance(part, ast.Constant) else "X"
                for part in parts
            )
            yield f"{path.relative_to(SOURCES)}:{node.lineno}", text


def messages() -> list[tuple[str, str]]:
    """Where a message suggests a command, and the command."""
    found = []
    for place, text in texts():
        said = as_commands(text, "GALLERY") if place.startswith("gallery/") else text
        for quoted in re.findall(r"'(samespace [^']*)'|(?:next|again): (samespace .*)", said):
            found += [(place, hint) for hint in HINT.findall("".join(quoted))]
    return found


def command_of(words: list[str]) -> tuple[click.Command, list[str]]:
    command: click.Command = cli
    while isinstance(command, click.Group) and words:
        if words[0] not in command.commands:
            break
        command, words = command.commands[words[0]], words[1:]
    return command, words


@pytest.mark.parametrize(("place", "hint"), messages(), ids=lambda value: value if ":" in value else value[:40])
def test_a_suggested_command_is_one_and_takes_what_is_suggested(place, hint):
    command, words = command_of(shlex.split(hint)[1:])
    assert not isinstance(command, click.Group) or command.name == "bridge", hint
    options = {name for one in command.params if isinstance(one, click.Option) for name in one.opts}
    assert {word for word in words if word.startswith("--")} <= options | {"--set"}, hint


def test_what_a_message_of_a_gallery_names_is_there_for_all_who_may_read_it(tmp_path):
    """Methods and their arguments in Python, routes and the fields of their bodies over HTTP."""
    pytest.importorskip("fastapi", reason="FastAPI is not installed: pip install 'samespace[serve]'")
    from samespace.serve.app import make_app
    from samespace.serve.service import Service
    from samespace.serve.wording import as_requests

    with Gallery.create(tmp_path / "g", space("old", 8)) as gallery:
        api = make_app(Service({"g": gallery})).openapi()
    bodies = {path: one.get("post", {}) for path, one in api["paths"].items()}
    calls = 0
    for place, text in texts():
        if not place.startswith("gallery/"):
            continue
        # of other commands
        beside = re.search(r"samespace (check|embed|gallery create)|made with|^ --score X", text)
        assert beside or not re.search(r"(^|[ (])--[a-z]", text), (place, text)
        for method, given in re.findall(r"gallery\.([a-z_]+)\(([^()]*)\)", text):
            taken = inspect.signature(getattr(Gallery, method)).parameters
            named = {part.partition("=")[0] for part in given.split(", ") if "=" in part}
            assert named <= taken.keys() & set(ARGUMENTS), (place, method, given)
            calls += 1
        said = as_requests(text, "g")
        for route, fields in re.findall(r"'POST /v1/g/([a-z]+)'(?: with ((?:\"[a-z_]+\"(?:: \w+)?(?:, )?)*))?", said):
            content = bodies[f"/v1/{{gallery}}/{route}"]
            assert content, (place, route)
            names = set(re.findall(r'"([a-z_]+)"', fields))
            if names:
                schema = content["requestBody"]["content"]["application/json"]["schema"]["$ref"].split("/")[-1]
                assert names <= set(api["components"]["schemas"][schema]["properties"]), (place, route, fields)
    assert calls > 25


def test_one_message_in_three_languages():
    said = "gallery.calibrate(queries, items, fuse=0.5, old_queries=…), or gallery.begin_behind(model=…); partial=True"
    assert as_commands(said, "a g") == (
        "'samespace gallery calibrate \"a g\" QUERIES ITEMS --fuse 0.5 --old-queries OLD_QUERIES', or 'samespace "
        'gallery upgrade "a g" --behind --model DIR\'; --partial'
    )
    as_requests = pytest.importorskip("samespace.serve.wording").as_requests
    assert as_requests(said, "shop") == (
        '\'POST /v1/shop/calibrate\' with "queries", "gallery", "fuse": 0.5, "old_queries", or \'POST '
        '/v1/shop/upgrade\' with "behind": true, "model"; "partial": true'
    )
    for kept in ("the filter 'share=0.5'", "?model=…", "depth=5"):
        assert as_commands(kept, "g") == as_requests(kept, "g") == kept


def test_the_messages_are_found():
    assert len(messages()) > 40


def space(name: str, dim: int) -> Space:
    return Space(weights=name.encode().hex().ljust(64, "0"), preprocessing="none", dim=dim, normalized=True, name=name)


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    """An upgrade from vectors alone: sets of both models; certificates that say yes and no, whole and bare."""
    here = tmp_path_factory.mktemp("hints")
    random = np.random.default_rng(0)
    centres = random.standard_normal((12, 8))

    def saved(name: str, kind: str, model: str, noise: float, count: int = 96, start: int = 0) -> None:
        labels = np.arange(count) % 12
        values = centres[labels] + noise * random.standard_normal((count, 8))
        values /= np.linalg.norm(values, axis=1, keepdims=True)
        ids = [f"{kind}{row}" for row in range(start, start + count)]
        VectorSet.from_arrays(values.astype("f4"), labels=labels, ids=ids, space=space(model, 8)).save(here / name)

    for name, kind, model, noise in (
        ("old_g", "i", "old", 0.9), ("old_q", "q", "old", 0.9), ("new_q", "q", "new", 0.4), ("new_g", "i", "new", 0.4),
        ("more", "m", "new", 0.4),
    ):  # fmt: skip
        saved(name, kind, model, noise)
    saved("part", "i", "new", 0.4, count=48)
    sets = {name: VectorSet.load(here / name) for name in ("old_g", "old_q", "new_q", "new_g")}
    found = check(
        queries=sets["new_q"], gallery=sets["old_g"], baseline=sets["old_q"], new_gallery=sets["new_g"],
        metrics=["rank@1"], replicates=100,
    )  # fmt: skip
    for name, verdict in {"yes": True, "no": False}.items():
        metrics = {key: dataclasses.replace(one, compatible=verdict) for key, one in found.metrics.items()}
        made = dataclasses.replace(found, compatible=verdict, metrics=metrics)
        made.save(here / f"{name}.json")
        dataclasses.replace(made, calibrations={}).save(here / f"{name}-bare.json")
    return here


@pytest.fixture
def here(original, tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "a folder"
    shutil.copytree(original, folder)
    monkeypatch.chdir(folder)
    return folder


def tell(capsys, command: str) -> str:
    """What a command writes, whatever its status."""
    capsys.readouterr()
    run(shlex.split(command))
    return "".join(capsys.readouterr())


BEGIN = ("gallery create 'a g' --space old_g", "gallery add 'a g' old_g --quiet")
UPGRADED = (*BEGIN, "gallery upgrade 'a g' --space new_g --certificate yes.json")
ACCEPTED = (*BEGIN, "gallery upgrade 'a g' --space new_g --certificate no.json --accept-uncertified")
BARE = (*BEGIN, "gallery upgrade 'a g' --space new_g --certificate yes-bare.json")
PARTLY = (*UPGRADED, "gallery backfill 'a g' --vectors new_g --limit 5 --quiet")
COMPLETE = (*UPGRADED, "gallery backfill 'a g' --vectors new_g --quiet")

# what stands for what the user has
GIVEN = {
    "GALLERY": "'a g'", "QUERIES": "new_q", "ITEMS": "old_g", "VECTORS": "new_g", "FILE": "yes.json",
    "--model DIR": "--space old_g",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Situation:
    """`before`, `told` gives a message with a command that has these words; it ends with 0, with `more` added."""

    told: str
    words: str
    before: tuple[str, ...] = ()
    more: str = ""
    first: tuple[str, ...] = ()
    given: dict[str, str] = dataclasses.field(default_factory=dict)


SITUATIONS = {
    "a rollback is taken back": Situation("gallery rollback 'a g'", "gallery upgrade", UPGRADED),
    "an accepted upgrade is rolled back": Situation("gallery rollback 'a g'", "gallery upgrade", ACCEPTED),
    "a plan is ready": Situation("gallery plan 'a g' --space new_g --certificate yes.json", "gallery upgrade", BEGIN),
    "a plan is accepted": Situation(
        "gallery plan 'a g' --space new_g --certificate no.json --accept-uncertified", "gallery upgrade", BEGIN
    ),
    "an upgrade is followed by a backfill": Situation(
        "gallery upgrade 'a g' --space new_g --certificate yes.json",
        "gallery backfill",
        BEGIN,
        "--quiet",
    ),
    "a backfill waits": Situation("gallery pause 'a g'", "gallery resume", UPGRADED),
    "nobody backfills": Situation(
        "gallery resume 'a g'", "gallery backfill", (*UPGRADED, "gallery pause 'a g'"), "--quiet"
    ),
    "no gallery is there": Situation("gallery status 'a g'", "gallery create"),
    "calibrations are missing after an upgrade": Situation(
        "gallery upgrade 'a g' --space new_g --certificate yes-bare.json", "gallery calibrate", BEGIN
    ),
    "a search with a threshold lacks calibrations": Situation(
        "gallery search 'a g' new_q --max-fmr 0.01", "gallery calibrate", BARE
    ),
    "adding lacks calibrations": Situation("gallery add 'a g' more --quiet", "gallery calibrate", BARE),
    "the doctor misses a calibration": Situation("gallery doctor 'a g' --quiet", "gallery calibrate", BARE),
    "the doctor sees an accepted pair": Situation("gallery doctor 'a g' --quiet", "gallery rollback", ACCEPTED),
    "the doctor's way to a certificate": Situation(
        "gallery doctor 'a g' --quiet", "gallery upgrade", ACCEPTED, first=("gallery rollback 'a g'",)
    ),
    "a seal comes too early": Situation("gallery seal 'a g' --yes --quiet", "gallery backfill", UPGRADED, "--quiet"),
    "a fused search lacks a calibration": Situation(
        "gallery search 'a g' new_q --fuse 0.5 --old-queries old_q", "gallery calibrate", UPGRADED
    ),
    "items of both models are added by the new one alone": Situation(
        "gallery add 'a g' new_g --quiet", "gallery backfill", UPGRADED, "--quiet"
    ),
    "a behind upgrade is followed by a backfill": Situation(
        "gallery upgrade 'a g' --behind --space new_g", "gallery backfill", BEGIN, "--quiet"
    ),
    "a model that is not compatible": Situation(
        "gallery upgrade 'a g' --space new_g", "gallery upgrade", BEGIN, given={"--model DIR": "--space new_g"}
    ),
    "a switch at a share is taken back": Situation(
        "gallery rollback 'a g'",
        "gallery switch",
        (
            *BEGIN,
            "gallery upgrade 'a g' --behind --space new_g",
            "gallery backfill 'a g' --vectors new_g --limit 50 --quiet",
            "gallery switch 'a g' --share 0.5 --drop",
        ),
    ),
    "an earlier space is upgraded to": Situation(
        "gallery upgrade 'a g' --space old_g --certificate yes.json", "gallery rollback", UPGRADED
    ),
    "a calibration fails while a gallery is made": Situation(
        "gallery create 'a g' --space old_g --calibrate old_q nowhere", "gallery calibrate", given={"QUERIES": "old_q"}
    ),
}


def suggested(text: str, words: str, special: dict[str, str] | None = None) -> str:
    """The command with these words that a text suggests, with what the user has in the place of its capitals."""
    hints = [hint for hint in HINT.findall(text) if hint.startswith(f"samespace {words}")]
    assert hints, text
    command = hints[0]
    for stands, given in {**GIVEN, **(special or {})}.items():
        command = re.sub(rf"(?<![\w-]){stands}(?!\w)", given, command)
    return command.removeprefix("samespace ")


@pytest.mark.parametrize("name", SITUATIONS)
def test_what_a_message_suggests_works_where_it_is_suggested(here, capsys, name):
    situation = SITUATIONS[name]
    for command in situation.before:
        assert run(shlex.split(command)) == 0, command
    text = tell(capsys, situation.told)
    command = suggested(text, situation.words, situation.given)
    for step in situation.first:
        assert run(shlex.split(step)) == 0, step
    command = command.replace("OLD_QUERIES", "old_q").replace("--out DIR", "--out mapped")
    assert run(shlex.split(f"{command} {situation.more}")) == 0, (command, "".join(capsys.readouterr()))


@pytest.mark.parametrize("name", ["-dash", "model=2"])
def test_a_gallery_may_be_called_like_an_option_or_an_argument(here, capsys, name):
    assert run(shlex.split(f"gallery create ./{name} old_g --quiet")) == 0
    assert f"error: {name} holds a gallery already" in tell(capsys, f"gallery create ./{name} --space old_g")
    text = tell(capsys, f"gallery upgrade ./{name} --behind --space new_g")
    assert run_on("gallery backfill", text, more="--quiet") == 0
    assert run_on("gallery rollback", tell(capsys, f"gallery switch ./{name}")) == 0


def test_calibrations_of_a_certificate_that_says_no_are_not_said_to_be_missing(here, capsys):
    for command in BEGIN:
        assert run(shlex.split(command)) == 0
    text = tell(capsys, "gallery plan 'a g' --space new_g --certificate no.json")
    assert "missing: the certificate says no" in text
    assert "calibrations of" not in text
    assert "calibrations of" in tell(capsys, "gallery plan 'a g' --space new_g --certificate no-bare.json")
    # what the refusal offers
    assert run(shlex.split("gallery upgrade 'a g' --space new_g --certificate no.json --accept-uncertified")) == 0
    assert run(shlex.split("gallery search 'a g' new_q --max-fmr 0.01")) == 0


@pytest.mark.parametrize(
    ("before", "command", "option"),
    [
        (BEGIN, "gallery upgrade 'a g' --space new_g", "--accept-uncertified"),
        (BEGIN, "gallery upgrade 'a g' --space new_g --certificate no.json", "--accept-uncertified"),
        (COMPLETE, "gallery seal 'a g' --quiet", "--yes"),
        (PARTLY, "gallery seal 'a g' --yes --quiet", "--partial"),
        (BEGIN, "gallery add 'a g' other --quiet", "--update"),
    ],
)  # fmt: skip
def test_an_option_that_a_refusal_offers_works(here, capsys, before, command, option, monkeypatch):
    moved = VectorSet.load("old_g")
    VectorSet.from_arrays(np.asarray(moved.vectors)[::-1].copy(), ids=moved.ids, space=moved.space).save("other")
    for step in before:
        assert run(shlex.split(step)) == 0, step
    assert option in tell(capsys, command)
    assert run(shlex.split(f"{command} {option}")) == 0, "".join(capsys.readouterr())


def test_the_command_of_a_report_runs_the_check_again(here):
    assert run(shlex.split(f"check {SETS} --report r --json c.json")) in (0, 1)
    page = (here / "r" / "report.html").read_text(encoding="utf-8")
    shown = re.search(r"samespace check (.*?)--report REPORT", page, re.DOTALL)
    assert shown is not None
    words = {"NEW_QUERIES": "new_q", "OLD_GALLERY": "old_g", "OLD_QUERIES": "old_q", "NEW_GALLERY": "new_g"}
    command = " ".join(shown[1].replace("\\", " ").split())
    for stands, given in words.items():
        command = command.replace(stands, given)
    assert run(shlex.split(f"check {command} --json again.json")) in (0, 1)
    first, again = (json.loads(Path(name).read_text())["metrics"] for name in ("c.json", "again.json"))
    assert {name: one["cross"] for name, one in first.items()} == {name: one["cross"] for name, one in again.items()}


def test_probe_suggests_commands_that_run(here, capsys):
    os.symlink("old_g", "a set")
    text = tell(capsys, "probe 'a set' --new new_g")
    given = {"NEXT_VECTORS": "new_g", "OLD_TRAIN_VECTORS": "old_g", "NEW_TRAIN_VECTORS": "new_g"}
    for words, more in (("probe", ""), ("bridge", "--replicates 100 --quiet --method procrustes")):
        command = suggested(text, words, given)
        assert run(shlex.split(f"{command} {more}")) == 0, (command, "".join(capsys.readouterr()))


def test_a_bridge_that_gains_suggests_to_apply_it(here):
    assert run(shlex.split("bridge old_g new_g --out 'a b' --replicates 100 --quiet --method procrustes")) == 0
    support = SimpleNamespace(gains={"procrustes": {"mAP": (0.2, 0.1, 0.3)}})
    command = suggested(
        _advice(support, "procrustes", Path("a b")), "bridge apply", {"VECTORS": "old_g", "DIR": "mapped"}
    )
    assert run(shlex.split(f"{command} --quiet")) == 0
    assert len(VectorSet.load("mapped")) == 96


def run_on(words: str, text: str, given: dict[str, str] | None = None, more: str = "") -> int:
    return run(shlex.split(f"{suggested(text, words, given)} {more}"))


@pytest.mark.parametrize(
    ("permission", "before"), [("certified", UPGRADED), ("accepted", ACCEPTED), ("refused", BEGIN)]
)
def test_the_closing_lines_of_the_demo_run_one_after_the_other(here, capsys, permission, before):
    for command in before:
        assert run(shlex.split(command)) == 0
    upgrade = SimpleNamespace(folder=Path("a g"), page=None, permission=permission)
    said = summary(SimpleNamespace(upgrade=upgrade, seconds=1.0, peak_bytes=1, report="r", comparison="c"))
    lines = [line.strip() for line in said.splitlines() if line.startswith("  samespace ")]
    assert len(lines) == (2 if permission == "refused" else 4)
    # the last one serves until it is stopped
    assert lines.pop() == "samespace serve 'demo=a g'"
    for line in lines:
        assert run(shlex.split(line)[1:]) == 0, (line, "".join(capsys.readouterr()))
    assert run_on("data describe", said, {"IMAGES": "glyphs:classes=3,images=2,size=16"}) == 0


def test_probe_suggests_a_training_and_a_behind_upgrade_that_run(here, capsys):
    images = "glyphs:classes=12,images=8,size=16"
    (here / "r.yaml").write_text(
        f"data: {{source: '{images}'}}\nmodel: {{backbone: convnet4, embedding_dim: 8, image_size: 16}}\n"
        "optim: {epochs: 1, batch_size: 32}\n"
    )
    source = open_source(images)
    stored = VectorSet.load("old_g")
    VectorSet.from_arrays(stored.vectors, labels=source.labels, ids=source.ids, space=stored.space).save("old_train")
    text = tell(capsys, "probe old_g")
    given = {"OLD_TRAIN_VECTORS": "old_train", "RECIPE.yaml": "r.yaml", "NEW_MODEL": "runs/new"}
    assert run_on("train", text, given, "--quiet") == 0, "".join(capsys.readouterr())
    assert run(shlex.split(f"gallery create 'a g' old_train --images {images} --quiet")) == 0
    assert run_on("gallery upgrade", text, given) == 0, "".join(capsys.readouterr())
    assert run(shlex.split("gallery backfill 'a g' --quiet")) == run(shlex.split("gallery switch 'a g'")) == 0


def test_the_short_way_suggests_commands_that_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Plan, "pace", lambda *given: Pace(0.01, 0.01, 0.001, 4096))
    monkeypatch.setattr(page, "render_report", lambda *given, **options: "")
    monkeypatch.setattr(upgrading, "_require_right_model", lambda *given: [])
    source = open_source("glyphs:classes=24,images=6,size=16")
    for row, pixels in enumerate(source.load(range(len(source))).numpy()):
        place = tmp_path / "my images" / str(source.labels[row]) / f"{row}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[0]).save(place)
    build = suggested(tell(capsys, "start 'my images' --out 'a p.yaml' --quiet"), "build")
    file = Path("a p.yaml")
    network = {"network": {"backbone": "convnet4", "dim": 8, "channels": 1}, "budget": {"epochs": 1, "batch_size": 32}}
    file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), **network}))
    # too early, and as it is said then; the paragon is behind, so the build stops and says how to go on
    assert suggested(tell(capsys, "gallery upgrade live --from 'a p.yaml'"), "build") == build
    behind = Outlook(False, (Lead("rank@1", 0.8, 0.7, -0.2, 0.01),), 40)
    monkeypatch.setattr(make, "outlook", lambda *given: behind)
    anyway = suggested(tell(capsys, f"{build} --quiet"), "build")
    assert anyway.endswith("--anyway")
    assert run(shlex.split(f"{anyway} --quiet")) in (0, 1)
    found = next(Path().rglob("certificate.json"))
    made = Certificate.load(found)
    metrics = {name: dataclasses.replace(one, compatible=True) for name, one in made.metrics.items()}
    dataclasses.replace(made, compatible=True, metrics=metrics).save(found)
    text = tell(capsys, f"{anyway} --quiet")
    assert run_on("gallery upgrade", text) == 0, (text, "".join(capsys.readouterr()))
