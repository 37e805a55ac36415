"""`samespace reproduce`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from samespace.cli.output import NEW_FOLDER, PATH, json_option, quiet_option, write_result
from samespace.errors import counted

if TYPE_CHECKING:
    from samespace.studies import Plan

_STUDIES = ("bct", "unibct", "beyond")


@click.command()
@click.argument("study", type=click.Choice(_STUDIES))
@click.option("--data", metavar="IMAGES", help="Training images; by default the source that the settings name.")
@click.option("--out", type=NEW_FOLDER, help="Folder of the study.  [default: runs/STUDY-SETTINGS]")
@click.option(
    "--settings",
    default="small",
    show_default=True,
    metavar="NAME|FILE",
    help="omniglot, omniglot-strong, glyphs-strong, grocery, small (any images of 16 to 64 pixels), the papers' own "
    "ms1mv3, imdb-face, market1501, or a YAML file.",
)
@click.option("--table", "tables", multiple=True, metavar="NAME", help="Only this table, such as 2 or 1b; repeat.")
@click.option(
    "--row", "rows", multiple=True, metavar="WORDS", help="Only rows that contain this, such as open-class; repeat."
)
@click.option(
    "--seed", "seeds", multiple=True, type=click.IntRange(0), help="By default those of the settings; repeat."
)
@click.option(
    "--set",
    "overrides",
    metavar="KEY=VALUE",
    multiple=True,
    help="Override a setting: optim.epochs=2, check.fraction=0.4.",
)
@click.option(
    "--workers", type=click.IntRange(1), help="Processes at the same time.  [default: one per core, at most 4]"
)
@click.option(
    "--models-from",
    type=PATH,
    multiple=True,
    metavar="FOLDER",
    help="Another study's --out: trainings that are the same are taken from there, not made anew; repeat.",
)
@click.option("--dry-run", is_flag=True, help="Check the settings and print every model and table; train nothing.")
@quiet_option
@json_option
def reproduce(
    study: str,
    data: str | None,
    out: Path | None,
    settings: str,
    tables: tuple[str, ...],
    rows: tuple[str, ...],
    seeds: tuple[int, ...],
    overrides: tuple[str, ...],
    workers: int | None,
    models_from: tuple[Path, ...],
    dry_run: bool,
    quiet: bool,
    json_to: str | None,
) -> None:
    """Carry out every comparison of a paper, or of our own study, on your images.

    STUDY is bct (Shen et al., CVPR 2020), unibct (Zhang et al., IJCAI 2022), or beyond: the default method against
    theirs. Each model is trained once and shared by all tables that need it, each comparison is checked on held-out
    classes or on a published benchmark, and OUT receives study.html, study.md and study.json: the paper's tables in
    the paper's layout, our numbers with intervals and marks beside the paper's own.

    Run the same command again after a kill or Ctrl-C and it carries on; a study that is finished is left as it is.

    \b
        samespace reproduce unibct --data images.npz --out runs/unibct
        samespace reproduce bct --settings imdb-face --dry-run
    """  # noqa: D301
    from samespace import studies

    declared = {"bct": studies.bct, "unibct": studies.unibct, "beyond": studies.beyond}[study]()
    chosen = studies.load_settings(settings, overrides)
    source = data or chosen.source
    if source is None:
        raise click.UsageError("these settings name no images: add --data IMAGES.")
    name = Path(settings).stem
    plan = studies.Plan(
        study=declared,
        settings=chosen,
        source=source,
        out=out or Path("runs") / f"{study}-{name}",
        seeds=tuple(dict.fromkeys(seeds)) or chosen.seeds,
        tables=tables,
        rows=rows,
    )
    if dry_run:
        studies.require_legal(plan)
        described = describe(plan, models_from)
        write_result(described, json_to)
        if json_to != "-":
            _print_plan(plan, described)
        return
    result = studies.reproduce(
        plan,
        workers=workers or studies.default_workers(),
        models_from=models_from,
        say=lambda line: click.echo(line, err=True),
        quiet=quiet,
    )
    write_result(result.results, json_to)
    if json_to != "-":
        _print_summary(result.results)
        click.echo(f"study: {result.page}")


def describe(plan: Plan, models_from: Sequence[Path] = ()) -> dict[str, Any]:
    """What a plan would train and compare, JSON-ready; every recipe and table is checked on the way."""
    from samespace.studies import from_each, takeable, trainings

    wanted, there = trainings(plan)
    models = []
    for model in plan.shown.needed():
        recipe = plan.recipe(model, plan.seeds[0]).resolved()
        models.append(
            {
                "name": model.name,
                "data": str(model.data),
                "method": model.method,
                "old": model.old,
                "backbone": recipe.model.backbone,
                "embedding_dim": recipe.model.embedding_dim,
                "head": recipe.head.margin,
                "epochs": recipe.optim.epochs,
            }
        )
    return {
        "study": plan.study.name,
        "source": plan.source,
        "seeds": list(plan.seeds),
        "models": models,
        "tables": {table.name: table.title for table in plan.shown.tables},
        "comparisons": len(plan.shown.pairs()),
        "trainings": wanted,
        "trainings_there": there,
        "trainings_to_take": {
            str(study): number for study, number in from_each(takeable(plan, models_from), models_from).items()
        },
        "metrics": plan.metrics(),
        "benchmark": plan.settings.check.benchmark,
    }


def _print_plan(plan: Plan, described: dict[str, Any]) -> None:
    from rich.console import Console

    from samespace.report.tables import Column, print_table
    from samespace.report.terminal import plain

    rows = [("model", "training data", "network", "head", "epochs", "method", "tied to")]
    for model in described["models"]:
        network = f"{model['backbone']}, {model['embedding_dim']}"
        method = "–" if model["method"] == "none" else model["method"]
        tied = model["old"] or "–"
        rows.append((model["name"], model["data"], network, model["head"], str(model["epochs"]), method, tied))
    click.echo(f"{plan.study.title}: {plan.settings.about}")
    long = ("model", "training data", "network", "tied to")
    columns = [Column(title, shortens=title in long) for title in rows[0]]
    print_table(columns, [[plain(cell) for cell in row] for row in rows[1:]], Console(file=sys.stdout))
    checked = described["benchmark"] or "held-out classes"
    compared = counted(described["comparisons"], "comparison")
    click.echo(
        f"{counted(len(described['models']), 'model')} and {compared} on {checked}, "
        f"{counted(len(plan.seeds), 'seed')}; images: {plan.source}"
    )
    known = [f"{described['trainings_there']} are there"] * bool(described["trainings_there"])
    known += [f"{number} can be taken from {study}" for study, number in described["trainings_to_take"].items()]
    of_which = f", of which {' and '.join(known)}" if known else ""
    click.echo(f"{counted(described['trainings'], 'training')} in all{of_which}: {plan.out}")
    click.echo(f"tables: {', '.join(described['tables'])}; metrics: {', '.join(described['metrics'])}")
    click.echo("nothing was trained: this was a dry run")


def _print_summary(results: dict[str, Any]) -> None:
    from rich.console import Console

    from samespace.report.tables import Column, print_table
    from samespace.report.terminal import plain
    from samespace.studies.page import summary

    names = [Column("table"), Column("comparison", shortens=True), Column("metric", shortens=True)]
    columns = [*names, Column("cross", "right"), Column("gain", "right"), Column("")]
    print_table(columns, [[plain(cell) for cell in row] for row in summary(results)], Console(file=sys.stdout), gap=1)
