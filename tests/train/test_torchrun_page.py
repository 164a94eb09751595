"""The script of docs/clusters.md for two nodes, with stand-ins for SLURM: two real torchruns are the nodes."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_recipes import saved, until

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SMALL = ("--recipe", "tiny", "frames=4", "size=16", "batch=4", "workers=0", "log_every=1", "save_every=3")

# srun starts its command on each node, which is a session here; its end with an error ends the others.
SRUN = """#!/usr/bin/env python
import os, signal, subprocess, sys, time
from pathlib import Path
words = [word for word in sys.argv[1:] if not word.startswith("--kill-on-bad-exit")]
nodes = [subprocess.Popen(words, start_new_session=True) for _ in range(int(os.environ["SLURM_NNODES"]))]
Path("nodes").write_text(" ".join(str(node.pid) for node in nodes))
while None in (codes := [node.poll() for node in nodes]):
    if any(codes):
        for node in nodes:
            node.terminate()
    time.sleep(0.1)
sys.exit(max(map(abs, codes)))
"""
STAND_INS = {
    "srun": SRUN,
    "scontrol": '#!/bin/sh\ncase "$1" in show) printf "127.0.0.1\\n127.0.0.1\\n";; *) echo "$*" >> requeued;; esac\n',
    "scancel": "#!/bin/sh\nkill -TERM $(cat nodes)\n",
    "torchrun": f'#!/bin/sh\nexec "{sys.executable}" -m torch.distributed.run "$@"\n',
}


@pytest.fixture
def job(shards: Path, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a job of two nodes with a GPU each, in a folder with the page's script."""
    page = (ROOT / "docs" / "clusters.md").read_text().partition("## Training and evaluation over nodes")[2]
    (script,) = re.findall(r"```bash\n(#!/bin/bash\n.*?)```", page, re.DOTALL)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "train.sh").write_text(script.replace(":29500", f":{port}"))
    for name, text in STAND_INS.items():
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    yield os.environ | {
        "PATH": f"{tmp_path / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}", "SHARDS": str(shards),
        "SLURM_JOB_ID": "77", "SLURM_JOB_NODELIST": "node[1-2]", "SLURM_NNODES": "2", "SLURM_GPUS_ON_NODE": "1",
        "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "PYTHONUNBUFFERED": "1",
    }  # fmt: skip
    for node in nodes(tmp_path) if (tmp_path / "nodes").exists() else []:
        kill_node(node)


def started(job: dict[str, str], folder: Path) -> subprocess.Popen[str]:
    with (folder / "log").open("a") as log:
        words = ["bash", "train.sh", "steps=100000", *SMALL]
        return subprocess.Popen(words, cwd=folder, env=job, stdout=log, stderr=log, stdin=subprocess.DEVNULL)


def nodes(folder: Path) -> list[int]:
    return [int(word) for word in (folder / "nodes").read_text().split()]


def kill_node(node: int) -> None:
    """Kill a torchrun and its ranks at once, as the end of a machine does."""
    found = subprocess.run(["pgrep", "-P", str(node)], capture_output=True, text=True).stdout.split()
    for number in (node, *map(int, found)):
        try:
            os.kill(number, signal.SIGKILL)
        except ProcessLookupError:
            continue


def step_of(folder: Path) -> int:
    path = folder / "runs" / "rspnet" / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return int(json.loads(lines[-1])["step"]) if lines else 0


def test_the_script_saves_at_the_time_limit_goes_on_and_ends_when_a_node_is_lost(
    job: dict[str, str], tmp_path: Path
) -> None:
    first = started(job, tmp_path)
    until(lambda: step_of(tmp_path) >= 4, 120)
    first.send_signal(signal.SIGTERM)  # of SLURM, before the time limit
    assert first.wait(90) != 0
    log = (tmp_path / "log").read_text()
    run = tmp_path / "runs" / "rspnet"
    step = saved(run)["step"]
    assert f"vtrain: stopped at step {step} of 100000, which is saved; continue with: " in log
    assert (tmp_path / "requeued").read_text() == "requeue 77\n"

    second = started(job, tmp_path)
    until(lambda: step_of(tmp_path) >= step + 4, 120)
    kill_node(nodes(tmp_path)[1])
    assert second.wait(90) != 0
    after = (tmp_path / "log").read_text().removeprefix(log)
    (said,) = re.findall(r"^vtrain: .*", after, re.MULTILINE)
    assert re.match(r"vtrain: (another process is gone|rank \d on \S+ cannot be reached any more)", said)
    assert saved(run)["step"] > step
    assert (tmp_path / "requeued").read_text() == "requeue 77\n"  # not again: SLURM itself does so after a lost node
