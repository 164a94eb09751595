"""Show on one GPU, in at most eight minutes, that training is right, fast, fed and learns; nothing needs installing.

    python benchmarks/gpu.py --out results                         # all phases
    python benchmarks/gpu.py --out results --only right,fast       # these; rows of other phases stay
    python benchmarks/gpu.py --out results --only fed,learned --clips ucf101    # real videos instead of made ones

right     `pytest -m gpu`: losses, resume, augmentation, features, testing and fine-tuning as on the CPU
fast      forward and backward of each backbone by precision, layout, kernels, stem and compiler (gpu_fast.py)
fed       RSPNet with R(2+1)D from shards, beside steps from memory and as published code runs them (gpu_fed.py)
learned   Pace and RSPNet, on 640 small made videos: retrieval and fine-tuning, beside scratch (gpu_learned.py)

Each phase is a process of its own, which is ended at its limit. What it wrote until then stays: OUT/rows.jsonl has a
row for each measurement, OUT/PHASE.log what the phase printed, and OUT/table.md all tables, for benchmarks/LOG.md.
`--device cpu --small` runs the same on a CPU in less than a minute; its numbers say nothing.
"""

import argparse
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

from gpu_results import Results, last_lines

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
LIMITS = {"right": 130.0, "fast": 120.0, "fed": 80.0, "learned": 150.0}  # seconds; together eight minutes
SOURCES = ("prep", "train", "eval")
# What the package's own requirements need, and the tests.
MORE = ("braceexpand", "future", "pyyaml", "pytest>=8", "hypothesis")
GRACE = 3.0  # seconds that an ended phase has to leave


def project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return found


def packages() -> tuple[list[str], list[str]]:
    """Return the requirements that are not installed, and those of which an older version is."""
    missing, old = [], []
    for line in (*project()["dependencies"], *MORE):
        name, _, least = line.partition(">=")
        try:
            there = metadata.version(name)
        except metadata.PackageNotFoundError:
            missing.append(line)
            continue
        if numbers(there) < numbers(least):
            old.append(f"{line} ({there})")
    return missing, old


def numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)[:3]]


def stand_in(work: Path) -> Path:
    """Write what the package asks an installation for, its version and its requirements; return the folder."""
    known = project()
    folder = work / "installed" / f"{known['name']}-{known['version']}.dist-info"
    folder.mkdir(parents=True)
    lines = ["Metadata-Version: 2.1", f"Name: {known['name']}", f"Version: {known['version']}"]
    lines += [f"Requires-Dist: {line}" for line in known["dependencies"]]
    (folder / "METADATA").write_text("\n".join(lines) + "\n")
    return folder.parent


def environment(work: Path) -> dict[str, str]:
    """Return the environment of a phase, in which the packages of this tree are found."""
    paths = [*(str(ROOT / name) for name in SOURCES), str(HERE), str(stand_in(work)), os.environ.get("PYTHONPATH", "")]
    own = {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_WAIT_POLICY": "PASSIVE", "PYTHONUNBUFFERED": "1"}
    return os.environ | own


def run_phase(name: str, words: list[str], limit: float, results: Results, env: dict[str, str]) -> None:
    """Run a phase in its own processes, which all end when the limit is reached; note how it ended."""
    log, began = results.folder / f"{name}.log", time.monotonic()
    argv = [sys.executable, str(HERE / f"gpu_{name}.py"), *words, "--limit", str(limit)]
    with log.open("w") as output:
        process = subprocess.Popen(argv, stdout=output, stderr=output, cwd=ROOT, env=env, start_new_session=True)
        try:
            ended = "done" if process.wait(limit) == 0 else f"failed ({process.returncode})"
        except subprocess.TimeoutExpired:
            ended = "out of time"
        finally:
            end_group(process)
    said = "" if ended == "done" else last_lines(log)
    results.add("phases", phase=name, ended=ended, seconds=round(time.monotonic() - began, 1), limit=limit, said=said)


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End the process and all that it has started."""
    for number, wait in ((signal.SIGTERM, GRACE), (signal.SIGKILL, GRACE)):
        try:
            os.killpg(process.pid, number)
            process.wait(wait)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def driver() -> str:
    try:
        words = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        return subprocess.run(words, capture_output=True, text=True, timeout=20).stdout.strip().splitlines()[0]
    except (OSError, IndexError, subprocess.TimeoutExpired):
        return "unknown"


def heading(device: str) -> dict[str, object]:
    import torch

    cuda = device == "cuda"
    return {
        "date": time.strftime("%Y-%m-%d"),
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "driver": driver() if cuda else "",
        "processors": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda or "",
        "cudnn": torch.backends.cudnn.version() if cuda else "",
    }


def limits_of(words: list[str]) -> dict[str, float]:
    """Return the limits with those of words such as fast=200."""
    changed = {name: float(seconds) for name, _, seconds in (word.partition("=") for word in words)}
    if not changed.keys() <= LIMITS.keys():
        raise ValueError
    return LIMITS | changed


def read_words() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("gpu-results"), help="folder for the results")
    parser.add_argument("--only", default=",".join(LIMITS), help="phases to run, as in right,fast")
    parser.add_argument("--limit", nargs="*", default=[], metavar="PHASE=SECONDS", help="other limits of phases")
    parser.add_argument("--clips", type=Path, help="folder of real videos, to use instead of made ones")
    parser.add_argument(
        "--methods", nargs="+", choices=["pace", "rspnet"], default=["pace", "rspnet"], help="of `learned`"
    )
    parser.add_argument("--work", type=Path, help="folder for videos and shards (default: a temporary one)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--small", action="store_true", help="few videos and steps, to try the program")
    args = parser.parse_args()
    args.only = args.only.split(",")
    if unknown := [name for name in args.only if name not in LIMITS]:
        parser.error(f"no phase '{unknown[0]}'; there are {', '.join(LIMITS)}")
    try:
        args.limit = limits_of(args.limit)
    except ValueError:
        parser.error(f"--limit is a phase and its seconds, as in fast=200; the phases are {', '.join(LIMITS)}")
    return args


def main() -> None:
    args = read_words()
    missing, old = packages()
    if missing:
        sys.exit(f"packages are missing: {' '.join(missing)}; install them, or name their folder in PYTHONPATH")
    if old:
        print(f"packages are older than the tested ones: {', '.join(old)}", file=sys.stderr)
    args.out.mkdir(parents=True, exist_ok=True)
    results = Results(args.out.resolve())
    results.add("heading", **heading(args.device))
    with tempfile.TemporaryDirectory(prefix="vtrain-gpu-") as name:
        work = (args.work or Path(name)).resolve()
        words = ["--out", str(results.folder), "--work", str(work), "--device", args.device]
        words += [
            "--methods",
            *args.methods,
            *(["--small"] if args.small else []),
            *(["--clips", str(args.clips.resolve())] if args.clips else []),
        ]
        env = environment(Path(name))
        for phase in args.only:
            print(f"{phase}: at most {args.limit[phase]:.0f} s", file=sys.stderr, flush=True)
            run_phase(phase, words, args.limit[phase], results, env)
            results.write_tables()
    print(results.markdown())
    sys.exit(any(row["ended"] != "done" for row in results.rows("phases") if row["phase"] in args.only))


if __name__ == "__main__":
    main()
