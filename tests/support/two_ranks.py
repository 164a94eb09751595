"""Two processes that work as the ranks of a training, and what each returns."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

Found = dict[str, Any]


def of_two_ranks(script: str, folder: Path) -> list[Found]:
    """Run `script`, which calls `as_rank`, in two processes; return what each has found."""
    env = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": os.pathsep.join(sys.path)}
    argv = [sys.executable, script]
    processes = [
        subprocess.Popen([*argv, str(this), str(folder)], env=env, stderr=subprocess.PIPE, text=True)
        for this in range(2)
    ]
    try:
        for process in processes:
            _, words = process.communicate(timeout=120)
            assert process.returncode == 0, words
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    return [torch.load(folder / f"{this}.pt", weights_only=True) for this in range(2)]


def as_rank(find: Callable[[], Found]) -> None:
    """Call `find` in the process of a rank and save what it returns."""
    this, folder = int(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=this, world_size=2)
    torch.save(find(), folder / f"{this}.pt")
    dist.destroy_process_group()
