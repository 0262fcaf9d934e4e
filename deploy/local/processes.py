"""Child processes that never outlive their parent.

A node or worker started here is a real process with its own data directory and
log file. It is ended by its process id, and the kernel ends it when the parent
dies, so a crash of a test or of the demo leaves nothing behind.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, Final

_PR_SET_PDEATHSIG: Final = 1


def _die_with_parent() -> None:
    """Ask the kernel for SIGKILL when the parent ends (Linux only; elsewhere do nothing)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class ChildProcess:
    """One child with its output in a file.

    Args:
        arguments: Program and arguments.
        log_path: Receives stdout and stderr; appended to across restarts.
        environment: Added to the parent's environment.
        directory: Working directory of the child; the parent's if None.
    """

    def __init__(
        self,
        arguments: list[str],
        *,
        log_path: Path,
        environment: dict[str, str] | None = None,
        directory: Path | None = None,
    ) -> None:
        self.arguments = arguments
        self.log_path = log_path
        self._environment = {**os.environ, **(environment or {})}
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id of the running child."""
        assert self._process is not None, "not started"
        return self._process.pid

    @property
    def running(self) -> bool:
        """True between start and the end of the process."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the child; a running one is an error."""
        assert not self.running, f"{self.arguments[0]} is already running"
        self._log = self.log_path.open("ab")
        self._process = subprocess.Popen(  # noqa: S603 - arguments are the harness's own
            self.arguments,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env=self._environment,
            cwd=self._directory,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - one prctl call, no locks taken
        )

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to this child alone."""
        if self.running:
            assert self._process is not None
            self._process.send_signal(number)

    def wait(self, *, timeout_s: float) -> int:
        """Wait for the end and return the exit code (negative: the signal).

        Raises:
            subprocess.TimeoutExpired: It is still running.
        """
        assert self._process is not None
        code = self._process.wait(timeout_s)
        self._close_log()
        return code

    def kill(self) -> None:
        """End it at once with SIGKILL, as a crash would, and reap it."""
        if self._process is not None:
            self._process.kill()
            self.wait(timeout_s=30)

    def stop(self, *, timeout_s: float = 20) -> int:
        """Ask with SIGTERM, wait, and fall back to SIGKILL; return the exit code."""
        if self._process is None:
            return 0
        self.signal(signal.SIGTERM)
        try:
            return self.wait(timeout_s=timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            return -signal.SIGKILL

    def output(self) -> str:
        """Return everything the child has written so far."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def _close_log(self) -> None:
        if self._log is not None:
            self._log.close()
            self._log = None
