"""`python -m vtrain`, as torchrun starts it."""

from vtrain.cli import main

main()
