"""Who may ask: a file of tokens, kept as hashes, and the role that each one gives.

A line is ``principal sha256 [role]``: who it is, the SHA-256 of the token in hexadecimal, and
what may be asked with it (``client`` unless said). Lines that begin with ``#`` and empty ones
count for nothing. A principal may have several lines, so that a token can be replaced
without a gap. ``tq-node tokens new`` writes them; the token itself is kept nowhere.

No text of this module repeats what stands where a hash should: it may be a token.
"""

from __future__ import annotations

import difflib
import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Final, NamedTuple

from cluster.faults import StartError

TOKEN_BYTES: Final = 32
"""Chance in a token: twice what nobody can guess."""
TOKEN_PREFIX: Final = "tq_"  # noqa: S105 - tells people and scanners what the rest is
TOKENS_MAX: Final = 1000
"""Each is compared at every HELLO."""
PRINCIPAL_MAX: Final = 128

_FILE_MAX_BYTES: Final = 1 << 20
_WRITABLE_BY_OTHERS: Final = 0o022
_HASH: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_PRINCIPAL: Final = re.compile(r"[A-Za-z0-9_.:-]{1,128}", re.ASCII)
_HOW: Final = "'tq-node tokens new PRINCIPAL --file FILE' writes a right one"


class Role(StrEnum):
    """What a token is good for; each includes the ones above it."""

    METRICS = "metrics"
    """Reading `/status` and `/metrics`, nothing else."""
    CLIENT = "client"
    """Everything about tasks and workers."""
    ADMIN = "admin"
    """Changes of the members and digests as well."""


class Identity(NamedTuple):
    """Whom a token stands for."""

    principal: str
    role: Role


class TokensError(StartError):
    """The file of tokens cannot be used; the text names file, line, and what to do."""


class Tokens:
    """The tokens of one node.

    Args:
        identities: By the SHA-256 of their token, 32 bytes.
    """

    def __init__(self, identities: Sequence[tuple[bytes, Identity]]) -> None:
        self._identities = tuple(identities)

    def __len__(self) -> int:
        return len(self._identities)

    def find(self, token: str) -> Identity | None:
        """Return whom a token stands for, None if nobody.

        Takes the same time wherever in the list it is, and whether it is there.
        """
        given = digest(token)
        found: Identity | None = None
        for known, identity in self._identities:
            if hmac.compare_digest(known, given):
                found = identity
        return found


def digest(token: str) -> bytes:
    """Return the SHA-256 of a token: its chance is too long for anything slower to help."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def new_token() -> str:
    """Make a token nobody can guess, of letters, digits, ``_`` and ``-``."""
    return TOKEN_PREFIX + secrets.token_urlsafe(TOKEN_BYTES)


def read_tokens(path: Path) -> Tokens:
    """Read a file of tokens.

    Raises:
        TokensError: It cannot be read, other users may change it, or a line is wrong.
    """
    try:
        with path.open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            data = stream.read(_FILE_MAX_BYTES + 1)
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise TokensError(
            f"cannot read the file of tokens {path}: {reason}; 'tq-node tokens new PRINCIPAL "
            f"--file {path}' makes one"
        ) from error
    if mode & _WRITABLE_BY_OTHERS:
        raise TokensError(f"the file of tokens {path} may be changed by others: chmod 600 {path}")
    if len(data) > _FILE_MAX_BYTES:
        raise TokensError(f"{path} is larger than 1 MiB, this is not a file of tokens")
    tokens = _parse(data.decode("utf-8", "replace"), name=str(path))
    if not tokens:
        raise TokensError(
            f"the file of tokens {path} holds none, so everybody would be refused: make one with "
            f"'tq-node tokens new PRINCIPAL --file {path}'"
        )
    return Tokens(tokens)


def add_token(path: Path, principal: str, *, role: Role) -> str:
    """Make a token and append its line to a file, which is made when missing; return the token.

    Raises:
        TokensError: The principal cannot be one, or the file cannot be used or is full.
    """
    if not _PRINCIPAL.fullmatch(principal):
        raise TokensError(_bad_principal(principal))
    if path.exists():
        held = _held(path)
        if held >= TOKENS_MAX:
            raise TokensError(f"{path} holds {TOKENS_MAX} tokens, which is the most: remove some")
    token = new_token()
    line = f"{principal} {digest(token).hex()} {role}\n"
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(handle, "r+b") as stream:
            if stream.seek(0, os.SEEK_END) > 0:
                stream.seek(-1, os.SEEK_END)
                # An editor may have left the last line without its end.
                line = line if stream.read(1) == b"\n" else f"\n{line}"
            stream.write(line.encode())
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise TokensError(f"cannot write {path}: {error.strerror}") from error
    return token


def _held(path: Path) -> int:
    """Count the tokens of a file that is there, which may hold none yet."""
    try:
        return len(read_tokens(path))
    except TokensError:
        if path.is_file() and not path.read_bytes().strip():
            return 0
        raise


def _parse(text: str, *, name: str) -> list[tuple[bytes, Identity]]:
    found: list[tuple[bytes, Identity]] = []
    lines: dict[bytes, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        try:
            known, identity = _parse_line(words)
            if known in lines:
                raise ValueError(f"the same token is on line {lines[known]}: remove one of them")  # noqa: TRY301
            if len(found) >= TOKENS_MAX:
                raise ValueError(f"more than {TOKENS_MAX} tokens: remove some")  # noqa: TRY301
        except ValueError as error:
            raise TokensError(f"{name}:{number}: {error}") from None
        lines[known] = number
        found.append((known, identity))
    return found


def _parse_line(words: Sequence[str]) -> tuple[bytes, Identity]:
    if len(words) not in {2, 3}:
        raise ValueError(f"has {len(words)} words, not 'PRINCIPAL SHA256 [ROLE]': {_HOW}")
    principal, known = words[:2]
    if not _PRINCIPAL.fullmatch(principal):
        raise ValueError(_bad_principal(principal))
    if not _HASH.fullmatch(known):
        raise ValueError(
            f"the second word is not a SHA-256 in hexadecimal (64 of 0-9 and a-f; the token itself "
            f"does not belong here): {_HOW}"
        )
    return bytes.fromhex(known), Identity(principal, _role(words[2] if len(words) == 3 else ""))


def _role(word: str) -> Role:
    if not word:
        return Role.CLIENT
    try:
        return Role(word)
    except ValueError:
        near = difflib.get_close_matches(word, list(Role), n=1)
        hint = f" (did you mean '{near[0]}'?)" if near else ""
        roles = ", ".join(sorted(Role))
        raise ValueError(f"no role has this name{hint}: it is one of {roles}") from None


def _bad_principal(principal: str) -> str:
    return (
        f"{principal[:40]!r} cannot name a principal: 1 to {PRINCIPAL_MAX} of letters, digits and "
        "_ . : -"
    )
