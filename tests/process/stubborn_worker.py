"""A worker that never looks at its lease: claims one task, waits for a line, sends its result."""

from __future__ import annotations

import sys

from tests.process.raw_client import (
    CLAIM_TASK,
    REGISTER_WORKER,
    TASK_RESULT,
    RawClient,
    new_task_id,
)


def main(address: str, queue: str) -> None:
    """Print `claimed TOKEN`, read a line, send the result, print the answer."""
    client = RawClient(address)
    session = client.request(REGISTER_WORKER, new_task_id(), "stubborn", [queue], {})[1][0]
    [grant] = client.request(CLAIM_TASK, session, [queue], 1, 20_000)[1][0]
    print("claimed", grant[1], flush=True)  # noqa: T201 - read by the test
    sys.stdin.readline()
    client = RawClient(address)
    print(*client.request(TASK_RESULT, grant[0], grant[1], 0, b"late", "")[1], flush=True)  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:3])
