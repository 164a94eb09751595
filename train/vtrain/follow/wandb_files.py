"""The last step in the files that wandb writes in offline mode: a process that was killed had not written all of it.

A file has a head of 7 bytes and then records in the format of LevelDB's logs: blocks of 32 KiB, in which each piece of
a record has a check (4 bytes), its size (2), and whether it is a whole record, the first piece, one between, or the
last.
"""

import struct
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import IO

HEAD, BLOCK, PIECE = 7, 32768, 7  # bytes
WHOLE, FIRST, BETWEEN, LAST = 1, 2, 3, 4
MOST_RECORD = 1 << 24  # bytes


def last_step(folder: Path, identifier: str) -> int | None:
    """Return the last step in the offline files of a run below `folder`; None without any, or of a new kind."""
    found: int | None = None
    try:
        record_type = import_module("wandb.proto.wandb_internal_pb2").Record
        for path in folder.glob(f"offline-run-*-{identifier}/run-*.wandb"):
            with path.open("rb") as file:
                for data in records(file):
                    record = record_type()
                    record.ParseFromString(data)
                    if record.WhichOneof("record_type") == "history":
                        found = max(int(record.history.step.num), -1 if found is None else found)
    except Exception:  # wandb's own format, which may change
        return None
    return found


def records(file: IO[bytes]) -> Iterator[bytes]:
    """Yield the complete records of a file, up to the first that is cut off or damaged."""
    at, parts = HEAD, b""
    file.seek(at)
    while True:
        left = BLOCK - at % BLOCK
        if left < PIECE:
            file.seek(left, 1)
            at += left
        head = file.read(PIECE)
        if len(head) < PIECE:
            return
        _, size, kind = struct.unpack("<IHB", head)
        data = file.read(size)
        at += PIECE + size
        if len(data) < size or kind not in (WHOLE, FIRST, BETWEEN, LAST) or len(parts) > MOST_RECORD:
            return
        parts = data if kind in (WHOLE, FIRST) else parts + data
        if kind in (WHOLE, LAST):
            yield parts
