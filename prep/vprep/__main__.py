"""`python -m vprep`, where the command vprep is not on the path."""

from vprep.cli import main

main()
