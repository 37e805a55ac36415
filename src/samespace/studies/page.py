"""The tables of a study for people: as Markdown, and as one page with figures before the numbers."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from samespace.evaluate.certificate import Certificate
from samespace.files import write_json, write_text
from samespace.progress import clock
from samespace.report.figures import comparison_plot, plots
from samespace.report.page import inline, render
from samespace.report.wording import ABSENT, MARKS, interval, percent, signed
from samespace.studies.study import proven

_LEGEND = (
    "Values in percent, means over the seeds. In brackets the interval of the mean gain over the old model in points, "
    "beside self tests that over the paragon: how far the choice of the check's identities moves it, given these "
    "trainings. ✓: the interval of cross − old lies above zero; ✗: cross is above old on no seed; ?: neither, with the "
    "number of seeds whose own certificate proves it."
)


def write_study(study: Mapping[str, Any], folder: Path, pictures: Mapping[str, Mapping[str, Certificate]]) -> bool:
    """Write `study.json`, `study.md` and `study.html` of `studies.results.results`, with the pictures it gives.

    Returns:
        Whether anything was written; a page that would not change is left alone.
    """
    pages = {"study.md": markdown(study), "study.html": _page(study, pictures)}
    kept = [(folder / name).is_file() and (folder / name).read_text("utf-8") == text for name, text in pages.items()]
    if all(kept) and (folder / "study.json").is_file():
        return False
    write_json(folder / "study.json", dict(study))
    for name, text in pages.items():
        write_text(folder / name, text)
    return True


def markdown(study: Mapping[str, Any]) -> str:
    """The tables of a study as Markdown."""
    lines = [f"# {study['title']}", "", *_introduction(study), ""]
    for part in study["tables"]:
        lines += [f"## Table {part['name']}. {part['title']}", ""]
        header = [*part["headers"], *(_header(column) for column in part["columns"])]
        lines += [_line(header), _line(["---"] * len(part["headers"]) + ["---:"] * len(part["columns"]))]
        for labels, cells in _rows(part, study):
            shown = [ours if paper is None else f"{ours}<br>*paper {paper}*" for ours, paper in cells]
            lines.append(_line([*labels, *shown]))
        lines += ["", *([part["note"], ""] if part["note"] else [])]
    if (curve := _curve(study)) is not None:
        lines += ["## Figure 3. Partial backfill", "", *(_line(row) for row in curve), ""]
    lines += ["## Models", "", _line(_MODEL_HEADER), _line(["---"] * len(_MODEL_HEADER))]
    lines += [_line(row) for row in _model_rows(study)]
    lines += ["", *(f"- {note}" for note in study["notes"]), ""]
    return "\n".join(lines)


def summary(study: Mapping[str, Any]) -> list[list[str]]:
    """Rows for a terminal: table, comparison, metric, cross, gain, interval and mark of every cross test."""
    rows = []
    for part in study["tables"]:
        for row in part["rows"]:
            for column, cell in zip(part["columns"], row["cells"], strict=True):
                if column["quantity"] != "value" or cell["test"] != "cross" or cell["mean"] is None:
                    continue
                label = row_name(row["labels"], row["short"])
                gain = interval(cell["difference"], 1, sign=True)
                rows.append([part["name"], label, column["measured"], percent(cell["mean"]), gain, mark(cell, study)])
    return rows


def row_name(labels: Sequence[str], short: str) -> str:
    """What a figure or a line of text calls a row of a table."""
    return short or " · ".join(text for text in labels if text != ABSENT)


def mark(cell: Mapping[str, Any], study: Mapping[str, Any]) -> str:
    """The verdict on a cross test over the seeds; empty where there is none."""
    if cell["compatible"] is None:
        return ""
    seeds, compatible = len(study["seeds"]), cell["compatible"]
    if proven(compatible, seeds, cell["difference"]):
        return MARKS["compatible"]
    if cell["criterion"] == 0:
        return MARKS["fails"]
    return f"{MARKS['unproven']} {compatible}/{seeds}" if seeds > 1 else MARKS["unproven"]


def _introduction(study: Mapping[str, Any]) -> list[str]:
    data = study["data"][0]
    counts = ", ".join(f"{data[key]:,} {key}" for key in ("queries", "gallery", "identities") if key in data)
    seeds = ", ".join(str(seed) for seed in study["seeds"])
    checked = f" Checked on {counts} (seed {study['seeds'][0]})." if counts else ""
    published = (
        f"*Paper* is the paper's own figure, measured on **other data**: {study['published_on']}. Only the ordering "
        "can be compared with ours, not the level."
    )
    return [
        f"{study['about']} Images: `{Path(study['source']).name}`; seeds {seeds}.{checked}",
        "",
        *([published, ""] if study["published_on"] else []),
        _LEGEND,
    ]


def _header(column: Mapping[str, Any]) -> str:
    name = f"{column['group']}: {column['header']}" if column["group"] else column["header"]
    measured = column["measured"]
    if measured is None:
        return f"{name} (not measured)"
    if column["quantity"] != "value" or measured == column["header"]:
        return name
    if measured.startswith(column["header"]):
        return f"{column['group']}: {measured}" if column["group"] else str(measured)
    return f"{name}, {measured}"


def _rows(part: Mapping[str, Any], study: Mapping[str, Any]) -> list[tuple[list[str], list[tuple[str, str | None]]]]:
    """The labels of each row, and its cells: our value and the paper's."""
    # where a table has columns for the mark, as the paper's, its values need none
    marked = all(column["quantity"] != "compatible" for column in part["columns"])
    rows = []
    for row in part["rows"]:
        cells = [
            (_ours(cell, column, study, marked), _published(cell["published"]))
            for column, cell in zip(part["columns"], row["cells"], strict=True)
        ]
        rows.append((row["labels"], cells))
    return rows


def _ours(cell: Mapping[str, Any], column: Mapping[str, Any], study: Mapping[str, Any], marked: bool) -> str:
    if cell["mean"] is None:
        defined = sum(value is not None for value in cell["seeds"] or ())
        return f"{ABSENT} {defined}/{len(cell['seeds'])}" if defined else ABSENT
    if column["quantity"] == "compatible":
        return mark(cell, study)
    if column["quantity"] == "update_gain":
        return percent(cell["mean"], 1)
    if column["quantity"] == "absolute_gain":
        bounds = f" [{interval(cell['difference'], 1, sign=True)}]" if cell["difference"] else ""
        return signed(cell["mean"]) + bounds
    if cell.get("lead") is not None:
        return f"{percent(cell['mean'])} [{interval(cell['lead'], 1, sign=True)}]"
    if cell["difference"] is None or (column["test"] is None and not marked):
        return percent(cell["mean"])
    return f"{percent(cell['mean'])} {mark(cell, study)} [{interval(cell['difference'], 1, sign=True)}]"


def _published(figure_: float | bool | None) -> str | None:
    if figure_ is None:
        return None
    if isinstance(figure_, bool):
        return "✓" if figure_ else "✗"
    return f"{figure_:.2f}"


_MODEL_HEADER = ["Model", "Training data", "Images", "Classes", "Method", "Old model", "Changes", "Training time"]


def _model_rows(study: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for model in study["models"]:
        seconds = sum(model["seconds"]) / len(model["seconds"])
        rows.append(
            [
                model["name"],
                model["data"],
                f"{model['images'][0]:,}",
                f"{model['classes'][0]:,}",
                model["method"],
                model["old"] or ABSENT,
                ", ".join(model["variants"]) or ABSENT,
                clock(seconds),
            ]
        )
    total = sum(sum(model["seconds"]) for model in study["models"])
    rows.append(["all, over the seeds", *[ABSENT] * 6, clock(total)])
    return rows


def _curve(study: Mapping[str, Any]) -> list[list[str]] | None:
    curve = (study["figure"] or {}).get("backfill")
    if not curve:
        return None
    header = ["Gallery re-embedded", *curve["metrics"]]
    shown = [point for index, point in enumerate(curve["points"]) if index % max(1, len(curve["points"]) // 10) == 0]
    body = [
        [f"{point['share']:.0%}".replace("%", " %"), *(percent(point["values"][name]) for name in curve["metrics"])]
        for point in shown
    ]
    return [header, ["---:"] * len(header), *body]


def _page(study: Mapping[str, Any], pictures: Mapping[str, Mapping[str, Certificate]]) -> str:
    figure = study["figure"]
    drawn = {} if figure is None else plots(Certificate.from_dict(figure, "study"))
    return render(
        "study.html",
        title=study["title"],
        introduction=[_plain(line) for line in _introduction(study) if line],
        tables=[_part(part, study, pictures) for part in study["tables"]],
        figures={name: inline(svg) for name, svg in drawn.items()},
        model_header=_MODEL_HEADER,
        models=_model_rows(study),
        notes=study["notes"],
        footer="samespace",
    )


def _part(
    part: Mapping[str, Any], study: Mapping[str, Any], pictures: Mapping[str, Mapping[str, Certificate]]
) -> dict[str, Any]:
    """A table with its figure, as the page shows it."""
    drawn = comparison_plot(pictures.get(part["name"], {}))
    return {
        "name": part["name"],
        "title": part["title"],
        "note": part["note"],
        "figure": None if drawn is None else inline(drawn),
        "header": [*part["headers"], *(_header(column) for column in part["columns"])],
        "rows": _rows(part, study),
    }


def _plain(text: str) -> str:
    return html.unescape(text.replace("`", "").replace("**", "").replace("*", ""))


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
