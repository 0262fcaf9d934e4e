"""The entry point of ``tq-node``: what is asked often is answered without the rest."""

from __future__ import annotations

import sys

from node import healthcheck


def main() -> None:
    """Run the command line."""
    code = healthcheck.run(sys.argv[1:])
    if code is not None:
        sys.exit(code)
    # Imported late: it takes much longer than a health check.
    from node import cli  # noqa: PLC0415

    cli.main()
