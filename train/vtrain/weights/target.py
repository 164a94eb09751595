"""May a file be written here? Asked before any work is done."""

from pathlib import Path

from vprep.errors import UsageError


def check_target(out: Path, source: Path, endings: tuple[str, ...]) -> None:
    """An older `out` may be replaced; what is read, a folder and a file of another kind may not."""
    if out.suffix not in endings:
        raise UsageError(f"--out is '{out}'; it ends in {' or '.join(endings)}, as in --out {out.stem}{endings[0]}")
    if not out.parent.is_dir():
        raise UsageError(f"--out is '{out}', and there is no folder '{out.parent}'; make it first")
    if out.is_dir():
        raise UsageError(f"--out is '{out}', which is a folder; name a file in it, as in {out / f'a{endings[0]}'}")
    if out.exists() and source.exists() and out.samefile(source):
        raise UsageError(f"--out is '{out}', the file that is read; name another")
