"""Several processes that share the computation of features: do they compute the same, and do they see the same folder?

Where they have not met, as without torchrun, nothing is compared: then the folder of the parts says what they are of.
"""

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from veval.evaluation import Execution, Info
from veval.features.resume import BESIDE
from vprep.atomic import atomic_write
from vtrain.meeting import demand_same, meeting

SIGN = ".together"  # the name of a file with a random word
ADVICE = "start all processes with the same command, code and videos"
SHARED = "name a file in a folder that all nodes share"


def patience(execution: Execution) -> float:
    """Return how many seconds the first process waits for a part: longer where lost processes are noticed anyway."""
    met = meeting()
    return execution.patience if met is None else met.stuck_after.total_seconds()


def demand_same_work(info: Info, out: Path) -> None:
    """Refuse to share the computation with processes that have other weights, other videos or another protocol."""
    demand_same({**dict(_entries(info, "")), str(out): "a file" if out.exists() else "no file"}, ADVICE)


def demand_same_folder(folder: Path) -> None:
    """Refuse a folder of parts that is not the same for all processes, as on nodes that share no file system."""
    met = meeting()
    if met is None:
        return
    path = folder / SIGN
    if met.rank == 0:
        with atomic_write(path) as file:
            file.write(secrets.token_hex(8).encode())
    met.exchange()  # the first process has written it: who looks earlier may be told for a while that it is not there
    demand_same({str(folder): path.read_text() if path.is_file() else "no such folder"}, SHARED)


def _entries(info: Mapping[str, Any], before: str) -> list[tuple[str, Any]]:
    """Return the values of nested objects by the words that lead to them, but not paths and names."""
    found: list[tuple[str, Any]] = []
    for name, value in info.items():
        if isinstance(value, dict):
            found += _entries(value, f"{before}{name} ")
        elif name not in BESIDE:
            found.append((f"{before}{name}", value))
    return found
