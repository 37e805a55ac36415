"""`samespace vectors`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from samespace.cli.gallery.options import declared_by, declared_options
from samespace.cli.output import (
    ALREADY,
    NEW_FILE,
    NEW_FOLDER,
    PATH,
    device_option,
    force_option,
    json_option,
    quiet_option,
    require_new,
    say,
    write_result,
)
from samespace.errors import counted

if TYPE_CHECKING:
    from samespace.space import Space
    from samespace.vectors import VectorSet
    from samespace.vectors.source import Source


@click.group()
def vectors() -> None:
    """Vectors from other programs and databases, and back."""


@vectors.command("import")
@click.argument("source")
@click.option("--out", required=True, type=NEW_FOLDER, metavar="FOLDER", help="The vector set to write.")
@click.option("--ids", type=PATH, metavar="FILE", help="Of .npy and FAISS: .txt, .csv or .parquet with their ids.")
@click.option("--table", metavar="NAME", help="Of a database: the table or collection.")
@click.option("--vector-column", metavar="NAME", help="The column of vectors, where its name does not say so.")
@click.option("--id-column", metavar="NAME", help="The column of ids.")
@click.option("--label-column", metavar="NAME", help="The column of classes.")
@click.option("--template-column", metavar="NAME", help="The column of templates.")
@declared_options
@click.option("--space", "former_name", hidden=True)
@click.option("--dim", type=click.IntRange(1), help="With --space-name: the dimensions that its vectors have.")
@click.option(
    "--model", metavar="ENCODER", help="Instead of --space-name: prove that this model made them; needs --items."
)
@click.option("--items", metavar="ITEMS", help="With --model: their texts or images, as 'samespace embed' takes them.")
@force_option
@device_option
@quiet_option
@json_option
def import_(
    source: str,
    out: Path,
    ids: Path | None,
    table: str | None,
    vector_column: str | None,
    id_column: str | None,
    label_column: str | None,
    template_column: str | None,
    space_name: str | None,
    revision: str | None,
    former_name: str | None,
    dim: int | None,
    model: str | None,
    items: str | None,
    force: bool,
    device: str,
    quiet: bool,
    json_to: str | None,
) -> None:
    """Write the vectors of SOURCE as a vector set, FOLDER.

    \b
    SOURCE                          holds
    x.parquet, .arrow, .feather     a column of lists of floats
    x.csv, .tsv                     columns v0, v1, ... or one of JSON lists
    x.npy                           floats; ids by --ids or beside it, x.ids.csv
    x.npz                           'vectors', perhaps 'ids', 'labels', 'templates'
    x.faiss, x.index                a FAISS index; ids as for .npy
    postgresql://USER@HOST/DB       a pgvector table, --table
    http://HOST:6333, qdrant:DIR    a Qdrant collection, --table
    lancedb:DIR                     a LanceDB table, --table; or DIR/TABLE.lance
    hf:DIR[,split=NAME]             a Hugging Face data set, save_to_disk's folder

    It is read in batches, all other columns are kept, and after a kill the same command carries on. float64 becomes
    float32, float16 stays. Columns go by their usual names; the command says which it took for what.

    With --model and --items, 16 of the items are embedded anew and compared with their vectors. Where they are equal,
    within 2 % of the length of a vector, the set is of the model's own space, as 'samespace embed' would make it; else
    the vectors are refused.
    """  # noqa: D301
    from samespace.errors import InputError
    from samespace.progress import bar, silent_bar
    from samespace.vectors.columns import Names
    from samespace.vectors.importing import import_vectors
    from samespace.vectors.opening import ADDRESSES, FILES, source_of

    if None not in (space_name, former_name) and space_name != former_name:
        raise click.UsageError(f"--space {former_name} and --space-name {space_name} differ; give one of them.")
    declared = declared_by(Path(source), former_name if space_name is None else space_name, revision, dim)
    if (model is None) != (items is None):
        raise click.UsageError("--model and --items go together.")
    if model is not None and declared is not None:
        raise click.UsageError("--model and --space-name exclude each other: the model has its space.")
    names = Names(vector_column, id_column, label_column, template_column, None if ids is None else str(ids), table)
    opened = source_of(source, names, metadata=True)
    if opened is None and (Path(source) / "vectors.npy").is_file():
        raise InputError(f"{source} is a vector set already, which every command takes as it is")
    if opened is None:
        raise InputError(f"{source}: vectors are imported from {', '.join(FILES)}, .npz, {ADDRESSES}")
    prover = None if model is None or items is None else _Prover(model, items, device, opened)
    progress = silent_bar if quiet else bar
    with progress(f"importing {opened.name}", opened.count, "vectors") as advance:
        done = import_vectors(opened, out, declared=declared, prove=prover, force=force, advance=advance)
    about = {
        "vectors": str(out),
        "count": done.count,
        "dim": done.dim,
        "dtype": done.dtype,
        "space": None if done.space is None else done.space.to_dict(),
        "columns": done.columns,
        "metadata": list(done.metadata),
        "resumed": done.resumed,
    }
    proof = None if prover is None else prover.proof
    if write_result(about if proof is None else {**about, "proof": asdict(proof)}, json_to):
        say(f"{out}: {counted(done.count, 'vector')} of {counted(done.dim, 'dimension')}, {done.dtype}; {done.columns}")
        if done.metadata:
            say(f"kept beside them: {', '.join(done.metadata)}")
        if done.resumed:
            say(f"{done.resumed:,} of them had been read before")
        if proof is not None:
            say(f"{proof.compared} items embedded anew deviate by at most {proof.deviation:.2g} (of {proof.tolerance})")
        say(f"space: {done.space or 'none declared; --space-name NAME --revision R says which model'}")


class _Prover:
    """Told the vectors, it gives the space of the model that is said to have made them, or refuses."""

    def __init__(self, model: str, items: str, device: str, source: Source) -> None:
        from samespace.encoders import open_encoder
        from samespace.encoders.proof import Proof, require_dim
        from samespace.errors import SpaceError

        self.encoder, self.items = open_encoder(model, device=device), items
        self.proof: Proof | None = None
        if source.space is not None and source.space != self.encoder.space:
            raise SpaceError(
                f"{source.name} declares its space, {source.space}, and {model} is of {self.encoder.space}"
            )
        require_dim(self.encoder, source.dim, source.name)

    def __call__(self, stored: VectorSet) -> Space:
        from samespace.encoders.proof import prove

        self.proof = prove(self.encoder, self.items, stored)
        return self.encoder.space


@vectors.command()
@click.argument("source", metavar="VECTORS")
@click.option("--to", required=True, metavar="FILE|ADDRESS", help="What to write; its ending or address says the form.")
@click.option("--table", metavar="NAME", help="Of a database: the table or collection to create.")
@click.option("--truncate", type=click.IntRange(1), metavar="D", help="Write the leading D values of every vector.")
@force_option
@quiet_option
@json_option
def export(
    source: str, to: str, table: str | None, truncate: int | None, force: bool, quiet: bool, json_to: str | None
) -> None:
    """Write VECTORS, a vector set or any form that 'vectors import' reads, in another of these forms.

    Vectors come back equal to the bit, with ids, labels and all other columns; .parquet, .arrow, .feather, .npz,
    LanceDB and Hugging Face keep the space too. Beside .npy and .faiss their ids are written, NAME.ids.parquet. A table
    of a database must be new.

    With --truncate, for models trained for it (Matryoshka), vectors of a space of unit vectors are brought to length
    one again, and their space is another.
    """
    from samespace.files import is_stream
    from samespace.progress import bar, silent_bar
    from samespace.vectors.exporting import export_vectors, in_the_way, stored_at
    from samespace.vectors.opening import split_address, store_of

    address, there = split_address(to)[0], False
    place = None
    if (store := store_of(address)) in (None, "hf"):
        place = (NEW_FILE if store is None else NEW_FOLDER).convert(address.removeprefix("hf:"), None, None)
    stored = stored_at(source)
    if truncate is not None:
        stored = stored.truncated(truncate)
    if place is not None and not force:
        if (other := in_the_way(stored, place, address)) is not None:
            require_new(other, "there", force=False)
        there = place.exists() and not is_stream(place)
    if not there:
        progress = silent_bar if quiet else bar
        with progress(f"exporting {stored.name}", len(stored.vectors), "vectors") as advance:
            address = export_vectors(stored, to, table=table, advance=advance)
    if write_result({"to": address, "count": len(stored.vectors), "dim": stored.dim}, json_to):
        what = f"{counted(len(stored.vectors), 'vector')} of {counted(stored.dim, 'dimension')}"
        say(f"{address}: {what}{ALREADY if there else ''}")
