"""Small changes to bytes and to values, all drawn from one generator."""

from __future__ import annotations

import random

_NUMBERS = (0, 1, -1, 127, 128, 255, 2**31, 2**32, 2**32 + 1, 2**63 - 1, 2**63, 2**64 - 1, -(2**63))
_LENGTHS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)


def mutate_bytes(data: bytes, rng: random.Random) -> bytes:
    """Return bytes a few changes away."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        place = rng.randrange(len(changed) + 1)
        what = rng.randrange(7)
        if what == 0 and place < len(changed):
            changed[place] ^= 1 << rng.randrange(8)
        elif what == 1 and place < len(changed):
            changed[place] = rng.randrange(256)
        elif what == 2:
            changed[place:place] = rng.randbytes(rng.randrange(1, 9))
        elif what == 3:
            del changed[place : place + rng.randrange(1, 17)]
        elif what == 4:
            changed[place:place] = changed[place : place + rng.randrange(1, 65)]
        elif what == 5:
            changed[place : place + 4] = rng.choice(_LENGTHS).to_bytes(4, "big")
        else:
            del changed[place:]
    return bytes(changed)


def mutate_value(value: object, rng: random.Random, depth: int = 0) -> object:
    """Return a value a change away; lists are changed within, most of the time."""
    if isinstance(value, list | tuple) and value and rng.random() < 0.9:
        items = list(value)
        place = rng.randrange(len(items))
        what = rng.randrange(10)
        if what == 0:
            del items[place]
        elif what == 1:
            items.insert(place, _any(rng, depth))
        elif what == 2:
            items[place] = items[rng.randrange(len(items))]
        else:
            items[place] = mutate_value(items[place], rng, depth + 1)
        return items
    if isinstance(value, bytes) and rng.random() < 0.7:
        return mutate_bytes(value, rng)
    if type(value) is int and rng.random() < 0.5:
        return value + rng.choice((-1, 1, 2**16, 2**32, -(2**40)))
    return _any(rng, depth)


def _any(rng: random.Random, depth: int) -> object:
    what = rng.randrange(8)
    if what == 0:
        return None
    if what == 1:
        return rng.random() < 0.5
    if what <= 3:
        return rng.choice(_NUMBERS)
    if what == 4:
        return rng.randbytes(rng.choice((0, 1, 8, 16, 64, 5000)))
    if what == 5:
        return rng.choice(("", "text", "line\nline", "\x00", "é" * 200))
    if what == 6 and depth < 3:
        return [_any(rng, depth + 1) for _ in range(rng.randrange(4))]
    return 1.5
