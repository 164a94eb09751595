"""Several processes that run one command as the ranks of a torchrun do, and how each of them ended.

They are forked, because a new Python takes longer to load torch than these commands run.
"""

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.context import ForkProcess
from pathlib import Path

from commands import begin

Main = Callable[[list[str]], None]


@dataclass(frozen=True, slots=True)
class Ranks:
    """The processes, and of each the folder with its stdout and stderr."""

    processes: list[ForkProcess]
    printed: list[Path]

    def send(self, number: signal.Signals, rank: int) -> None:
        pid = self.processes[rank].pid
        assert pid is not None
        os.kill(pid, number)

    def codes(self, *ranks: int, seconds: float = 90) -> list[int | None]:
        """Wait for the end of these ranks, by default of all, and return their exit codes; None: it has not ended."""
        waited = [self.processes[rank] for rank in ranks or range(len(self.processes))]
        for process in waited:
            process.join(seconds)
        return [process.exitcode for process in waited]

    def said(self, rank: int) -> list[str]:
        """What a rank has said at its end, on stderr."""
        words = (self.printed[rank] / "stderr").read_text().splitlines()
        return [line for line in words if line.startswith(("vtrain:", "veval:", "Traceback"))]


@contextmanager
def ranks(
    main: Main, count: int, *words: object, cwd: Path, printed: Path, env: dict[str, str] | None = None,
    others: tuple[object, ...] | None = None, folders: list[Path] | None = None,
) -> Iterator[Ranks]:  # fmt: skip
    """Run `main` with `words` in `count` processes; `others` are the words of all but the first.

    `folders` are where each runs, where that is not `cwd`. Whatever is left at the end is killed.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = (env or {}) | {
        "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo",
    }  # fmt: skip
    outputs = [printed / f"rank{rank}" for rank in range(count)]
    processes = []
    for rank, output in enumerate(outputs):
        output.mkdir(parents=True, exist_ok=True)
        of_rank = env | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        chosen = words if rank == 0 or others is None else others
        here = cwd if folders is None else folders[rank]
        processes.append(begin(*chosen, cwd=here, env=of_rank, printed=output, main=main))
    try:
        yield Ranks(processes, outputs)
    finally:
        for process in processes:
            process.kill()
            process.join()
