"""What a follower has sent: lines that are only added, in a file beside the run, never in it.

    {"id": "3f..."}      how the service knows the run
    {"sending": 120}     the steps up to this one are about to be sent
    {"sent": 120}        they were

A process that is killed leaves a last line in half, which does not count. The file is locked while one follows.
"""

import fcntl
import json
import os
import uuid
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from vprep.atomic import plain_file
from vprep.errors import UsageError, writing
from vprep.json_text import parse_json

NONE = -1  # no step was sent


def journal_path(folder: Path, service: str) -> Path:
    """Return the journal's place: beside the folder of the run, whose files belong to the training."""
    whole = folder.resolve()
    return whole.parent / f"{whole.name}.{service}.jsonl"


class Journal:
    """The open journal of one follower."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.identifier, self.sending, self.sent = "", NONE, NONE
        with writing(path, "follow a run whose parent folder you can write"):
            self._file: IO[bytes] = plain_file(path, append=True)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise UsageError(f"another process follows this run and writes {path}; wait for it, or end it") from None
        except OSError:
            pass  # a file system without locks
        self._read()
        if not self.identifier:
            self.identifier = uuid.uuid4().hex[:16]
            self._add("id", self.identifier)

    @property
    def is_new(self) -> bool:
        """Whether nothing was sent, or may have been."""
        return self.sending == NONE

    def begin(self, step: int) -> None:
        """Note that the steps up to `step` are about to be sent."""
        self.sending = step
        self._add("sending", step)

    def done(self, step: int) -> None:
        """Note that they were sent."""
        self.sent = step
        self._add("sent", step)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def _read(self) -> None:
        data = self.path.read_bytes()
        for line in data.splitlines():
            try:
                found = parse_json(line)
            except ValueError:
                continue
            if isinstance(found, dict):
                self.identifier = _text(found.get("id")) or self.identifier
                self.sending = _step(found.get("sending"), self.sending)
                self.sent = _step(found.get("sent"), self.sent)
        if data and not data.endswith(b"\n"):
            self._file.write(b"\n")

    def _add(self, name: str, value: str | int) -> None:
        self._file.write(f"{json.dumps({name: value})}\n".encode())
        self._file.flush()
        os.fsync(self._file.fileno())


def _text(value: object) -> str:
    return value if isinstance(value, str) and value.isalnum() and len(value) <= 64 else ""


def _step(value: object, before: int) -> int:
    return value if type(value) is int else before
