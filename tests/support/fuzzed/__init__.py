"""Kinds of files that the commands read, each with a good example, a mutator and the functions that read it.

A module in this folder lists its kinds in KINDS; `python benchmarks/fuzz.py` and the tests go through all of them. To
add a kind, write a `make` that leaves a good file in an empty folder, a `mutate` from bytes and a seed to bytes, and
the readers: each gets the path of the changed file. A reader may return, or raise UsageError or WorkError with a
message of one line. Anything else is a finding.
"""

import importlib
import pkgutil
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vprep.errors import UsageError, WorkError


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of file. `make` writes a good one, and what else its readers need, into a folder, and returns its path."""

    name: str
    make: Callable[[Path], Path]
    mutate: Callable[[bytes, int], bytes]
    readers: dict[str, Callable[[Path], object]]


def kinds() -> dict[str, Kind]:
    """Return all kinds by name."""
    modules = [importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
    return {kind.name: kind for module in modules for kind in module.KINDS}


def fault(read: Callable[[Path], object], path: Path) -> str:
    """Return what is wrong with how a file is read or refused; "" where nothing is."""
    try:
        read(path)
    except (UsageError, WorkError) as error:
        return f"a message of several lines: {error}" if "\n" in str(error) else ""
    except Exception:
        return traceback.format_exc()
    return ""


def faults(kind: Kind, good: bytes, path: Path, seed: int) -> list[str]:
    """Write the changed file of a seed to `path`; return the faults of all readers."""
    path.write_bytes(kind.mutate(good, seed))
    found = {name: fault(read, path) for name, read in kind.readers.items()}
    return [f"{kind.name}, seed {seed}, {name}: {what}" for name, what in found.items() if what]
