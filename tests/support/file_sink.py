"""A service for the follower that is a file; and the follower with it as a program, to be killed.

python file_sink.py RUN FILE [--mute] [--die N] [--every S]
"""

import argparse
import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from vprep.errors import exit_code
from vtrain.follow.follow import follow
from vtrain.follow.sink import FollowedRun, SinkError


class FileSink:
    """Adds a line to a file for each call; it fails, or kills its process, where it is told to."""

    def __init__(self, path: Path, *, speaks: bool = True, fails: int = 0, passing: bool = True, die: int = 0) -> None:
        self.path, self.speaks, self.fails, self.passing, self.die = path, speaks, fails, passing, die
        self.run: FollowedRun | None = None
        self.closed: bool | None = None

    def open(self, run: FollowedRun) -> int | None:
        self.run = run
        self._fail()
        return max([-1, *self.steps]) if self.speaks else None

    def send(self, step: int, numbers: Mapping[str, float]) -> bool:
        self._fail()
        with self.path.open("a") as file:
            file.write(f"{json.dumps({'step': step, **numbers})}\n")
        if self.die and len(self.steps) == self.die:
            os.kill(os.getpid(), signal.SIGKILL)
        return True

    def close(self, *, finished: bool) -> None:
        self.closed = finished

    @property
    def lines(self) -> list[dict[str, float]]:
        return [json.loads(line) for line in self.path.read_text().splitlines()] if self.path.exists() else []

    @property
    def steps(self) -> list[int]:
        return [int(line["step"]) for line in self.lines]

    def _fail(self) -> None:
        if self.fails:
            self.fails -= 1
            raise SinkError("file: no connection", passing=self.passing)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("--mute", action="store_true")
    parser.add_argument("--die", type=int, default=0)
    parser.add_argument("--every", type=float, default=0.1)
    given = parser.parse_args()
    sink = FileSink(given.file, speaks=not given.mute, die=given.die)

    def command() -> None:
        follow(given.run, "file", sink, project="tests", name="", once=False, every=given.every)

    sys.exit(exit_code("vtrain", command))


if __name__ == "__main__":
    main()
