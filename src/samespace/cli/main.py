"""The command line: one small file per command, one place where errors become one line."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

import click

from samespace.cli.benchmark import benchmark
from samespace.cli.bridge import bridge
from samespace.cli.build import build
from samespace.cli.check import check
from samespace.cli.data import data
from samespace.cli.demo import demo
from samespace.cli.embed import embed
from samespace.cli.exits import (
    EXIT_BAD_INPUT,
    EXIT_DONE,
    EXIT_NO,
    background_errors,
    complain,
    explained,
    interrupted,
    prepare_process,
)
from samespace.cli.export import export
from samespace.cli.gallery import gallery
from samespace.cli.probe import probe
from samespace.cli.reproduce import reproduce
from samespace.cli.serve import serve
from samespace.cli.start import start
from samespace.cli.streams import outlets
from samespace.cli.train import train
from samespace.cli.vectors import vectors
from samespace.names import require_name

# torch's threads wait for one another by spinning, which on a shared or busy machine costs several times the work
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_PLAINER = {
    "is not a valid integer range": "is not a whole number",
    "is not a valid integer": "is not a whole number",
    "is not a valid float range": "is not a number",
    "is not a valid float": "is not a number",
}
"""What click says of a value, and what it means."""
_RESULT_KEPT = "the work is done, and the files that the command names are written"


class _SystemFault(Exception):
    """Carries an error of the operating system past click, which takes a broken pipe for a reason to leave with 1."""


class _Commands(click.Group):
    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except OSError as error:
            raise _SystemFault from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(version("samespace"), "--version", prog_name="samespace")
def cli() -> None:
    """Upgrade the embedding model, keep the index.

    Train a new model whose vectors can be compared with the ones already stored, and prove on held-out classes that
    they can.

    \b
    First time here:          samespace demo
    Your images, short way:   samespace start images/, then samespace build project.yaml
    Which way fits:           samespace probe OLD_VECTORS --new NEW_VECTORS
    Train a compatible model: samespace train recipe.yaml --out runs/v2
    Make vectors:             samespace embed runs/v2 images/ --out vectors/new
    Prove compatibility:      samespace check --queries NEW_Q --gallery OLD_G --baseline OLD_Q
    Upgrade a live gallery:   samespace gallery upgrade G --model runs/v2 --certificate certificate.json
    Serve it over HTTP:       samespace serve G
    A paper on your images:   samespace reproduce unibct --data images.npz --out study
    """  # noqa: D301


for command in (
    demo,
    start,
    build,
    probe,
    train,
    embed,
    check,
    gallery,
    serve,
    bridge,
    benchmark,
    reproduce,
    data,
    export,
    vectors,
):
    cli.add_command(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave the process; `samespace.cli.exits` says with which status."""
    prepare_process()
    sys.exit(run(arguments, leaving=True))


def run(arguments: Sequence[str] | None = None, *, leaving: bool = False) -> int:
    """Run the command line; whatever goes wrong is one line on standard error, never a traceback.

    `leaving`: the process ends after this, so a standard stream that failed is turned to nowhere.
    """
    with outlets() as (out, err):
        with background_errors() as failed:
            status = _status(arguments)
        if failed and status in (EXIT_DONE, EXIT_NO):
            status = explained(failed[0])
        out.flush()
        if out.lost and status in (EXIT_DONE, EXIT_NO):
            status = complain(f"standard output could not be written ({out.lost}); {_RESULT_KEPT}")
        err.flush()
        if leaving:
            out.leave()
            err.leave()
    return status


def _status(given: Sequence[str] | None) -> int:
    arguments = sys.argv[1:] if given is None else given
    try:
        for argument in arguments:
            require_name(argument, "the argument")
        result = cli.main(arguments, prog_name="samespace", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        return EXIT_BAD_INPUT
    except click.ClickException as error:
        return complain(_usage(error))
    except (KeyboardInterrupt, click.Abort):
        return interrupted(arguments)
    except _SystemFault as fault:
        return explained(fault.__cause__ or fault)
    except BaseException as error:
        return explained(error)
    return result if isinstance(result, int) else EXIT_DONE


def _usage(error: click.ClickException) -> str:
    message = " ".join(error.format_message().split())
    for of_click, plain in _PLAINER.items():
        message = message.replace(of_click, plain)
    context = getattr(error, "ctx", None)
    return f"{message} Try '{context.command_path} --help'." if context else message
