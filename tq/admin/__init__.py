"""The command `tq-admin`: submit and look, from a shell.

Data goes to stdout, words to stderr; exit codes are in `tq.admin.exits`.
"""

from tq.admin.cli import main

__all__ = ["main"]
