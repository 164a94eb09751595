"""`python -m vtrain`, and the command `vtrain`. From its first line on, a signal ends it with a sentence."""

from vprep import signals

signals.end_at_once("vtrain")

from vtrain.cli import main  # noqa: E402  imports much, and may be interrupted

if __name__ == "__main__":
    main()
