"""What a user can get wrong: one line on standard error, status 2, and nothing made, changed or lost."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from samespace import Embedder, VectorSet
from samespace.cli.main import run
from samespace.models import Classifier, EmbedderConfig, Preprocessing

GLYPHS = "glyphs:classes=6,images=4,size=16"
RECIPE = {
    "data": {"source": GLYPHS},
    "model": {"backbone": "convnet16", "embedding_dim": 8},
    "optim": {"epochs": 1, "batch_size": 12},
}
CHECK = "check --queries new_q.npz --gallery old_g.npz --baseline old_q.npz"


def model(dim: int) -> Embedder:
    import torch

    torch.manual_seed(dim)
    return Embedder(EmbedderConfig("convnet16", dim, Preprocessing(size=16, channels=1)), name=f"m{dim}")


def vectors(seed: int, dim: int = 8) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {
        "vectors": random.standard_normal((12, dim)).astype(np.float32),
        "labels": np.arange(12) % 4,
        "ids": np.array([f"{'q' if seed % 2 else 'g'}{row}" for row in range(12)]),
    }


def pictures(folder: Path, classes: dict[str, int], size: int = 16) -> None:
    for name, count in classes.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(np.full((size, size, 3), 40 * number, np.uint8)).save(folder / name / f"{number}.png")


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    """A folder of good input: a model with its classifier, vectors, images, a recipe, an allocation."""
    import torch

    here = tmp_path_factory.mktemp("good")
    classes = tuple(f"glyph-0-{number:05}" for number in range(6))
    model(8).save(here / "m8", Classifier(torch.eye(6, 8), classes, "arcface", 64.0))
    model(4).save(here / "m4")
    for name, seed in {"old_q": 1, "old_g": 2, "new_q": 3, "new_g": 4, "p_q": 5, "p_g": 6}.items():
        np.savez(here / f"{name}.npz", **vectors(seed))
    pictures(here / "images", {"ant": 3, "bee": 3, "cat": 3})
    (here / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    assert run(["data", "allocate", GLYPHS, "--kind", "open-class", "--out", str(here / "split.json")]) == 0
    return here


@pytest.fixture
def here(original, tmp_path, monkeypatch) -> Path:
    """A copy of the good input, as the working folder."""
    import shutil

    folder = tmp_path / "work"
    shutil.copytree(original, folder)
    monkeypatch.chdir(folder)
    return folder


def contents(folder: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


@pytest.fixture
def refused(here, capsys):
    """Runs a command line that must be refused, and returns its one line."""

    def check(command: str) -> str:
        before = contents(here)
        capsys.readouterr()
        assert run(command.split()) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("samespace: error: ")
        assert err.endswith("\n")
        assert len(err.splitlines()) == 1
        assert "Traceback" not in err
        assert contents(here) == before
        return err

    return check


@pytest.mark.parametrize("command", ["", "data"])
def test_no_arguments_show_the_help(command, capsys):
    assert run(command.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Usage: samespace" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("chek", "No such command 'chek'"),
        ("check --quries x", "--queries"),
        ("check", "Missing option '--queries'"),
        ("train recipe.yaml", "Missing option '--out'"),
        ("embed m8", "Missing argument 'SOURCE'"),
        ("data describe", "Missing argument 'SOURCE'"),
        ("demo --seed -1", "'--seed'"),
        ("demo --seed one", "'--seed'"),
    ],
)
def test_wrong_use_names_the_option_and_the_help(refused, command, message):
    line = refused(command)
    assert message in line
    assert "--help" in line


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere", "'nowhere' does not exist"),
        ("nowhere.npz", "nowhere.npz does not exist"),
        ("recipe.yaml", "is not an .npz file"),
        ("old_q.npz", "lacks images"),
        ("glphs:classes=3", "did you mean 'glyphs'?"),
        ("glyphs:clases=3", "did you mean 'classes'?"),
        ("glyphs:classes=0", "classes must lie in 1 to"),
        ("glyphs:classes=three", "classes must be a whole number"),
        ("glyphs:classes=3,classes=4", "give 'classes' once"),
        ("glyphs:difficulty=nan", "difficulty"),
        ("m8", "no class folders in m8/"),
        ("images/ant", "holds images but no class folders"),
    ],
)
def test_a_source_that_is_none(refused, source, message):
    assert message in refused(f"data describe {source}")


@pytest.mark.parametrize("command", ["data allocate images --kind open-data --out x.json", "embed m8 images --out x"])
def test_an_empty_class_folder_is_named(here, refused, command):
    (here / "images" / "dodo").mkdir()
    assert "dodo: a class folder without images" in refused(command)


def test_a_broken_image_is_named(here, refused):
    whole = (here / "images" / "bee" / "1.png").read_bytes()
    (here / "images" / "bee" / "1.png").write_bytes(whole[: len(whole) // 2])
    assert "bee/1.png" in refused("data allocate images --kind open-data --out x.json")


def test_images_of_unlike_sizes(here, refused):
    pictures(here / "images", {"elk": 1}, size=20)
    assert "differ in size, from 16x16 to 20x20" in refused("train recipe.yaml --out runs/x --set data.source=images")


def test_classes_of_one_image_cannot_be_checked_on(here, refused):
    pictures(here / "ones", dict.fromkeys("abcdefgh", 1))
    assert "one image" in refused("data allocate ones --kind open-class --out x.json")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": np.zeros((3, 16, 16)), "labels": [0, 1, 1]}, "are float64"),
        ({"images": np.zeros((3, 16, 16), np.uint8), "labels": [0, 1]}, "3 images and labels of shape (2,)"),
        ({"images": np.zeros((3, 16, 16), np.uint8), "labels": [0.0, 1.0, 1.0]}, "labels in x.npz are float64"),
        (
            {"images": np.zeros((3, 16, 16), np.uint8), "labels": [0, 1, 5], "label_names": ["a", "b"]},
            "run from 0 to 5",
        ),
        ({"images": np.zeros((3, 16, 16), np.uint8), "labels": [0, 1, 1], "ids": ["a", "a", "b"]}, "must be unique"),
        ({"images": np.array([None, 1, 2]), "labels": [0, 1, 1]}, "cannot be read as .npz"),
    ],
)
def test_image_arrays_that_do_not_fit(here, refused, arrays, message):
    np.savez(here / "x.npz", **arrays)
    assert message in refused("data describe x.npz")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_truncated_npz(here, refused):
    whole = (here / "old_q.npz").read_bytes()
    (here / "old_q.npz").write_bytes(whole[: len(whole) // 2])
    assert "old_q.npz" in refused("data describe old_q.npz")
    assert "old_q.npz" in refused(CHECK)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--kind extended", "'extended-data'"),
        ("--kind open-class --fraction 1.5", "fraction must lie between 0 and 1"),
        ("--kind open-class --fraction nan", "fraction must lie between 0 and 1"),
        ("--kind open-class --held-out 1", "fraction must lie between 0 and 1"),
        ("--kind open-class --held-out -0.2", "fraction must lie between 0 and 1"),
        ("--kind open-class --held-out nan", "fraction must lie between 0 and 1"),
        ("--kind open-class --open-set 1", "open_set must be at least 0 and below 1"),
        ("--kind open-class --seed -1", "'--seed'"),
    ],
)
def test_an_allocation_that_cannot_be_drawn(refused, options, message):
    assert message in refused(f"data allocate {GLYPHS} --out x.json {options}")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optim.epoch=3", "unknown recipe key 'optim.epoch'; did you mean 'epochs'?"),
        ("optimiser.lr=3", "unknown recipe key 'optimiser'; did you mean 'optim'?"),
        ("optim.epochs", "an override is section.key=value"),
        ("optim.epochs=0", "optim.epochs should be at least 1"),
        ("optim.epochs=many", "optim.epochs should be a whole number"),
        ("optim.lr=-1", "optim.lr should be above 0"),
        ("optim.lr=nan", "optim.lr should be above 0"),
        ("optim.batch_size=1", "optim.batch_size should be at least 2"),
        ("data.source=nowhere", "'nowhere' does not exist"),
        ("data.part=old", "exclude each other"),
        ("data.allocation=split.json", "exclude each other"),
        ("data.source=glyphs:classes=1,images=9,size=16", "training needs at least 2"),
        ("model.backbone=resnet18", "unknown backbone 'resnet18'; did you mean 'iresnet18'?"),
        ("model.backbone=nowhere:build", "cannot be imported"),
        ("model.embedding_dim=1", "embedding_dim should be at least 2"),
        ("model.image_size=4", "at least 8 pixels"),
        ("head.margin=arc", "did you mean 'arcface'?"),
        ("head.margin_value=9", "margin_value 9.0 for 'arcface'"),
        ("augment.rotate=-1", "rotate must lie in 0 to 180"),
        ("run.device=gpu", "device 'gpu' cannot be used"),
        ("run.precision=fp16", "run.precision is 'fp16'"),
        ("run.loggers=[comet]", "run.loggers is 'comet'"),
    ],
)
def test_a_recipe_that_cannot_be_carried_out(refused, override, message):
    assert message in refused(f"train recipe.yaml --out runs/x --set {override}")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("method=unibct", "did you mean 'unibct-refined'?"),
        ("method=none old_model=m8", "method=none uses no old model"),
        ("method=l2", "needs compatibility.old_model or .old_vectors"),
        ("method=bct old_vectors=old_q.npz", "needs compatibility.old_model or .old_classifier"),
        ("method=l2 old_model=m8 old_vectors=old_q.npz", "exclude each other"),
        ("method=l2 old_model=nowhere", "nowhere is not a model folder"),
        ("method=bct old_model=m4", "classifier.safetensors does not exist"),
        ("method=bct old_classifier=recipe.yaml", "recipe.yaml is damaged or not safetensors"),
        ("method=l2 old_vectors=nowhere", "nowhere does not exist"),
        ("method=l2 old_vectors=old_q.npz", "lacks 24 of 24 training images"),
        ("method=unibct-mean old_model=m8 similarity_cap=0.5", "belongs to unibct-refined"),
        (
            "method=l2 old_model=m8 temperature=2",
            "belongs to matched, matched-free, memory-contrast, contrastive, bct-kd and lwf",
        ),
        ("method=l2 old_model=m8 margin=cosface", "does nothing for method=l2"),
        ("method=l2 old_model=m8 warmup_epochs=1", "leaves nothing of optim.epochs=1"),
    ],
)
def test_compatibility_options_that_exclude_each_other_or_do_not_fit(here, refused, overrides, message):
    options = " ".join(f"--set compatibility.{override}" for override in overrides.split())
    assert message in refused(f"train recipe.yaml --out runs/x --quiet {options}")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("method=l2 old_model=m4", "the old model has 4 dimensions; compatibility.prefix=true"),
        ("method=l2 old_model=m8 prefix=true", "wider than the old one"),
        ("method=lwf old_model=m8", "the old classifier knows them all"),
        ("method=unibct-trimmed old_model=m8 drop=1.0", "drop"),
        ("method=contrastive old_model=m8 temperature=-1", "temperature"),
    ],
)
def test_what_only_the_old_model_shows_is_refused_before_training(here, capsys, overrides, message):
    options = [f"--set=compatibility.{override}" for override in overrides.split()]
    assert run(["train", "recipe.yaml", "--out", "runs/x", "--quiet", *options]) == 2
    err = capsys.readouterr().err
    assert err.startswith("samespace: error: ")
    assert len(err.splitlines()) == 1
    assert message in err
    assert not (here / "runs" / "x").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("seed=-1", "seed"),
        ("model.backbone=builtins:len", "builtins:len"),
        ("compatibility.method=unibct-refined compatibility.old_model=m8 compatibility.damping=1.0", "damping"),
        (
            "compatibility.method=unibct-refined compatibility.old_model=m8 compatibility.refine_temperature=0.0",
            "refine_temperature",
        ),
        (
            "compatibility.method=unibct-refined compatibility.old_model=m8 compatibility.similarity_cap=2.0",
            "similarity_cap",
        ),
    ],
)
def test_values_out_of_range_are_refused_before_anything_is_made(refused, overrides, message):
    options = " ".join(f"--set {override}" for override in overrides.split())
    assert message in refused(f"train recipe.yaml --out runs/x --quiet {options}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "should hold sections"),
        ("- a\n- b\n", "should hold sections"),
        ("data: {source: [\n", "is not valid YAML"),
        ("model: {embedding_dim: 8}\n", "the recipe lacks 'data'"),
        ("data: {channels: 1}\n", "the recipe lacks 'data.source'"),
        ("data: images\n", "should hold keys and values"),
    ],
)
def test_a_file_that_is_no_recipe(here, refused, text, message):
    (here / "recipe.yaml").write_text(text)
    assert message in refused("train recipe.yaml --out runs/x")


def test_a_missing_recipe(refused):
    assert "nowhere.yaml does not exist" in refused("train nowhere.yaml --out runs/x")


def test_old_vectors_of_another_count(here, refused):
    value = vectors(1)
    del value["ids"]
    np.savez(here / "old_q.npz", **value)
    options = "--set compatibility.method=l2 --set compatibility.old_vectors=old_q.npz"
    assert "12 vectors and no ids for 24 training images" in refused(f"train recipe.yaml --out runs/x {options}")


def test_a_training_folder_of_another_recipe(here, refused):
    assert run(["train", "recipe.yaml", "--out", "runs/x", "--quiet"]) == 0
    assert "optim.epochs: 1 → 2" in refused("train recipe.yaml --out runs/x --set optim.epochs=2")


def test_a_damaged_checkpoint(here, refused):
    (here / "runs" / "x").mkdir(parents=True)
    (here / "runs" / "x" / "checkpoint.safetensors").write_bytes(b"half a file")
    assert "checkpoint.safetensors is damaged" in refused("train recipe.yaml --out runs/x")


@pytest.mark.parametrize(
    "command",
    [
        f"data allocate {GLYPHS} --kind open-data --out recipe.yaml/x.json",
        "train recipe.yaml --out recipe.yaml --quiet",
        "train recipe.yaml --out recipe.yaml/x --quiet",
        f"embed m8 {GLYPHS} --out recipe.yaml --quiet",
        f"embed m8 {GLYPHS} --out recipe.yaml/x --quiet",
        "export m8 recipe.yaml/x.onnx",
    ],
)
def test_a_place_that_cannot_be_written(refused, command):
    assert "recipe.yaml" in refused(command)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--part old", "--allocation and --part go together"),
        ("--allocation split.json", "--allocation and --part go together"),
        ("--allocation split.json --part odd", "'--part'"),
        ("--allocation nowhere.json --part old", "nowhere.json does not exist"),
        ("--allocation m8/config.json --part old", "expected an allocation"),
        ("--allocation recipe.yaml --part old", "is not valid JSON"),
        ("--device gpu", "device 'gpu' cannot be used"),
        ("--batch-size 0", "'--batch-size'"),
    ],
)
def test_an_embedding_that_cannot_start(refused, options, message):
    assert message in refused(f"embed m8 {GLYPHS} --out x --quiet {options}")


def test_an_allocation_of_another_source(refused):
    other = "glyphs:classes=6,images=4,size=16,seed=5"
    assert "are not in glyphs" in refused(f"embed m8 {other} --out x --allocation split.json --part old --quiet")


def test_a_part_that_was_not_held_out(here, refused):
    assert run(f"data allocate {GLYPHS} --kind open-data --held-out 0 --out s.json".split()) == 0
    line = refused(f"embed m8 {GLYPHS} --out x --allocation s.json --part queries --quiet")
    assert "has no queries; make it with a held-out share" in line


def test_a_folder_that_holds_the_vectors_of_another_model(here, refused):
    assert run(f"embed m8 {GLYPHS} --out x --quiet".split()) == 0
    assert "x exists and holds something else" in refused(f"embed m4 {GLYPHS} --out x --quiet")
    assert "m8 exists and holds something else" in refused(f"embed m4 {GLYPHS} --out m8 --quiet")


@pytest.mark.parametrize("command", [f"embed {{}} {GLYPHS} --out x --quiet", "export {} x.onnx"])
def test_models_that_are_not_whole(here, refused, command):
    assert "nowhere is not a model folder" in refused(command.format("nowhere"))
    assert "config.json does not exist" in refused(command.format("images"))
    weights, config = here / "m8" / "model.safetensors", here / "m8" / "config.json"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    assert "model.safetensors is damaged" in refused(command.format("m8"))
    weights.write_bytes((here / "m4" / "model.safetensors").read_bytes())
    assert "do not fit the configuration" in refused(command.format("m8"))
    altered = bytearray(whole)
    altered[-1] ^= 1
    weights.write_bytes(altered)
    assert "not those the configuration was written for" in refused(command.format("m8"))
    weights.write_bytes(whole)
    config.write_text(config.read_text()[:-9])
    assert "config.json is not valid JSON" in refused(command.format("m8"))
    config.write_text(json.dumps({"format": "samespace.embedder/1", "backbone": "convnet16"}))
    assert "is not a whole configuration" in refused(command.format("m8"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--metric rank1", "unknown metric 'rank1'; did you mean 'rank@1'?"),
        ("--metric rank@0", "unknown metric 'rank@0'"),
        ("--metric TAR@FAR=2", "should be at least 0 and below 1"),
        ("--metric TPIR@FPIR=1e-2", "no queries without a mate"),
        ("--confidence 2", "confidence lies between 0 and 1"),
        ("--confidence nan", "confidence lies between 0 and 1"),
        ("--seed -1", "'--seed'"),
        ("--replicates 3", "'--replicates'"),
        ("--prefix", "leave prefix out"),
        ("--paragon-queries p_q.npz", "go together"),
        ("--images images", "add --report DIR"),
        ("--new-gallery nowhere", "nowhere does not exist"),
        ("--new-gallery images", "images is not a whole vector set"),
        ("--new-gallery m8/model.safetensors", "cannot be read as .npz"),
        ("--new-gallery new_q.npz", "lacks 12 items of gallery"),
    ],
)
def test_a_check_that_cannot_be_made(refused, options, message):
    assert message in refused(f"{CHECK} {options}")


@pytest.mark.parametrize(
    ("options", "message"),
    [("--report recipe.yaml", "--report recipe.yaml is a file"), ("--report r --images nowhere", "'nowhere' does not")],
)
def test_a_report_that_cannot_be_written_is_refused_before_the_check(refused, options, message):
    assert message in refused(f"{CHECK} {options}")


def test_a_result_that_cannot_be_written_is_still_shown(here, capsys, monkeypatch):
    def full(path, value):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("samespace.cli.output.write_json", full)
    before = contents(here)
    assert run([*CHECK.split(), "--json", "x.json"]) == 2
    out, err = capsys.readouterr()
    assert "new_q.npz against old_g.npz" in out
    assert err.startswith("samespace: error: x.json")
    assert len(err.splitlines()) == 1
    assert contents(here) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vectors": np.full((12, 8), np.nan, np.float32)}, "row 0 (id q0) holds NaN or infinity"),
        ({"vectors": np.zeros((12, 8), np.float32)}, "new_q.npz"),
        ({"vectors": np.ones((12, 5), np.float32)}, "queries have 5 dimensions and the gallery has 8"),
        ({"vectors": np.ones((12, 9), np.float32)}, "use prefix"),
        ({"vectors": np.ones((11, 8), np.float32)}, "should be one per vector (11)"),
        ({"vectors": np.ones(12, np.float32)}, "vectors should be (items, dims)"),
        ({"vectors": np.array(["a"] * 12)}, "vectors should be"),
        ({"vectors": None}, "holds no array 'vectors'"),
        ({"labels": None}, "have no labels"),
        ({"labels": np.arange(12) + 100}, "differs from queries"),
        ({"labels": np.arange(12) / 2}, "labels should be integers or strings"),
        ({"ids": np.array(["a"] * 12)}, "ids must be unique"),
        ({"ids": np.array([f"x{row}" for row in range(12)])}, "lacks 12 items"),
        ({"labels": np.array([{"a": 1}] * 12)}, "new_q.npz"),
    ],
)
def test_query_vectors_that_do_not_fit(here, refused, change, message):
    value = {key: part for key, part in {**vectors(3), **change}.items() if part is not None}
    np.savez(here / "new_q.npz", **value)
    line = refused(CHECK)
    assert message in line or message.replace("use prefix", "--prefix") in line


def test_no_query_has_a_mate(here, refused):
    for name, seed in {"old_q": 1, "new_q": 3}.items():
        value = vectors(seed)
        np.savez(here / f"{name}.npz", **{**value, "labels": value["labels"] + 50})
    assert "share no label" in refused(CHECK)


def test_a_baseline_of_another_model(here, refused):
    assert run(f"embed m8 {GLYPHS} --out g8 --quiet".split()) == 0
    other = model(8)
    other.projection[0].weight.data.mul_(1.5)
    other.save(here / "other")
    assert run(f"embed other {GLYPHS} --out q8 --quiet".split()) == 0
    line = refused("check --queries q8 --gallery g8 --baseline q8")
    assert "expected baseline in the space of gallery" in line
    assert model(8).space.id in line
    assert other.space.id in line


def test_vector_folders_that_are_not_whole(here, refused):
    value = vectors(3)
    VectorSet.from_arrays(value["vectors"], labels=value["labels"], ids=value["ids"]).save(here / "q")
    command = CHECK.replace("new_q.npz", "q")
    stored = here / "q" / "vectors.npy"
    whole = stored.read_bytes()
    stored.write_bytes(whole[:-40])
    assert "q is damaged" in refused(command)
    stored.write_bytes(whole)
    (here / "q" / "items.parquet").write_bytes(b"PAR1 no")
    assert "q is damaged" in refused(command)
    (here / "q" / "items.parquet").unlink()
    assert "items.parquet is missing" in refused(command)


def test_an_export_never_leaves_a_file_that_failed_the_comparison(refused):
    assert "not kept" in refused("export m8 x.onnx --tolerance 0")
