"""Run a part of a test where a folder is a small disk, where files cannot be locked, or as another user."""

import ctypes
import errno
import fcntl
import json
import multiprocessing
import os
import platform
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

Act = Callable[[Callable[[str], None]], Any]
NEW_MOUNTS, NEW_USER = 0x20000, 0x10000000  # of linux/sched.h
NOT_PERMITTED = 77
NO_NEW_PRIVILEGES, SET_SECCOMP, FILTER = 38, 22, 2  # of linux/prctl.h and linux/seccomp.h
SYSTEM_CALLS = {"x86_64": (0xC000003E, 73, 72), "aarch64": (0xC00000B7, 32, 25)}  # architecture, flock, fcntl
NOBODY = 65534


def on_a_disk(folder: Path, size: int, act: Act) -> Any:  # noqa: ANN401  what JSON holds
    """Return what `act` returns in a process for which `folder` is a disk of `size` bytes; `act` can remount it.

    The disk is in a mount namespace of that process, and goes with it.
    """
    folder.mkdir()
    answer = folder.with_suffix(".json")
    process = multiprocessing.get_context("fork").Process(target=_on_a_disk, args=(folder, size, act, answer))
    process.start()
    process.join()
    if process.exitcode == NOT_PERMITTED:
        pytest.skip("a mount namespace with a tmpfs is not permitted here, so there is no disk that can be full")
    assert process.exitcode == 0
    return json.loads(answer.read_text())


def _on_a_disk(folder: Path, size: int, act: Act, answer: Path) -> None:
    user, group = os.getuid(), os.getgid()
    if ctypes.CDLL(None).unshare(NEW_MOUNTS | NEW_USER):
        os._exit(NOT_PERMITTED)
    for name, words in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
        Path("/proc/self", name).write_text(words)

    def mount(options: str) -> None:
        if subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], stderr=subprocess.DEVNULL
        ).returncode:
            os._exit(NOT_PERMITTED)

    mount(f"size={size}")
    torch.set_num_threads(1)
    answer.write_text(json.dumps(act(mount)))
    os._exit(0)


def without_locks(error: int = errno.ENOLCK) -> None:
    """Let the kernel answer `error` to each lock of a file from now on, in this process and those that it starts.

    This is what a mount of NFS without its lock service does; a filter of system calls does it without one.
    """
    load, jump_if, answer, allow = 0x20, 0x15, 0x06, 0x7FFF0000
    architecture, flock, control = SYSTEM_CALLS[platform.machine()]
    steps = [
        *((load, 0, 0, 4), (jump_if, 0, 6, architecture)),
        *((load, 0, 0, 0), (jump_if, 3, 0, flock), (jump_if, 0, 3, control)),
        *((load, 0, 0, 24), (jump_if, 0, 1, fcntl.F_SETLK)),  # the second argument of fcntl
        *((answer, 0, 0, 0x50000 | error), (answer, 0, 0, allow)),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(steps), ctypes.addressof(code)))
    control_process = ctypes.CDLL(None, use_errno=True).prctl
    control_process.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
    assert control_process(NO_NEW_PRIVILEGES, 1, 0, 0, 0) == 0
    assert control_process(SET_SECCOMP, FILTER, ctypes.addressof(program), 0, 0) == 0


def as_nobody() -> None:
    """Be another user from now on; only root can."""
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
