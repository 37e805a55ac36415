"""Options of many commands, and where a report goes: JSON to a file or standard output, tables to the terminal."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from samespace.files import write_json

PATH = click.Path(path_type=Path)
device_option = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
quiet_option = click.option("--quiet", is_flag=True, help="Show no progress.")
json_option = click.option(
    "--json", "json_to", metavar="FILE|-", help="Also write the result as JSON to FILE, or to standard output for '-'."
)


def write_result(value: dict[str, Any], json_to: str | None) -> bool:
    """Write `value` as JSON where `--json` says, if anywhere; whether standard output is left for tables."""
    if json_to == "-":
        json.dump(value, sys.stdout, indent=2)
        print()
    elif json_to is not None:
        write_json(Path(json_to), value)
    return json_to != "-"
