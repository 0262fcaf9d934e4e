"""`make bench`: measure every figure and judge it.

python -m benchmarks --list
python -m benchmarks --only submit_256 --only lifecycle --rounds 3
python -m benchmarks --quick
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.judging.verdicts import Verdict
from benchmarks.registry import chosen
from benchmarks.rounds import Taken, take
from benchmarks.stage import Effort
from benchmarks.table import listing, table

EXIT_BELOW = 1
EXIT_USAGE = 2


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--list", action="store_true", help="tell what there is and stop")
    parser.add_argument(
        "--only",
        metavar="NAME",
        action="append",
        default=[],
        help="a measurement or a row of one",
    )
    parser.add_argument("--rounds", type=int, default=5, help="medians are over so many")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each load")
    parser.add_argument("--quick", action="store_true", help="a smoke run: one short round")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the JSON lines go here as well")
    return parser.parse_args()


def main() -> int:
    """Return 0, or 1 if a figure is below its floor or was not measured."""
    given = _arguments()
    try:
        measurements = chosen(given.only)
    except KeyError as unknown:
        print(f"error: there is no {unknown.args[0]}; --list tells all names", file=sys.stderr)
        return EXIT_USAGE
    if given.list:
        print(listing([Taken(one) for one in measurements]))
        return 0
    effort = Effort(seconds=given.seconds)
    if given.quick:
        effort = Effort(seconds=min(given.seconds, 1.0), warm_s=0.5, quick=True)
    taken = take(measurements, rounds=1 if given.quick else given.rounds, effort=effort)
    lines = [one.line(row, effort=effort) for one in taken for row in one.measurement.rows]
    print("\n".join(lines))
    print()
    print(table(taken, effort=effort))
    if given.json is not None:
        given.json.write_text("\n".join(lines) + "\n", encoding="utf-8")
    verdicts = {one.verdict(row, effort=effort) for one in taken for row in one.measurement.rows}
    return EXIT_BELOW if verdicts & {Verdict.BELOW, Verdict.NOT_MEASURED} else 0


if __name__ == "__main__":
    sys.exit(main())
