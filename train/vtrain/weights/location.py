"""Where weights are: the file that a path names, a run's folder or a file. It is found without torch."""

from pathlib import Path

from vprep.atomic import require_writable
from vprep.errors import UsageError
from vtrain.run_folder import BEST, LAST, weights_file

PROGRAMS = (".ts", ".onnx")  # exports that other programs run
EXPORTS = (".safetensors", *PROGRAMS)  # the endings of exported files


def file_of(path: Path) -> Path:
    """Return the file with weights that `path` names: itself, or best.pt or last.pt in the folder of a run."""
    demand_there(path)
    return weights_file(path) if path.is_dir() else path


def demand_there(path: Path) -> None:
    """Refuse a path that names no weights."""
    if not path.exists():
        raise UsageError(f"there is no {path}; name a run's folder or a .safetensors file")
    if path.is_dir() and not any((path / name).is_file() for name in (LAST, BEST)):
        raise UsageError(f"{path} holds no last.pt; name the folder of a run that has saved, or a .safetensors file")
    if path.suffix in PROGRAMS:
        raise UsageError(f"{path} is an exported program; export the same run with --out {path.stem}.safetensors")


def demand_file(path: Path) -> None:
    """Refuse a path that is no file."""
    if not path.is_file():
        raise UsageError(f"{path} is not a file")


def check_target(out: Path, source: Path, endings: tuple[str, ...]) -> None:
    """Refuse an `out` that must not be written. An older file of the same kind may be replaced."""
    if out.suffix not in endings:
        raise UsageError(f"--out is '{out}'; it must end in {' or '.join(endings)}, as in --out {out.stem}{endings[0]}")
    if not out.parent.is_dir():
        raise UsageError(f"--out is '{out}', and there is no folder '{out.parent}'; create it first")
    if out.is_dir():
        raise UsageError(f"--out is '{out}', which is a folder; name a file in it, as in {out / f'a{endings[0]}'}")
    if out.exists() and source.exists() and out.samefile(source):
        raise UsageError(f"--out is '{out}', the file that is read; name another")
    require_writable(out.parent)
