"""`python -m tq.admin`."""

from tq.admin.cli import main

main()
