"""What nodes beyond loopback ask for: certificates on both sides, and tokens of clients."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from chaos.access import Access
from chaos.namespaces.addresses import address

_COMMAND_S: Final = 60


class AccessError(Exception):
    """A command that makes certificates or tokens failed; the text is its word."""


class Authority:
    """Makes certificates and a token, with the commands an operator has.

    Args:
        directory: Where they go; nothing of it is of use beyond the run.
        command: Program that makes them, as it is started.
        home: Working directory of it.
    """

    def __init__(self, directory: Path, command: Sequence[str], *, home: Path) -> None:
        self._directory = directory
        self._command = list(command)
        self._home = home

    def settings(self, node_id: int) -> Mapping[str, str]:
        """Return what a node is told of it, by key of the configuration."""
        certificate = self._directory / f"node-{node_id}.pem"
        own = f"certificate={certificate},key={certificate.with_suffix('.key')}"
        return {
            "raft.tls": f"ca={self._ca},{own}",
            "broker.tls": own,
            "auth.tokens_file": str(self._tokens),
        }

    def found(self) -> None:
        """Make the authority itself.

        Raises:
            AccessError: It cannot be made.
        """
        self._run("certificates", "authority", str(self._directory))

    def admit(self) -> Access:
        """Make a token that may do everything; return what clients need.

        Raises:
            AccessError: It cannot be made.
        """
        told = self._run("tokens", "new", "chaos", "--role", "admin", "--file", str(self._tokens))
        return Access(ca=str(self._ca), token=told.split()[-1])

    def issue(self, node_id: int) -> None:
        """Make a node's certificate.

        Raises:
            AccessError: It cannot be made.
        """
        words = ("--id", str(node_id), "--address", address(node_id))
        self._run("certificates", "issue", str(self._directory), *words)

    @property
    def _ca(self) -> Path:
        return self._directory / "ca.pem"

    @property
    def _tokens(self) -> Path:
        return self._directory / "tokens"

    def _run(self, *words: str) -> str:
        try:
            done = subprocess.run(
                [*self._command, *words],
                cwd=self._home,
                capture_output=True,
                text=True,
                check=False,
                timeout=_COMMAND_S,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise AccessError(f"{' '.join(words[:2])}: {error}") from error
        if done.returncode:
            raise AccessError(f"{' '.join(words[:2])}: {done.stderr.strip()}")
        return done.stdout
