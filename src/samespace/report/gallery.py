"""A gallery in the terminal: answers, plans, status, findings; readable at 80 columns and in a pipe."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from samespace.errors import counted
from samespace.names import as_argument
from samespace.progress import clock
from samespace.report.tables import Column, print_table
from samespace.report.terminal import plain
from samespace.scoring.score import SCORE_NAMES

if TYPE_CHECKING:
    from samespace.gallery import Answer, Backfilled, BehindSwitch, Diagnosis, Plan, Status, Switched
    from samespace.gallery.status import AdoptedStatus

_NAMED = 10
_BAR = 30
_RAW = {"cosine": "cosine", "ip": "product", "l2": "-distance²"}
_MARKS = {"ok": "ok", "note": "note", "error": "ERROR"}
_STYLES = {"ok": "green", "note": "yellow", "error": "bold red"}


def answer_values(answer: Answer, ids: Sequence[str]) -> dict[str, Any]:
    """An answer as JSON-ready values, its hits under the ids of the queries."""
    value = asdict(answer)
    value["queries"] = [
        {"query": name, "hits": [asdict(hit) for hit in hits]} for name, hits in zip(ids, answer.hits, strict=True)
    ]
    del value["hits"]
    return value


def print_answer(answer: Answer, ids: Sequence[str], console: Console, *, shown: int = 5) -> None:
    """Print what the first `shown` queries found."""
    unit = "log-odds" if answer.scale == "logistic" else "-log10 FMR"
    columns = (
        Column("query", shortens=True),
        Column("rank", "right"),
        Column("item", shortens=True),
        Column(unit, "right"),
        Column(_RAW[answer.score], "right"),
        Column("space"),
    )
    rows = []
    for name, hits in list(zip(ids, answer.hits, strict=True))[:shown]:
        if not hits:
            rows.append(_row(name, "-", "nothing found", "", "", ""))
        for rank, hit in enumerate(hits, start=1):
            score = "-" if hit.score is None else f"{hit.score:.2f}"
            rows.append(_row(name if rank == 1 else "", str(rank), hit.item, score, f"{hit.raw:.4f}", hit.space))
    print_table(columns, rows, console)
    if len(ids) > shown:
        _say(console, f"{counted(len(ids) - shown, 'more query', 'more queries')}; --json FILE has all")
    for note in answer.notes:
        _say(console, f"note: {note}")


def print_plan(plan: Plan, console: Console, location: str, *, accept: bool = False) -> None:
    """Print what an upgrade would take and bring, and what is missing; `accept`: without a certificate, too."""
    time_needed = "unknown: give --model and images to measure it"
    if plan.seconds is not None and plan.rate is not None:
        time_needed = f"{clock(plan.seconds)} on one worker at {plan.rate:,.0f} images/s, measured here"
    facts = {
        "queries": f"{plan.old} -> {plan.new}",
        "to embed": f"{plan.to_embed:,} of {counted(plan.items, 'item')}",
        "time": time_needed,
        "new vectors": f"{plan.bytes / 2**20:,.1f} MiB",
        "order": plan.order,
    }
    _facts(facts, console)
    for line in plan.pairs:
        _say(console, f"allowed: {line}")
    if plan.curve:
        console.print()
        area = plan.areas.get(plan.order)
        told = "" if area is None else f"; area {area:.2f}, where a straight line has 0.50"
        _say(console, f"expected {plan.metric} in %, from the check set, order {plan.order}{told}")
        _chart(plan.curve, console)
    if len(plan.areas) > 1:
        parts = ", ".join(f"{name} {value:.2f}" for name, value in plan.areas.items())
        _say(console, f"areas of the orders that the check tried: {parts}")
    if plan.holds is False:
        _say(console, "note: some stage of the backfill lies provably below its start")
    console.print()
    for line in plan.missing:
        _say(console, f"missing: {line}")
    if not plan.missing:
        options = " --accept-uncertified" if accept else " --behind" if plan.behind else ""
        _say(console, f"nothing is missing; next: samespace gallery upgrade {as_argument(location)}{options}")


def print_begun(plan: Plan, console: Console, after: str) -> None:
    """Print that a behind upgrade has begun, what it takes, and the line `after`."""
    _say(
        console,
        f"{plan.new} is filled behind {plan.old}, which queries use until the switch; the two are never compared",
    )
    need = "" if plan.seconds is None else f", about {clock(plan.seconds)} on one worker like this machine"
    _say(
        console,
        f"to embed: {plan.to_embed:,} of {counted(plan.items, 'item')}{need}, {plan.bytes / 2**20:,.1f} MiB of vectors",
    )
    _say(console, after)


def print_behind_switch(switched: BehindSwitch, console: Console, location: str, shown: int = 10) -> None:
    """Print what the switch of a behind upgrade did."""
    _say(console, f"quality: {switched.quality.sentence()}")
    _say(
        console,
        f"queries use {switched.query} now, no longer {switched.before}; searches find "
        f"{counted(switched.items, 'item')}",
    )
    if switched.dropped:
        named = ", ".join(switched.dropped[:shown]) + (", ..." if len(switched.dropped) > shown else "")
        _say(console, f"dropped for want of a new vector: {counted(len(switched.dropped), 'item')}, {named}")
    for line in switched.notes:
        _say(console, f"note: {line}")
    place = as_argument(location)
    _say(console, f"back: samespace gallery rollback {place}, until samespace gallery seal {place}")


def print_switched(switched: Switched, console: Console, after: str) -> None:
    """Print what an upgrade or a rollback changed."""
    if switched.query == switched.before:
        _say(console, f"queries use {switched.query} as before")
    else:
        _say(console, f"queries use {switched.query} now, no longer {switched.before}; nothing was re-embedded")
    for line in switched.pairs:
        _say(console, f"allowed: {line}")
    for line in switched.notes:
        _say(console, f"note: {line}")
    _say(console, after)


def print_backfilled(done: Backfilled, console: Console, location: str) -> None:
    """Print what a run of a backfill did."""
    _say(
        console,
        f"{counted(done.stored, 'item')} embedded in {clock(done.seconds)} ({done.rate:,.0f}/s), {done.left:,} left",
    )
    _say(console, f"ended: {done.ended}")
    if done.changed:
        what = counted(done.changed, "item changed meanwhile and stays", "items changed meanwhile and stay")
        _say(console, f"note: {what} on the list")
    if done.failed:
        _say(console, f"could not be embedded: {len(done.failed):,}")
        for name, reason in list(done.failed.items())[:_NAMED]:
            _say(console, f"  {name}: {reason}")
        if len(done.failed) > _NAMED:
            _say(console, f"  and {len(done.failed) - _NAMED:,} more; --json - names all")
        again = f"samespace gallery backfill {as_argument(location)} --retry"
        _say(console, f"they keep their old vector; mended, '{again}'")
    if done.quality is not None:
        _say(console, f"quality of the new side: {done.quality.sentence()}")


def print_status(status: Status, console: Console) -> None:
    """Print how a gallery stands."""
    score = next(one.score for one in status.spaces if one.role == "queries")
    how = "" if score == "cosine" else f", searched by {SCORE_NAMES[score]}"
    _say(console, f"{status.location}: {counted(status.items, 'item')}, {status.bytes / 2**20:,.1f} MiB{how}")
    _phase(status, console)
    _print_spaces(status, console)
    if status.adopted is not None:
        _print_adopted(status.adopted, status.location, console)
    for worker in status.workers:
        _say(console, f"worker {worker.owner}: {worker.done:,} embedded, {worker.failed:,} not, {worker.note}")
    for one in status.spaces:
        if one.queries is not None:
            ago = f", the last {clock(time.time() - one.queries.seen)} ago" if one.queries.queries else ""
            _say(console, f"queries of {one.space}, answered until the seal: {one.queries.queries:,}{ago}")
    if status.quality is not None and status.phase != "sealed":
        _say(console, f"quality of the new side: {status.quality.sentence()}")
    if status.dropped:
        _say(
            console,
            f"note: {counted(status.dropped, 'item was', 'items were')} dropped at the switch; the seal removes them",
        )
    if status.only_new:
        _say(
            console,
            f"note: {counted(status.only_new, 'item has', 'items have')} only a new vector; a rollback would hide them",
        )
    if status.audit:
        last = status.audit[0]
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(float(last["at"])))
        # earlier versions noted no user of a creation
        who = "" if last["actor"] == last["action"] else f" by {last['actor']}"
        _say(console, f"last: {last['action']}{who}, {when}")


def _print_adopted(adopted: AdoptedStatus, location: str, console: Console) -> None:
    looked = "never" if adopted.looked is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(adopted.looked))
    differs = f"{adopted.added:,} added, {adopted.changed:,} changed, {adopted.gone:,} gone"
    _say(console, f"items are the rows of {adopted.table}, last listed {looked}; since then {differs}")
    if adopted.added or adopted.changed or adopted.gone:
        _say(console, f"searches know already; 'samespace gallery sync {as_argument(location)}' lists them")


def print_diagnosis(diagnosis: Diagnosis, console: Console) -> None:
    """Print what the doctor found, and for each finding what to do."""
    for finding in diagnosis.findings:
        mark = plain(f"{_MARKS[finding.level]:<6}")
        mark.stylize(_STYLES[finding.level])
        console.print(mark, plain(finding.what), sep="", soft_wrap=True)
        if finding.do:
            _say(console, f"      -> {finding.do}")
    wrong = sum(finding.level == "error" for finding in diagnosis.findings)
    _say(console, "nothing is wrong" if diagnosis.healthy else counted(wrong, "thing is wrong", "things are wrong"))


def _say(console: Console, line: str) -> None:
    """A sentence, left whole for whoever reads a pipe or copies a command."""
    console.print(plain(line), soft_wrap=True)


def _print_spaces(status: Status, console: Console) -> None:
    columns = (
        Column("space", shortens=True),
        Column("role"),
        Column("vectors", "right"),
        Column("served", "right"),
        Column("indexed", "right"),
        Column("allowed by"),
        Column("calibrated"),
    )
    rows = []
    for one in status.spaces:
        serves = one.role in ("queries", "serving")
        rows.append(
            [
                *_row(f"{one.space.id} {one.space.name or ''}".strip(), one.role, f"{one.vectors:,}"),
                *_row(f"{one.served:,}" if serves else "-", f"{one.indexed:,}" if serves else "-"),
                Text(one.allowed.replace(" without ", " without\n") or "-"),
                *_row(("yes" if one.calibrated else "no") if serves else "-"),
            ]
        )
    print_table(columns, rows, console)


def _phase(status: Status, console: Console) -> None:
    if status.upgrade is None:
        _say(console, "no upgrade is under way")
        return
    line = f"upgrade {status.upgrade.number}: {status.phase}"
    if status.phase in ("upgraded", "backfilling", "paused", "complete", "sealing", "filling", "filled"):
        line += f", {_percent(status.backfilled)} % of the items have a new vector"
    _say(console, line)
    if status.upgrade.state in ("open", "filling") and status.phase not in ("complete", "filled"):
        rate = "no worker is running" if status.rate is None else f"{status.rate:,.0f} items/s"
        left = "" if status.seconds_left is None else f", {clock(status.seconds_left)} left"
        failed = f", {status.work.failed:,} could not be embedded" if status.work.failed else ""
        _say(console, f"backfill in order '{status.upgrade.order}': {rate}{left}{failed}")


def _percent(share: float) -> str:
    """Rounded down, so that only what is complete is 100."""
    return f"{int(1000 * share) / 10:g}"


def _chart(curve: Sequence[Mapping[str, float]], console: Console) -> None:
    values = [point["value"] for point in curve]
    low, high = min(values), max(values)
    for point, value in zip(curve, values, strict=True):
        length = round(_BAR * (value - low) / (high - low)) if high > low else 0
        _say(console, f"  {100 * point['share']:>4.0f} % re-embedded  {100 * value:6.2f}  {'#' * (1 + length)}")


def _facts(facts: Mapping[str, str], console: Console) -> None:
    wide = max(map(len, facts))
    for name, value in facts.items():
        _say(console, f"{name:<{wide}}  {value}")


def _row(*cells: str) -> list[Text]:
    return [plain(cell) for cell in cells]
