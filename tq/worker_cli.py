"""The command `tq-worker`: run the tasks of an app."""

from __future__ import annotations

import importlib
import logging
import sys
import traceback
from pathlib import Path
from typing import Final

import click

from tq.app import App
from tq.environment import read_token
from tq.errors import ConfigError, TqError
from tq.log_format import LogFormat, set_up_logs
from tq.worker import Worker

EXIT_ERROR: Final = 1

log = logging.getLogger("tq.worker")


@click.command(
    context_settings={"auto_envvar_prefix": "TQ", "help_option_names": ["-h", "--help"]},
    epilog="Every option can be given by the environment, e.g. TQ_SERVERS or TQ_CONCURRENCY.",
)
@click.argument("app", metavar="MODULE:APP")
@click.option("--servers", help="Addresses of the cluster: h1:7401,h2:7401. In place of the app's.")
@click.option(
    "--ca", metavar="FILE", help="Certificate of the cluster's authority, where it speaks TLS."
)
@click.option(
    "--token-file", metavar="FILE", help="Holds the token that proves who is asking; or TQ_TOKEN."
)
@click.option(
    "--concurrency",
    type=click.IntRange(1, 10_000),
    help="Most tasks at once. Unless given, what the cluster's configuration says.",
)
@click.option("--queues", default="default", help="Queues to claim from, separated by commas.")
@click.option(
    "--heartbeat",
    help="How often to say which leases are held. Unless given, what the cluster says.",
)
@click.option(
    "--shutdown-timeout",
    help="How long running tasks may finish after SIGTERM. Unless given, what the cluster says.",
)
@click.option("--name", envvar="TQ_WORKER_NAME", help="For people; host name and pid unless given.")
@click.option(
    "--app-dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path(),
    help="Where MODULE is looked for first.",
)
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    help="debug adds a line per completed task.",
)
def main(
    *,
    app: str,
    servers: str | None,
    ca: str | None,
    token_file: str | None,
    concurrency: int | None,
    queues: str,
    heartbeat: str | None,
    shutdown_timeout: str | None,
    name: str | None,
    app_dir: Path,
    log_format: LogFormat,
    log_level: str,
) -> None:
    """Run the tasks of an app, e.g. `tq-worker shop.tasks:app`.

    SIGTERM or SIGINT stops claiming and lets running tasks finish; a second one
    leaves at once. Whatever was not finished is given back to the cluster.
    """
    set_up_logs(log_format=log_format, level=log_level)
    loaded = load_app(app, app_dir)
    try:
        worker = Worker(
            loaded,
            servers=servers,
            ca=ca,
            token=read_token(token_file) if token_file else None,
            concurrency=concurrency,
            queues=[queue.strip() for queue in queues.split(",") if queue.strip()],
            heartbeat=heartbeat,
            shutdown_timeout=shutdown_timeout,
            name=name,
        )
        log.info("connecting", extra={"facts": {"app": app, "servers": servers or "of the app"}})
        worker.run()
    except ConfigError as error:
        raise click.UsageError(str(error)) from error
    except TqError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(EXIT_ERROR)


def load_app(path: str, directory: Path) -> App:
    """Import `module:attribute` and return the app it names.

    Args:
        path: The module's dotted name and the app's, with a colon between.
        directory: Searched before the installed packages.

    Raises:
        click.UsageError: There is no such module, it cannot be imported, or there is no
            such app in it. The traceback of what the module raised has been printed.
    """
    module_name, _, attribute = path.partition(":")
    if not module_name or not attribute:
        raise click.UsageError(f"{path!r}: write it like shop.tasks:app")
    sys.path.insert(0, str(directory.resolve()))
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise _broken(module_name, error) from error
        raise click.UsageError(f"no module {module_name!r} in {directory.resolve()}") from error
    except Exception as error:  # a module may raise anything
        raise _broken(module_name, error) from error
    app: object = module
    for part in attribute.split("."):
        app = getattr(app, part, None)
    if not isinstance(app, App):
        raise click.UsageError(f"{attribute!r} in module {module_name!r} is not a tq.App")
    return app


def _broken(module_name: str, error: Exception) -> click.UsageError:
    """Print where the module went wrong, and say last what that means."""
    traceback.print_exception(error)
    return click.UsageError(
        f"module {module_name!r} cannot be imported: {type(error).__name__}: {error}"
    )


if __name__ == "__main__":
    main()
