"""`tq-node` with a bug: `python -m tests.chaos_teeth.planted_node BUG`, then a node's own flags."""

from __future__ import annotations

import sys

from node.entry import main
from tests.chaos_teeth.plants import PLANTS

if __name__ == "__main__":
    PLANTS[sys.argv.pop(1)].plant()
    main()
