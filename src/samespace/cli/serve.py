"""`samespace serve`: galleries over HTTP, and the keys that open them."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import click

from samespace.cli.output import NEW_FILE, PATH, device_option, json_option, say, write_result
from samespace.errors import InputError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_HOSTS = (*_LOOPBACK, "[::1]")


class _Serve(click.Group):
    """A command of its own whose first argument may be `key`, a command below it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] in self.commands:
            ctx.invoked_subcommand, ctx.args = args[0], args[1:]
            return ctx.args
        return click.Command.parse_args(self, ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        if ctx.invoked_subcommand is None:
            return click.Command.invoke(self, ctx)
        with self.commands[ctx.invoked_subcommand].make_context(ctx.invoked_subcommand, ctx.args, ctx) as below:
            return below.command.invoke(below)


class _Galleries(click.Argument):
    """Left out of the usage of the commands below."""

    def get_usage_pieces(self, ctx: click.Context) -> list[str]:
        return super().get_usage_pieces(ctx) if isinstance(ctx.command, _Serve) else []


@click.group(
    cls=_Serve, subcommand_metavar="", no_args_is_help=False, context_settings={"allow_interspersed_args": True}
)
@click.argument("locations", cls=_Galleries, metavar="GALLERY...", nargs=-1, required=True)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes a free one.")
@click.option("--keys", type=PATH, metavar="FILE", help="Keys that requests need; made by 'samespace serve key add'.")
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="NAME=PLACE",
    help="A model that requests may name, and whose space they may search by image or text; repeat. PLACE is a "
    "folder or an encoder's name, as 'samespace embed' takes. The galleries' remembered models are at hand anyway.",
)
@click.option("--tls-certificate", type=PATH, metavar="FILE", help="Answer over HTTPS: the certificate, PEM.")
@click.option("--tls-key", type=PATH, metavar="FILE", help="Its private key, PEM.")
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    default=1,
    show_default=True,
    help="Processes that answer, for more cores than searches in one can use; the limits below hold in each.",
)
@click.option("--threads", type=click.IntRange(1), default=8, show_default=True, help="Requests worked on at once.")
@click.option(
    "--waiting", type=click.IntRange(1), default=64, show_default=True, help="Requests that wait; others get 429."
)
@click.option("--deadline", type=float, default=60.0, show_default=True, help="Seconds for one request.")
@click.option("--max-body", type=click.IntRange(1), default=64, show_default=True, help="MiB of one request.")
@click.option("--max-k", type=click.IntRange(1), default=1000, show_default=True, help="Hits for each query.")
@click.option("--max-batch", type=click.IntRange(1), default=256, show_default=True, help="Queries of one search.")
@device_option
def serve(
    locations: tuple[str, ...],
    host: str,
    port: int,
    keys: Path | None,
    models: tuple[str, ...],
    tls_certificate: Path | None,
    tls_key: Path | None,
    max_body: int,
    max_k: int,
    max_batch: int,
    workers: int,
    device: str,
    **limits: Any,
) -> None:
    """Serve galleries over HTTP: search, add, upgrade, backfill, roll back.

    GALLERY is a folder or postgresql://…?schema=NAME, served under the folder's name; NAME=GALLERY gives it another.
    The address itself is a page for people: versions, certificates, upgrade day, search. /docs describes every request,
    /metrics is for Prometheus, /readyz says when models and vectors are in memory.
    Without --keys everybody may do everything, so it listens at this machine's own address only. The log goes to
    standard error, a JSON object a line. SIGTERM or Ctrl-C finishes what is under way and ends with status 0.

    \b
    A key for programs that search:   samespace serve key add keys.json shop
    Serve two galleries with keys:    samespace serve shop=live faces --keys keys.json --host 0.0.0.0
    """  # noqa: D301
    if keys is None and host not in _LOOPBACK:
        raise click.UsageError(f"Without --keys only this machine may ask: --host is one of {', '.join(_LOOPBACK)}.")
    if (tls_certificate is None) != (tls_key is None):
        raise click.UsageError("--tls-certificate and --tls-key go together.")
    named = _named(models)
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise InputError(f"the service needs {error.name}: pip install 'samespace[serve]'") from None
    from samespace.serve.app import listen, require_tls
    from samespace.serve.limits import Limits
    from samespace.serve.workers import Serving
    from samespace.serve.workers import serve as answer

    tls = None
    if tls_certificate is not None and tls_key is not None:
        require_tls(tls_certificate, tls_key)
        tls = tls_certificate, tls_key
    chosen = Limits(body=max_body * 2**20, k=max_k, batch=max_batch, **limits)
    serving = Serving(_places(locations), named, device, keys, chosen, _HOSTS if keys is None else None, tls)
    with listen(host, port) as listening:
        at = f"[{host}]" if ":" in host else host
        address = f"{'https' if tls else 'http'}://{at}:{listening.getsockname()[1]}"

        def say_where() -> None:
            click.echo(f"serving {', '.join(serving.galleries)} at {address} (described at {address}/docs)", err=True)
            if keys is None:
                click.echo("without --keys everybody on this machine may do everything", err=True)

        try:
            answer(serving, listening, say_where, workers=workers)
        except KeyboardInterrupt:
            # what was under way is finished
            return


@serve.group()
def key() -> None:
    """Keys of the service: a file of their hashes, which a running service reads again when it changes."""


@key.command("add")
@click.argument("file", type=NEW_FILE)
@click.argument("name")
@click.option(
    "--scope",
    type=click.Choice(["read", "write", "admin"]),
    default="read",
    show_default=True,
    help="read searches and looks; write also adds and removes items; admin also upgrades, backfills, rolls back.",
)
@click.option("--days", type=float, metavar="N", help="After which it is refused.  [default: never]")
def add(file: Path, name: str, scope: Any, days: float | None) -> None:
    """Make a key called NAME and print it, this one time; FILE keeps its hash."""
    from samespace.serve.keys import add_key

    click.echo(add_key(file, name, scope, days=days))
    click.echo(f"{file} has its hash only; the key itself is not shown again", err=True)


@key.command("list")
@click.argument("file", type=PATH)
@json_option
def list_keys(file: Path, json_to: str | None) -> None:
    """List the keys of FILE: name, id, scope, end."""
    from samespace.serve.keys import load_keys

    keys = load_keys(file)
    rows = [
        {"name": one.name, "id": one.id, "scope": one.scope, "created": one.created, "expires": one.expires}
        for one in keys
    ]
    if write_result({"keys": rows}, json_to):
        for one in keys:
            end = "never expires" if one.expires is None else f"expires {_day(one.expires)}"
            say(f"{one.name}  {one.id}  {one.scope}  made {_day(one.created)}, {end}")
        if not keys:
            say("no keys")


@key.command()
@click.argument("file", type=PATH)
@click.argument("name")
def revoke(file: Path, name: str) -> None:
    """Take the key called NAME, or with this id, out of FILE; it is refused from the next request on."""
    from samespace.serve.keys import revoke_key

    gone = revoke_key(file, name)
    say(f"revoked: {gone.name} ({gone.scope})")


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def _named(models: tuple[str, ...]) -> dict[str, str]:
    """The models of --model by name."""
    named: dict[str, str] = {}
    for text in models:
        name, equals, place = text.partition("=")
        if not equals or not place or not _NAME.fullmatch(name):
            raise click.UsageError(f"--model {text}: write NAME=PLACE, such as v2=runs/v2.")
        if name in named:
            raise click.UsageError(f"--model names '{name}' twice.")
        named[name] = place
    return named


def _places(locations: tuple[str, ...]) -> dict[str, str]:
    """Where galleries lie, by the names that addresses give them."""
    places: dict[str, str] = {}
    for text in locations:
        name, equals, place = text.partition("=")
        if not equals or not _NAME.fullmatch(name) or Path(text).exists():
            if "://" in text:
                raise click.UsageError("A gallery that is no folder needs a name: NAME=postgresql://….")
            name, place = Path(text).resolve().name, text
        if not _NAME.fullmatch(name):
            raise click.UsageError(f"'{name}' is no name for an address; give it one: NAME={text}.")
        if name in places:
            raise click.UsageError(f"Two galleries are called '{name}'; give one another name: NAME={text}.")
        places[name] = place
    return places
