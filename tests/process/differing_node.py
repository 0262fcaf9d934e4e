"""`tq-node` whose memory is not to be trusted: a counter of its state runs ahead on its own."""

from __future__ import annotations

from itertools import count

import statemachine.machine
from statemachine.restoring import encode_machine
from statemachine.state import State
from tests.process.guarded_node import forbid_unpickling

_drift = count(1)


def _encode_otherwise(state: State) -> bytes:
    state.counters.submitted += next(_drift)
    return encode_machine(state)


if __name__ == "__main__":
    forbid_unpickling()
    vars(statemachine.machine)["encode_machine"] = _encode_otherwise
    from node.cli import main

    main()
