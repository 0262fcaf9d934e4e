"""``python -m node`` is ``tq-node``."""

from __future__ import annotations

from node.entry import main

if __name__ == "__main__":
    main()
