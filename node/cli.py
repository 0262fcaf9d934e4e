"""``tq-node``: runs a node; checks and shows its configuration.

Exit codes: 0 done, 1 the node failed while it ran, 2 the command line or the configuration
is wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import sys
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import yaml
from structlog.typing import FilteringBoundLogger

from node import healthcheck, logs
from node.addresses import Address
from node.certificates import certificates
from node.config import KEYS, LOG_LEVELS, Config
from node.config_load import ENV_CONFIG, ConfigError, Flag, Key, Loaded, load
from node.config_values import PortTlsFiles, TlsFiles
from node.token_commands import tokens
from node.version import version

_FILES_BESIDES_CLIENTS = 512


@dataclass(frozen=True, slots=True)
class _Invocation:
    """What the options of the bare command said; subcommands share it."""

    path: Path | None
    flags: dict[Key, Flag]
    listeners: dict[str, Flag]

    def load(self, path: Path | None = None) -> Loaded:
        return load(
            path or self.path,
            environment=os.environ,
            flags=self.flags,
            listeners=self.listeners,
        )


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option("--id", "node_id", metavar="N", help="This node's number among the peers.")
@click.option(
    "--peers",
    metavar="LIST",
    help="Raft address of every node, this one included: 1=HOST:PORT,2=HOST:PORT,... "
    "Without it: a queue of a single node.",
)
@click.option(
    "--join",
    metavar="LIST",
    help="In place of --peers, for a node that comes into a running cluster: Raft addresses of "
    "some of its members and of this node. It waits until `tq-admin cluster add` names it.",
)
@click.option(
    "--config",
    "path",
    metavar="FILE",
    envvar=ENV_CONFIG,
    type=click.Path(path_type=Path),
    help="YAML configuration.",
    show_envvar=True,
)
@click.option(
    "--tls",
    metavar="FILES",
    help="Certificates for the connections between nodes: ca=FILE,certificate=FILE,key=FILE. "
    "Needed as soon as a node is on another host; 'tq-node certificates' makes them.",
)
@click.option(
    "--client-tls",
    metavar="FILES",
    help="Certificate that the client port and the HTTP port show: certificate=FILE,key=FILE. "
    "Needed, with --tokens, as soon as clients are on other hosts.",
)
@click.option(
    "--tokens", metavar="FILE", help="Who is let in; 'tq-node tokens new' writes such a file."
)
@click.option("--data", metavar="DIR", help="Directory of this node's data.")
@click.option("--listen", metavar="HOST:PORT", help="Where clients and workers connect.")
@click.option("--http", metavar="HOST:PORT", help="Where health, status and metrics are served.")
@click.option("--log-level", metavar="LEVEL", help=f"One of {', '.join(LOG_LEVELS)}.")
@click.option("--json-logs/--no-json-logs", default=None, help="One JSON object a line, or not.")
@click.pass_context
def cli(
    context: click.Context,
    *,
    node_id: str | None,
    peers: str | None,
    join: str | None,
    tls: str | None,
    client_tls: str | None,
    tokens: str | None,
    path: Path | None,
    data: str | None,
    listen: str | None,
    http: str | None,
    log_level: str | None,
    json_logs: bool | None,
) -> None:
    """Run one node of a tq cluster, or a whole single-node queue.

    Values come from defaults, then the file, then TQ_* variables, then these options.
    """
    given = (
        ("--id", ("raft", "node_id"), node_id),
        ("--peers", ("raft", "peers"), peers),
        ("--join", ("raft", "join"), join),
        ("--tls", ("raft", "tls"), tls),
        ("--client-tls", ("broker", "tls"), client_tls),
        ("--client-tls", ("api", "tls"), client_tls),
        ("--tokens", ("auth", "tokens_file"), tokens),
        ("--data", ("persistence", "data_dir"), data),
        ("--log-level", ("monitoring", "log_level"), log_level),
        (
            "--json-logs" if json_logs else "--no-json-logs",
            ("monitoring", "json_logs"),
            None if json_logs is None else str(json_logs).lower(),
        ),
    )
    flags = {key: Flag(name, value) for name, key, value in given if value is not None}
    addresses = {"broker": ("--listen", listen), "api": ("--http", http)}
    listeners = {
        section: Flag(name, value) for section, (name, value) in addresses.items() if value
    }
    context.obj = _Invocation(path, flags, listeners)
    if context.invoked_subcommand is None:
        context.exit(_run(context.obj))


@cli.group()
def config() -> None:
    """Check or show the configuration."""


@config.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.pass_obj
def check(invocation: _Invocation, file: Path | None) -> None:
    """Say everything that is wrong with the configuration."""
    loaded = invocation.load(file)
    for warning in loaded.warnings:
        click.echo(f"warning: {warning}", err=True)
    source = file or invocation.path
    click.echo(f"ok: {source}" if source else "ok: defaults, environment and flags (no file)")


@config.command()
@click.option("--origin", is_flag=True, help="Where each value comes from.")
@click.pass_obj
def show(invocation: _Invocation, *, origin: bool) -> None:
    """Print every value as it would be used, as YAML."""
    loaded = invocation.load()
    for line in shown(loaded, with_origin=origin):
        click.echo(line)


@cli.command("healthcheck")
@click.option(
    "--http",
    "where",
    metavar="HOST:PORT",
    help="Where the node serves HTTP, https://HOST:PORT if with TLS; as configured unless given.",
)
@click.option("--ready", is_flag=True, help="Ask /readyz, whether it is ready, not /livez.")
@click.pass_obj
def check_health(invocation: _Invocation, *, where: str | None, ready: bool) -> None:
    """Ask a running node whether it is alive, or ready: exit code 0 or 1."""
    if where:
        try:
            target = healthcheck.Target.parse(where)
        except ValueError as error:
            raise click.BadParameter(f"{error}, not {where!r}", param_hint="'--http'") from None
    else:
        config = invocation.load().config
        target = healthcheck.Target.of_listener(config.http_listen, tls=config.api.tls is not None)
    path = healthcheck.READY if ready else healthcheck.LIVE
    raise click.exceptions.Exit(healthcheck.report(target, path))


cli.add_command(certificates)
cli.add_command(tokens)


@cli.command("version")
def print_version() -> None:
    """Print the version."""
    click.echo(f"tq-node {version()}")


def main() -> None:
    """Run the command line; the entry point of ``tq-node``."""
    _fill_standard_streams()
    if not __debug__:
        click.echo(
            "tq-node: Python was started with -O or PYTHONOPTIMIZE, which removes the checks that "
            "stop a broken node; start it without",
            err=True,
        )
        sys.exit(2)
    try:
        code = cli.main(prog_name="tq-node", standalone_mode=False)
    except ConfigError as error:
        click.echo(str(error), err=True)
        count = len(error.problems)
        click.echo(f"tq-node: {count} problem{'s' if count != 1 else ''}, not started", err=True)
        code = 2
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = 130
    sys.exit(code if isinstance(code, int) else 0)


def shown(loaded: Loaded, *, with_origin: bool) -> list[str]:
    """The configuration as lines of YAML, each value with its origin as a comment."""
    lines: list[tuple[str, str]] = []
    for section, key in KEYS:
        if f"{section}:" not in (text for text, _ in lines):
            lines.append((f"{section}:", ""))
        value = getattr(getattr(loaded.config, section), key)
        origin = loaded.origins.get((section, key), "default")
        if (section, key) == ("persistence", "data_dir") and value is None:
            value, origin = loaded.config.data_dir, "default, from raft.node_id"
        if (section, key) == ("monitoring", "json_logs") and value is None:
            value = "auto"
        text = f"  # {key}: not set" if value is None else f"  {key}: {_yaml(value)}"
        lines.append((text, origin))
    if not with_origin:
        return [text for text, _ in lines]
    width = min(48, max(len(text) for text, _ in lines))
    return [f"{text:<{width}}  # {origin}" if origin else text for text, origin in lines]


def _run(invocation: _Invocation) -> int:
    loaded = invocation.load()
    settings = loaded.config
    logs.configure(level=settings.monitoring.log_level, json_logs=settings.monitoring.json_logs)
    log = logs.logger(node=settings.node_id)
    for warning in loaded.warnings:
        log.warning("config_warning", text=warning)
    _raise_open_files_limit(settings, log=log)
    log.info(
        "node_starting",
        peers=str(settings.raft_listen or "none (single node)"),
        clients=str(settings.client_listen),
        http=f"http://{settings.http_listen}",
        data=str(settings.data_dir),
        version=version(),
    )
    # Imported late: the other commands need neither the database nor the engine.
    from node.server import serve  # noqa: PLC0415

    try:
        return _until_done(serve(settings))
    except OSError as error:
        log.error("node_failed", text=str(error))  # noqa: TRY400 - a sentence, not a traceback
    except Exception:
        # A bug: its traceback belongs into the log like everything else.
        log.exception("node_crashed")
    return 1


def _until_done(running: Coroutine[Any, Any, int]) -> int:
    try:
        import uvloop  # noqa: PLC0415 - an optional extra
    except ImportError:
        return asyncio.run(running)
    return uvloop.run(running)


def _yaml(value: object) -> str:
    """One value as the file would hold it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_yaml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, TlsFiles | PortTlsFiles):
        return _yaml(value._asdict())
    if isinstance(value, tuple) and not isinstance(value, Address):
        return "[" + ", ".join(_yaml(inner) for inner in value) + "]"
    text = yaml.safe_dump(str(value), width=sys.maxsize, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")


def _raise_open_files_limit(settings: Config, *, log: FilteringBoundLogger) -> None:
    """Allow as many open files as connections may come; the usual soft limit is 1024."""
    needed = settings.broker.max_connections + _FILES_BESIDES_CLIENTS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    wanted = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    if wanted < needed:
        log.warning("open_files_limited", limit=wanted, needed=needed)


def _fill_standard_streams() -> None:
    """Open what the caller closed, or a data file would take number 0, 1 or 2."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
