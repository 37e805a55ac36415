"""`samespace export`."""

from __future__ import annotations

from pathlib import Path

import click

from samespace.cli.output import NEW_FILE, PATH, force_option, require_new


@click.command()
@click.argument("model", type=PATH)
@click.argument("file", type=NEW_FILE)
@click.option("--tolerance", type=float, default=1e-4, show_default=True, help="Largest difference allowed.")
@force_option
def export(model: Path, file: Path, tolerance: float, force: bool) -> None:
    """Write MODEL as an ONNX FILE (extra 'onnx').

    The exported network takes float images in [0, 1] of the model's size and gives unit vectors. It is kept only if
    ONNX Runtime gives the same vectors as torch.
    """
    from samespace.models import Embedder, export_onnx, resolve_model
    from samespace.models.onnx import exported_before

    embedder = Embedder.load(resolve_model(model))
    difference = exported_before(embedder, file) if file.is_file() and not force else None
    done = "there already"
    if difference is None or not difference <= tolerance:
        require_new(file, "there", force=force)
        difference, done = export_onnx(embedder, file, tolerance=tolerance), "written"
    click.echo(f"{file}: {done}; vectors differ from torch's by at most {difference:.1e}")
