"""The command line: one small file per command, one place where errors become one line."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

import click

from samespace.cli.benchmark import benchmark
from samespace.cli.bridge import bridge
from samespace.cli.check import check
from samespace.cli.data import data
from samespace.cli.demo import demo
from samespace.cli.embed import embed
from samespace.cli.export import export
from samespace.cli.gallery import gallery
from samespace.cli.probe import probe
from samespace.cli.reproduce import reproduce
from samespace.cli.train import train
from samespace.errors import SamespaceError

# torch's threads wait for one another by spinning, which on a shared or busy machine costs several times the work
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

EXIT_NO, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 1, 2, 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(version("samespace"), "--version", prog_name="samespace")
def cli() -> None:
    """Upgrade the embedding model, keep the index.

    Train a new model whose vectors can be compared with the ones already stored, and prove on held-out classes that
    they can.

    \b
    First time here:          samespace demo
    Which way fits:           samespace probe OLD_VECTORS --new NEW_VECTORS
    Train a compatible model: samespace train recipe.yaml --out runs/v2
    Make vectors:             samespace embed runs/v2 images/ --out vectors/new
    Prove compatibility:      samespace check --queries NEW_Q --gallery OLD_G --baseline OLD_Q
    Upgrade a live gallery:   samespace gallery upgrade G --model runs/v2 --certificate certificate.json
    A paper on your images:   samespace reproduce unibct --data images.npz --out study
    """  # noqa: D301


for command in (demo, probe, train, embed, check, gallery, bridge, benchmark, reproduce, data, export):
    cli.add_command(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave the process: 0 done, 1 a check said no, 2 wrong use or bad input."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; a user's mistake is one line on standard error, never a traceback."""
    try:
        result = cli.main(arguments, prog_name="samespace", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        return EXIT_BAD_INPUT
    except click.ClickException as error:
        return _complain(_usage(error))
    except SamespaceError as error:
        return _complain(str(error))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _complain(f"{where}{error.strerror or error}")
    except (KeyboardInterrupt, click.Abort):
        print("samespace: interrupted; what was finished is kept, run the same command to carry on", file=sys.stderr)
        return EXIT_INTERRUPTED
    return result if isinstance(result, int) else 0


def _usage(error: click.ClickException) -> str:
    message = " ".join(error.format_message().split())
    context = getattr(error, "ctx", None)
    return f"{message} Try '{context.command_path} --help'." if context else message


def _complain(message: str) -> int:
    print(f"samespace: error: {' '.join(message.split())}", file=sys.stderr)
    return EXIT_BAD_INPUT
