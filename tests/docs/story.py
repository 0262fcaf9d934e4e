"""Runs the blocks of one document as a reader would, in a folder and on ports of its own.

The reader's ports (74xx on 127.0.0.1) become free ones, in commands, files and expected
output alike; defaults become free ones through the environment. Nothing else differs
from what is printed.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from tests.docs.blocks import Block, Command, missing

_PATIENCE_S: Final = 60.0
_COMMAND_S: Final = 60.0
_POLL_S: Final = 0.05
_DEFAULT_CLIENT_PORT: Final = 7401
_DEFAULT_HTTP_PORT: Final = 7402


class StoryError(AssertionError):
    """A document tells something that is not so."""


class Story:
    """One run of one document.

    Args:
        folder: Where the commands run.
        ports: Free ports, handed out in the order in which the document names its own.
    """

    def __init__(self, folder: Path, *, ports: list[int]) -> None:
        self._folder = folder
        self._free = iter(ports)
        self._ports: dict[str, str] = {}
        self._background: list[tuple[Command, subprocess.Popen[bytes], Path]] = []
        self._environment = self._first_environment()

    def run(self, block: Block) -> None:
        """Run one block; what it starts goes on until `close`.

        Raises:
            StoryError: A command failed, or did not show what the document says.
        """
        if block.skipped:
            return
        if block.fresh:
            self.finish()
            self.close()
            self._environment = self._first_environment()
        if block.kind == "console":
            self._console(block)
        elif block.file:
            (self._folder / block.file).write_text(self._own(block.body), encoding="utf-8")

    def finish(self) -> None:
        """Check that everything left in the background is still there.

        Raises:
            StoryError: One of them ended by itself.
        """
        for command, process, log in self._background:
            if process.poll() is not None:
                said = log.read_text(errors="replace")
                raise StoryError(f"$ {command.text}\nended with {process.returncode}:\n{said}")

    def close(self) -> None:
        """End what still runs, last started first."""
        for _, process, _ in reversed(self._background):
            process.send_signal(signal.SIGTERM)
        for _, process, _ in reversed(self._background):
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
        self._background.clear()

    def _first_environment(self) -> dict[str, str]:
        client = self._port(str(_DEFAULT_CLIENT_PORT))
        return {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONUNBUFFERED": "1",
            "TQ_BROKER__PORT": client,
            "TQ_API__PORT": self._port(str(_DEFAULT_HTTP_PORT)),
            "TQ_SERVERS": f"127.0.0.1:{client}",
        }

    def _console(self, block: Block) -> None:
        started = len(self._background)
        for command in block.commands():
            text = self._own(command.text)
            if command.background:
                self._start(command, text)
            elif setting := re.fullmatch(r"export (\w+)=(\S*)", text):
                self._environment[setting[1]] = setting[2].strip("'\"")
            else:
                self._command(command, text, patience_s=_PATIENCE_S if block.patient else 0)
        for command, process, log in self._background[started:]:
            self._see(command, process, log)

    def _start(self, command: Command, text: str) -> None:
        log = self._folder / f"background{len(self._background)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                # exec: the process that is ended later is the command, not its shell.
                ["bash", "-c", f"exec {text.removesuffix('&')}"],
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self._background.append((command, process, log))

    def _see(self, command: Command, process: subprocess.Popen[bytes], log: Path) -> None:
        expected = [self._own(line) for line in command.expected]
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            output = log.read_text(errors="replace")
            line = missing(expected, output)
            if process.poll() is not None:
                raise StoryError(f"$ {command.text}\nended with {process.returncode}:\n{output}")
            if line is None:
                return
            if time.monotonic() > deadline:
                raise StoryError(f"$ {command.text}\nnever said '{line}':\n{output}")
            time.sleep(_POLL_S)

    def _command(self, command: Command, text: str, *, patience_s: float) -> None:
        deadline = time.monotonic() + patience_s
        while True:
            trouble = self._attempt(command, text)
            if trouble is None:
                return
            if time.monotonic() >= deadline:
                raise StoryError(f"$ {command.text}\n{trouble}\n{self._tails()}")
            time.sleep(_POLL_S)

    def _attempt(self, command: Command, text: str) -> str | None:
        """Run a command once; return what is wrong with the result, or None."""
        done = subprocess.run(
            ["bash", "-c", text],
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=_COMMAND_S,
        )
        if done.returncode != 0:
            return f"ended with {done.returncode}:\n{done.stdout}"
        line = missing([self._own(line) for line in command.expected], done.stdout)
        return None if line is None else f"did not say '{line}' but:\n{done.stdout}"

    def _tails(self) -> str:
        """Return the last words of everything in the background, for error texts."""
        return "\n".join(
            f"--- {command.text}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-8:])
            for command, _, log in self._background
        )

    def _own(self, text: str) -> str:
        """Put this story's ports where the document has the reader's."""
        return re.sub(r"(?<=127\.0\.0\.1:)74\d\d\b", lambda found: self._port(found[0]), text)

    def _port(self, written: str) -> str:
        if written not in self._ports:
            self._ports[written] = str(next(self._free))
        return self._ports[written]
