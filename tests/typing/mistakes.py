"""Mistakes a checker must find: every line with an `# error:` comment, and no other.

The comment is the error code mypy gives. `tests/unit/tq/test_task_types.py` compares.
"""

# mypy: ignore-errors
# ruff: noqa: B018, F841 -- useless on purpose

from __future__ import annotations

import tq
from tests.typing.api import add, app, nothing, reindex, send_email, store, warm_up

add.send("one")  # error: arg-type
add.send()  # error: call-arg
add.send(1, c=2)  # error: call-arg
add.using(colour="red")  # error: call-arg
add("one")  # error: arg-type
send_email.send("a@b.c")  # error: call-arg
reindex.send("three")  # error: arg-type
reindex.send(tq.current(), 3)  # error: call-arg, arg-type
warm_up.send(1)  # error: call-arg
store.send("text")  # error: call-arg
store.send("text", "two")  # error: arg-type
nothing.send(None)  # error: call-arg
text: str = add.send(1).result()  # error: assignment
app.task(colour="red")  # error: call-overload
app.task(priority="high")  # error: call-overload
tq.Nothing  # error: attr-defined
tq.ShardedClient("n1:7401")  # error: arg-type


async def coroutine() -> None:
    number: int = await (await send_email.asend("a", template="b"))  # error: assignment
    await add.asend("one")  # error: arg-type
    add.asend(1)  # error: unused-coroutine
