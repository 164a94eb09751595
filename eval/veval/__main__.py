"""`python -m veval`, and the command `veval`. From its first line on, a signal ends it with a sentence."""

from vprep import signals

signals.end_at_once("veval")

from veval.cli import main  # noqa: E402  imports much, and may be interrupted

if __name__ == "__main__":
    main()
