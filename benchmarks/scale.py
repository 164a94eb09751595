"""Measure training from an object store against training from a disk, and model many machines from what is measured.

    .venv/bin/python benchmarks/scale.py [--source DIR] [--videos 160] [--rounds 3] [--steps 40] [--step-ms 200]

The store is moto's S3 server on this machine, which shares its processors, so its bandwidth is a lower bound. A step of
a GPU is a pause of --step-ms. Disk, empty cache and full cache take turns. What is modelled is printed as a model, with
its constants. benchmarks/scale_engines.py measures the engines that make shards.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from vprep.format import DATASET
from vprep.store import Location, Store
from vtrain.data import Batch, Loader, OneClip, ShardSet
from vtrain.data.augment import AugmentConfig
from vtrain.data.cache.ahead import THREADS
from vtrain.data.cache.place import GB, CachePlace

SERVER = Path(__file__).parent.parent / "tests" / "support" / "store_process.py"
PER_CLASS, SECONDS = 20, 10.0  # of the videos, as long as those of Kinetics
SHARDS = 16
VIDEOS = (".mp4", ".avi")
GPU_STEP, GPU_BATCH = 0.203, 64  # RSPNet with R(2+1)D on one GPU, benchmarks/LOG.md
SETS = {"Kinetics-400": 260_000, "Kinetics-700": 650_000}  # videos
MACHINES = (1, 10, 100, 1000)
STORE_TAKES = 10_000  # MB/s that the store reads and writes together, for all machines
STORE_SPEEDS = (100, 250, 500, 1000)  # MB/s to one machine


@dataclass(frozen=True, slots=True)
class Fed:
    """How a loop with pauses was fed."""

    first: float  # seconds until the first batch
    wait: float  # milliseconds of waiting in a step, the mean of all steps after the first


@dataclass(frozen=True, slots=True)
class Constants:
    """What the models are made of."""

    cpu: float  # seconds of a processor to shard a video
    source: float  # bytes of a source
    stored: float  # bytes of a video in its shard
    fetched: float  # MB/s of shards into an empty cache


@contextmanager
def server() -> Iterator[None]:
    """Let this process reach an empty S3 server with the bucket `scale`."""
    argv = [sys.executable, str(SERVER)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        port = json.loads(next(iter(process.stdout or ())))["direct"]
        os.environ |= {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ACCESS_KEY_ID": "key", "AWS_REGION": "us-east-1",
            "AWS_SECRET_ACCESS_KEY": "none", "AWS_ALLOW_HTTP": "true",
        }  # fmt: skip
        subprocess.run(["curl", "-sSf", "-X", "PUT", f"http://127.0.0.1:{port}/scale"], check=True)
        yield
        process.kill()


def vprep(*words: object) -> float:
    """Run a command; return the CPU time of its processes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    argv = [sys.executable, "-m", "vprep", *map(str, words)]
    subprocess.run(argv, check=True, capture_output=True, stdin=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def sources(folder: Path, videos: int, given: Path | None) -> None:
    """Make videos in a folder, or copies of the given ones."""
    if given is None:
        classes = max(1, videos // PER_CLASS)
        vprep("synth", "--out", folder, "--classes", classes, "--per-class", PER_CLASS, "--seconds", SECONDS)
        return
    clips = sorted(path for path in given.rglob("*") if path.suffix in VIDEOS)
    folder.mkdir()
    for number in range(videos):
        clip = clips[number % len(clips)]
        shutil.copy(clip, folder / f"v{number:04}{clip.suffix}")


def made(work: Path, videos: int, given: Path | None) -> tuple[Path, float, float]:
    """Make a set; return its folder, the CPU seconds of sharding a video, and the mean bytes of a source."""
    source, out = work / "videos", work / "set"
    sources(source, videos, given)
    cpu = vprep("shard", source, "--out", out, "--shards", SHARDS)
    files = [path.stat().st_size for path in source.rglob("*") if path.suffix in VIDEOS]
    return out, cpu / len(files), sum(files) / len(files)


def put(folder: Path) -> str:
    """Copy a set into the store; return its URL."""
    store = Store(Location.parse("s3://scale/set"))
    for path in sorted(folder.iterdir()):
        if path.name != DATASET and path.is_file():
            store.put(path.name, path)
    store.put(DATASET, folder / DATASET)
    return str(store.location)


def batches_of(loader: Loader) -> Generator[Batch, None, None]:
    """Yield the loader's batches; closing this ends its workers."""
    yield from loader


def fed(spec: str, place: CachePlace, args: argparse.Namespace) -> Fed:
    """Take batches as a training does whose steps are pauses."""
    plan = OneClip(frames=16, looks=(AugmentConfig(size=112),))
    began = time.perf_counter()
    videos = ShardSet.open(spec, place).select()
    batches = batches_of(Loader(videos, plan, batch=args.batch, workers=1))
    next(batches)
    first, waits = time.perf_counter() - began, []
    for _ in range(args.steps - 1):
        time.sleep(args.step_ms / 1000)
        asked = time.perf_counter()
        next(batches)
        waits.append(1000 * (time.perf_counter() - asked))
    batches.close()
    return Fed(first, sum(waits) / len(waits))


def fetch_rate(url: str, place: CachePlace, size: int) -> float:
    """Return the MB/s at which one reader fills an empty cache while it reads nothing."""
    plan = OneClip(frames=1, looks=(AugmentConfig(size=16),))
    batches = batches_of(Loader(ShardSet.open(url, place).select(), plan, batch=1))
    began = time.perf_counter()
    next(batches)
    shards = place.path / "shards"
    while len(list(shards.glob("*.tar"))) < SHARDS:
        time.sleep(0.005)
    spent = time.perf_counter() - began
    batches.close()
    return size / spent / 1e6


def in_turns(folder: Path, url: str, work: Path, args: argparse.Namespace) -> dict[str, list[Fed]]:
    """Return what each source gave in each round; the full cache is what the empty one has become."""
    found: dict[str, list[Fed]] = {"disk": [], "store, empty cache": [], "store, full cache": []}
    for number in range(args.rounds):
        place = CachePlace(work / f"cache{number}", 100 * GB)
        found["disk"].append(fed(str(folder), place, args))
        found["store, empty cache"].append(fed(url, place, args))
        found["store, full cache"].append(fed(url, place, args))
        shutil.rmtree(place.path)
    return found


def measured_lines(found: dict[str, list[Fed]], args: argparse.Namespace) -> list[str]:
    title = f"steps of {args.step_ms} ms (a pause), batch {args.batch}, one worker, medians of {args.rounds} rounds"
    lines = [f"Measured: {title}", "", "| source | first batch, s | wait, ms a step |", "|---|---|---|"]
    for name, runs in found.items():
        first, wait = median(run.first for run in runs), median(run.wait for run in runs)
        lines.append(f"| {name} | {first:.2f} | {wait:.1f} |")
    return lines


def wait_lines(stored: float) -> list[str]:
    """Model: a GPU waits where its batch comes slower than it computes."""
    needed = GPU_BATCH * stored / GPU_STEP / 1e6
    lines = [
        f"Model: one GPU, step {1000 * GPU_STEP:.0f} ms, batch {GPU_BATCH}, {stored / 1e6:.2f} MB a video, nothing "
        f"in the cache; it needs {needed:.0f} MB/s. wait = max(0, batch * bytes / speed - step)",
        "", "| store to machine, MB/s | wait, ms a step | share of the time |", "|---|---|---|",
    ]  # fmt: skip
    for speed in STORE_SPEEDS:
        wait = max(0.0, GPU_BATCH * stored / (speed * 1e6) - GPU_STEP)
        lines.append(f"| {speed} | {1000 * wait:.0f} | {wait / (wait + GPU_STEP):.0%} |")
    return lines


def machine_lines(constants: Constants, args: argparse.Namespace) -> list[str]:
    """Model: shards by many machines, all of them busy, and a store that keeps up."""
    rate = args.cores / constants.cpu  # videos/s of a machine
    sizes = f"{constants.source / 1e6:.2f} MB of source and {constants.stored / 1e6:.2f} MB of shard a video"
    lines = [
        f"Model: machines of {args.cores} processors, {constants.cpu:.3f} s of a processor, {sizes}, "
        f"{args.core_hour} $ for a processor's hour; linear in the machines, without their start",
        "",
        f"| set | machines | hours | read, MB/s | written, MB/s | hours, where the store moves {STORE_TAKES:,} MB/s | "
        "$ a 1,000 videos, by hours of processors |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, videos in SETS.items():
        for count in MACHINES:
            hours = videos / (rate * count) / 3600
            read, written = (rate * count * size / 1e6 for size in (constants.source, constants.stored))
            bound = max(hours, videos * (constants.source + constants.stored) / (STORE_TAKES * 1e6) / 3600)
            cost = 1000 * bound * args.cores * count * args.core_hour / videos
            lines.append(
                f"| {name} | {count:,} | {hours:.3g} | {read:,.0f} | {written:,.0f} | {bound:.3g} | {cost:.4f} |"
            )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option, default in {"videos": 160, "rounds": 3, "steps": 40, "step-ms": 200, "batch": 16, "cores": 16}.items():
        parser.add_argument(f"--{option}", type=int, default=default)
    parser.add_argument("--core-hour", type=float, default=0.04, help="dollars, of which the model makes costs")
    parser.add_argument("--source", type=Path, help="folder of videos that are copied, instead of made ones")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, server():
        work = Path(name)
        folder, cpu, source = made(work, args.videos, args.source)
        url = put(folder)
        size = sum(path.stat().st_size for path in folder.glob("*.tar"))
        rates = [fetch_rate(url, CachePlace(work / f"rate{turn}", 100 * GB), size) for turn in range(args.rounds)]
        found = in_turns(folder, url, work, args)
    constants = Constants(cpu, source, size / args.videos, median(rates))
    fetched = f"Measured: an empty cache fills at {constants.fetched:.0f} MB/s ({THREADS} threads of one reader, load "
    parts = [
        measured_lines(found, args), [f"{fetched}{os.getloadavg()[0]:.1f})"], wait_lines(constants.stored),
        machine_lines(constants, args),
    ]  # fmt: skip
    print("\n\n".join("\n".join(part) for part in parts))


if __name__ == "__main__":
    main()
