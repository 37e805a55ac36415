"""Metrics of a training: JSON lines always; TensorBoard, Weights & Biases and MLflow where asked."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from samespace.errors import InputError
from samespace.files import write_text

Log = Callable[[dict[str, Any]], None]


class MetricsFile:
    """`metrics.jsonl`: one line per epoch, and one per interval of steps.

    Lines from a step of an epoch on are dropped: a resumed training writes them again.
    """

    def __init__(self, path: Path, *, epoch: int, step: int) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        # prototypes are rebuilt, and their line written again, by a training that resumes at the start of an epoch
        kept = [
            line
            for line in _lines(path)
            if (line["epoch"], line["step"]) < (epoch, step + (line["kind"] != "prototypes"))
        ]
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))

    def __call__(self, line: dict[str, Any]) -> None:
        """Append one line and see it to the disk."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())


def _lines(path: Path) -> Iterable[dict[str, Any]]:
    if not path.exists():
        return
    for text in path.read_text(encoding="utf-8").split("\n"):
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            # the last line of a killed training may be cut
            continue
        yield line


def require_logger(kind: str) -> None:
    """Refuse a logger whose extra is not installed, by an InputError."""
    if find_spec(kind) is None:
        raise InputError(f"the logger '{kind}' is not installed: pip install 'samespace[{kind}]'")


def open_logger(kind: str, out: Path, recipe: dict[str, Any]) -> Log:
    """A logger beside `metrics.jsonl`, from an optional extra. Raises InputError: the extra is not installed."""
    require_logger(kind)
    if kind == "tensorboard":
        return _tensorboard(out)
    return _wandb(out, recipe) if kind == "wandb" else _mlflow(out, recipe)


def _numbers(line: dict[str, Any]) -> dict[str, float]:
    skip = ("epoch", "step", "global_step")
    return {key: float(value) for key, value in line.items() if key not in skip and isinstance(value, int | float)}


def _tensorboard(out: Path) -> Log:
    from torch.utils.tensorboard.writer import SummaryWriter

    writer = SummaryWriter(str(out / "tensorboard"))

    def log(line: dict[str, Any]) -> None:
        for key, value in _numbers(line).items():
            writer.add_scalar(f"{line['kind']}/{key}", value, line["global_step"])
        writer.flush()

    return log


def _wandb(out: Path, recipe: dict[str, Any]) -> Log:
    import wandb

    run = wandb.init(project="samespace", name=out.name, dir=str(out), config=recipe, resume="allow", id=out.name)

    def log(line: dict[str, Any]) -> None:
        run.log({f"{line['kind']}/{key}": value for key, value in _numbers(line).items()}, step=line["global_step"])

    return log


def _mlflow(out: Path, recipe: dict[str, Any]) -> Log:
    import mlflow

    mlflow.set_experiment("samespace")
    mlflow.start_run(run_name=out.name)
    mlflow.log_dict(recipe, "recipe.yaml")

    def log(line: dict[str, Any]) -> None:
        # it takes no names with @ or =
        values = {re.sub(r"[@=]", "_", f"{line['kind']}.{key}"): value for key, value in _numbers(line).items()}
        mlflow.log_metrics(values, step=line["global_step"])

    return log
