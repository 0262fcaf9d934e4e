"""Show a generated history and its verdicts: `python -m tests.unit.chaos.replay SEED`."""

from __future__ import annotations

import sys

from chaos.check import judge, table
from tests.unit.chaos.test_generated import small

if __name__ == "__main__":
    EVIDENCE = small(int(sys.argv[1]))
    sys.stdout.write("\n".join(map(EVIDENCE.describe, EVIDENCE.history)) + "\n")
    sys.stdout.write(table(judge(EVIDENCE)) + "\n")
