"""`python -m veval`, for torchrun."""

from veval.cli import main

main()
