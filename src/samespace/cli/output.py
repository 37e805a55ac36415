"""Options of many commands, and where a report goes: JSON to a file or standard output, tables to the terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from samespace.errors import InputError, escaped
from samespace.files import is_stream, require_place, write_json

if TYPE_CHECKING:
    from samespace.evaluate.certificate import Certificate
    from samespace.report.pictures import ImageLookup


class _Given(click.Path):
    """A path; an empty one, which would mean the working folder, is refused."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path, or an error in the words of the command line."""
        if value == "":
            self.fail("the path is empty; name a file or folder, '.' for the working folder.", param, ctx)
        return super().convert(value, param, ctx)


PATH = _Given(path_type=Path)


class _Written(_Given):
    """A file or folder that a command writes: where it cannot be, that is said before any work.

    Folders on the way to it that are not there are made.
    """

    def __init__(self, kind: Literal["file", "folder"]) -> None:
        super().__init__(path_type=Path)
        self.kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The path, or an error in the words of the command line."""
        path = Path(str(super().convert(value, param, ctx)))
        given = "" if param is None else f"{param.opts[0] if isinstance(param, click.Option) else param.name} "
        try:
            require_place(path)
        except InputError as error:
            raise click.UsageError(f"{given}{error}.", ctx) from None
        if self.kind == "folder" and path.exists() and not path.is_dir():
            raise click.UsageError(f"{given}{path} is a file; name a folder.", ctx)
        if self.kind == "file" and path.is_dir():
            raise click.UsageError(f"{given}{path} is a folder; name a file.", ctx)
        return path


NEW_FILE, NEW_FOLDER = _Written("file"), _Written("folder")
ALREADY = "; there already"
"""What is said after a result that an earlier call of the same command left."""
force_option = click.option("--force", is_flag=True, help="Replace what is there already.")


def require_new(path: Path, what: str, *, sign: str | None = None, force: bool) -> None:
    """Refuse to write over `what` is there, such as `a bridge`, unless the user says so; over something else always.

    `sign`: the file by which a folder is known to be one.
    """
    if not path.exists() or is_stream(path):
        return
    if sign is not None and not (path / sign).is_file():
        raise InputError(f"{path} is not {what}, and is there already; choose another place")
    if not force:
        raise InputError(f"{path} is {what} already; choose another place, or replace it with --force")


device_option = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
quiet_option = click.option("--quiet", is_flag=True, help="Show no progress.")


def _json_place(context: click.Context, parameter: click.Parameter, place: str | None) -> str | None:
    place = "-" if place == "/dev/stdout" else place
    if place == "-" and not getattr(sys.stdout, "open", True):
        raise click.BadParameter("standard output is closed; name a file")
    if place in (None, "-"):
        return place
    if not (folder := NEW_FILE.convert(place, parameter, context).absolute().parent).exists():
        raise click.BadParameter(f"there is no folder {folder} for {Path(place).name}; make it first, or correct it.")
    _require_json_or_new(Path(place))
    return place


def _require_json_or_new(place: Path) -> None:
    """Refuse to replace what no `--json` wrote, such as the gallery or the vectors that a command reads."""
    if not place.is_file():
        return
    with place.open("rb") as file:
        begin = file.read(1)
    if begin not in (b"", b"{", b"["):
        raise InputError(f"--json {place} is a file that is not JSON, which would be lost; name another")


json_option = click.option(
    "--json",
    "json_to",
    metavar="FILE|-",
    callback=_json_place,
    help="Also write the result as JSON to FILE, in a folder that is there, or to standard output for '-'.",
)


def certificate_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What `check` and `benchmark` both take."""
    options = (
        click.option("--confidence", type=float, default=0.95, show_default=True, help="Of every interval."),
        click.option(
            "--replicates", type=click.IntRange(100), default=2000, show_default=True, help="Bootstrap resamples."
        ),
        click.option("--seed", type=click.IntRange(0), default=0, show_default=True),
        click.option("--report", type=NEW_FOLDER, metavar="DIR", help="Write report.html and certificate.json."),
    )
    return reduce(lambda wrapped, option: option(wrapped), reversed(options), command)


def show_certificate(
    certificate: Certificate, report: Path | None, json_to: str | None, images: ImageLookup | None = None
) -> int:
    """Print a certificate and write it where --json and --report say; the exit status that it means."""
    from rich.console import Console

    from samespace.report import print_certificate, write_report

    to_stdout, page = json_to == "-", None
    try:
        write_result(certificate.to_dict(), json_to)
        if report is not None:
            page = write_report(certificate, report, images=images)
    finally:
        if not to_stdout:
            print_certificate(certificate, Console(file=sys.stdout))
    if page is not None and not to_stdout:
        say(f"report: {page}")
    return 0 if certificate.compatible else 1


def say(line: str) -> None:
    """Print one line, whatever the names in it hold."""
    click.echo(escaped(line))


def reader_left() -> bool:
    """Whether nobody reads standard output any more, so that a command that shows things until Ctrl-C can end."""
    return getattr(sys.stdout, "fault", None) is not None


def write_result(value: dict[str, Any], json_to: str | None) -> bool:
    """Write `value` as JSON where `--json` says, if anywhere; whether standard output is left for tables."""
    if json_to == "-":
        json.dump(value, sys.stdout, indent=2)
        print()
    elif json_to is not None:
        _require_json_or_new(Path(json_to))
        write_json(Path(json_to), value)
    return json_to != "-"
