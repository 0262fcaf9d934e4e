"""`tq-node` with every way to unpickle ending the process: what tests start instead of it.

PySyncObj falls back to `pickle._loads` when `pickle.loads` fails, so all eight
ways are blocked, not only the famous one.
"""

from __future__ import annotations

import os
import pickle
import sys
from typing import NoReturn

EXIT_CODE = 99


def _end(*_: object, **__: object) -> NoReturn:
    sys.stderr.write("unpickling was tried\n")
    sys.stderr.flush()
    os._exit(EXIT_CODE)


class _NoUnpickler:
    def __init__(self, *_: object, **__: object) -> None:
        _end()


def forbid_unpickling() -> None:
    """Make every loader of the standard library and of PySyncObj end this process.

    PySyncObj is imported first: at import it extends the real unpickler and copies
    functions into its modules, and those copies have to be replaced, too.
    """
    import pysyncobj.pickle  # noqa: PLC0415 - see above

    ends: dict[object, object] = {
        getattr(pickle, name): _end for name in ("loads", "load", "_loads", "_load")
    }
    ends |= {getattr(pickle, name): _NoUnpickler for name in ("Unpickler", "_Unpickler")}
    ends |= {getattr(pysyncobj.pickle, name): _end for name in ("loads", "load")}
    ours = [m for name, m in sys.modules.items() if name.split(".")[0] == "pysyncobj"]
    for module in (pickle, *ours):
        for name, value in list(vars(module).items()):
            if callable(value) and value in ends:
                setattr(module, name, ends[value])


if __name__ == "__main__":
    forbid_unpickling()
    from node.cli import main

    main()
