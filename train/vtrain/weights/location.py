"""Where weights are: the file that a path names, a run's folder or a file. It is found without torch."""

from pathlib import Path

from vprep.errors import UsageError
from vtrain.run_folder import BEST, LAST, weights_file

PROGRAMS = (".ts", ".onnx")  # exports that other programs run


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
