"""Measure the cost of vprep, against its goals and against the usual way of doing the same work (rival.py). Linux only.

    .venv/bin/python benchmarks/prep.py [--videos DIR] [--count 40] [--repeats 3] [--json]

Runs that are compared alternate on the same files, and a ratio is the median of the ratios of the rounds, so a slower
phase of the machine affects all of them. CPU is user and system time, including children.
"""

import argparse
import json
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import date
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import mean, median
from threading import Event
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from vprep.processors import processors
from vprep.settings import Settings
from vprep.sharding.estimate import BYTES_PER_PIXEL
from vprep.sharding.worker_pool import in_order
from vprep.video.ffmpeg import Ffmpeg, find, run
from vprep.video.transcode import command

RIVAL = str(Path(__file__).with_name("rival.py"))
CLASSES = 400

# Runs Python as `python -m NAME` or `python FILE` would, and writes down its usage when it ends.
WATCHED = """
import atexit, json, resource, runpy, sys
def note(path=sys.argv[1]):
    peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    info = {"children": spent.ru_utime + spent.ru_stime, "peak": int(peak) << 10, "torch": "torch" in sys.modules}
    with open(path, "w") as file:
        json.dump(info, file)
atexit.register(note)
name, sys.argv = sys.argv[2], sys.argv[2:]
(runpy.run_path if name.endswith(".py") else runpy.run_module)(name, run_name="__main__")
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One measured value; `most` or `least` is its goal, if it has one."""

    what: str
    value: float | str
    unit: str = ""
    most: float | None = None
    least: float | None = None

    @property
    def met(self) -> bool | None:
        if isinstance(self.value, str) or self.most is self.least is None:
            return None
        return self.value <= self.most if self.most is not None else self.value >= (self.least or 0)


Section = tuple[str, list[Row]]  # its title first
Spent = dict[str, list["Usage"]]  # for each kind of run, one usage per round


@dataclass(frozen=True, slots=True)
class Usage:
    """Time and memory of a run; `own` (CPU) and `peak` (memory) are those of its first process alone."""

    wall: float
    cpu: float
    own: float = 0.0
    peak: int = 0
    torch: bool = False
    output: str = ""


@dataclass(frozen=True, slots=True)
class Bench:
    """The files of all measurements; the first `different` of them are no copies."""

    work: Path
    videos: Path
    count: int
    different: int
    repeats: int
    ffmpeg: Ffmpeg

    @property
    def files(self) -> list[Path]:
        return sorted(self.videos.iterdir())


def watched(*words: str) -> Usage:
    """Run a Python module or file in a process of its own and return its usage, including its children."""
    with tempfile.NamedTemporaryFile() as note, tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        argv = [sys.executable, "-c", WATCHED, note.name, *words]
        began = time.monotonic()
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=errors)
        _, status, spent = os.wait4(process.pid, 0)
        wall = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            errors.seek(0)
            sys.exit(f"{' '.join(words)} ended with {process.returncode}:\n{errors.read().decode()}")
        info = json.loads(note.read())
        output.seek(0)
        cpu = spent.ru_utime + spent.ru_stime
        return Usage(wall, cpu, cpu - info["children"], info["peak"], info["torch"], output.read().decode())


def ffmpegs(bench: Bench, argv_of: Callable[[Path], list[str]], *, workers: int = 1, pinned: bool) -> Usage:
    """Run ffmpeg alone on each video: pinned to a processor as in the sharder, or wherever the system puts it."""

    def one(path: Path) -> int:
        return run(argv_of(path), timeout=300).code

    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    if pinned:
        codes = list(in_order(one, bench.files, workers=workers, size=lambda _: 0, stop=Event()))
    else:
        with ThreadPoolExecutor(workers) as pool:
            codes = list(pool.map(one, bench.files))
    wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if any(codes):
        sys.exit("ffmpeg failed on one of the videos")
    return Usage(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def ratio(above: list[Usage], below: list[Usage], what: str = "cpu") -> float:
    """Return the median of the ratios of the rounds; in each round both ran shortly after one another."""
    return median(float(getattr(a, what)) / float(getattr(b, what)) for a, b in zip(above, below, strict=True))


def median_of(spent: list[Usage], what: str) -> float:
    """Return the median over the rounds."""
    return median(float(getattr(usage, what)) for usage in spent)


def shard(videos: Path, out: Path, workers: int, *more: str) -> Usage:
    shutil.rmtree(out, ignore_errors=True)
    return watched("vprep.cli", "shard", str(videos), "--out", str(out), "--workers", str(workers), "--json", *more)


def rounds(bench: Bench) -> Spent:
    """Run everything that is compared, alternating in each round."""
    single, out, tar = bench.work / "single", bench.work / "other-set", str(bench.work / "rival.tar")
    single.mkdir()
    (single / bench.files[0].name).symlink_to(bench.files[0].resolve())

    def decode(path: Path) -> list[str]:
        argv = [bench.ffmpeg.path, "-nostdin", "-v", "error", "-threads", "1", "-i", f"file:{path}"]
        return [*argv, "-map", "0:v:0", "-f", "null", "-"]

    make = partial(command, settings=Settings(), ffmpeg=bench.ffmpeg, start=None, end=None)
    jobs: dict[str, Callable[[], Usage]] = {
        "start": lambda: shard(single, out, 1),
        "decode": lambda: ffmpegs(bench, decode, pinned=True),
        "decode spread": lambda: ffmpegs(bench, decode, pinned=False),
        "one": lambda: shard(bench.videos, bench.work / "set", 1),
        "rival start": lambda: watched(RIVAL, "pack", str(single), tar),
        "rival": lambda: watched(RIVAL, "pack", str(bench.videos), tar),
        "rival threads": lambda: watched(RIVAL, "pack", str(bench.videos), tar, "--threads", "0"),
    }
    if len(processors()) > 1:
        jobs["two"] = lambda: shard(bench.videos, out, 2)
        jobs["pinned"] = lambda: ffmpegs(bench, make, workers=2, pinned=True)
        jobs["spread"] = lambda: ffmpegs(bench, make, workers=2, pinned=False)
    _ = jobs["start"](), jobs["decode"]()  # files into memory, modules compiled
    spent: Spent = {name: [] for name in jobs}
    for number in range(bench.repeats):
        for name, job in jobs.items():
            print(f"round {number + 1} of {bench.repeats}: {name}", file=sys.stderr)
            spent[name].append(job())
    return spent


def further(many: list[Usage], single: list[Usage], count: int, what: str = "cpu") -> float:
    """Return the cost of each video after the first one, which leaves out the cost of starting."""
    return (median_of(many, what) - median_of(single, what)) / max(1, count - 1)


def cpu_section(bench: Bench, spent: Spent) -> Section:
    one, start, count = spent["one"], spent["start"], bench.count
    own, each = median_of(one, "own"), further(one, start, count, "own")
    decoded = median_of(spent["decode"], "cpu") / count
    children = (median_of(one, "cpu") - own) / count
    return "1. CPU of the sharder", [
        Row("sharder / only decoding", ratio(one, spent["decode"]), "x", most=1.8),
        Row("sharder / only decoding, that spread over all processors", ratio(one, spent["decode spread"]), "x"),
        Row("sharder / only decoding, each further video (start left out)", further(one, start, count) / decoded, "x"),
        Row("sharder, one worker: CPU of a video", 1000 * median_of(one, "cpu") / count, "ms"),
        Row("only decoding, on one processor: CPU of a video", 1000 * decoded, "ms"),
        Row("ffmpeg's part of the sharder's", 1000 * children, "ms"),
        Row("Python's part, start included", 1000 * own / count, "ms"),
        Row("Python's part, each further video", 1000 * each, "ms"),
        Row("start: Python's CPU of a run on one video", 1000 * median_of(start, "own"), "ms"),
        Row("processors that one sharder can feed", children / max(each, 1e-6)),
    ]


def speed_section(bench: Bench, spent: Spent) -> Section:
    if "two" not in spent:
        return "2. Two workers", [Row("not measured", "one processor")]
    return "2. Two workers", [
        Row("one worker / two workers, wall", ratio(spent["one"], spent["two"], "wall"), "x", least=1.8),
        Row("one worker: wall", median_of(spent["one"], "wall"), "s"),
        Row("two workers: wall", median_of(spent["two"], "wall"), "s"),
        Row("only the ffmpegs, unpinned / pinned: wall", ratio(spent["spread"], spent["pinned"], "wall"), "x", least=1),
        Row("only the ffmpegs, unpinned / pinned: CPU", ratio(spent["spread"], spent["pinned"]), "x", least=1),
        Row("only the ffmpegs, pinned: wall", median_of(spent["pinned"], "wall"), "s"),
        Row("only the ffmpegs, unpinned: wall", median_of(spent["spread"], "wall"), "s"),
    ]


def bytes_section(info: dict[str, float]) -> Section:
    return "3. Stored frames", [
        Row("bytes of a frame", info["frame_bytes"], "B"),
        Row("PSNR of luma against the frames before JPEG, mean", info["psnr"], "dB"),
        Row("the same, worst frame", info["worst"], "dB"),
        Row("bytes of a pixel", info["pixel_bytes"], "B"),
        Row("bytes of a pixel that the estimate of shards assumes", BYTES_PER_PIXEL, "B"),
        Row("estimate / measured", BYTES_PER_PIXEL / info["pixel_bytes"], "x"),
    ]


def rival_section(bench: Bench, spent: Spent, ours: dict[str, float]) -> Section:
    """Compare with the usual way at quality 90, and at the qualities closest to vprep's in bytes and in PSNR."""
    theirs = json.loads(spent["rival"][0].output)
    scan = json.loads(watched(RIVAL, "scan", str(bench.videos), str(bench.different)).output)
    usual = next(row for row in scan if row["quality"] == 90)
    like_bytes = min(scan, key=lambda row: abs(row["frame_bytes"] - ours["frame_bytes"]))
    like_psnr = min(scan, key=lambda row: abs(row["psnr"] - ours["psnr"]))
    overhead = (theirs["tar_bytes"] - theirs["jpeg_bytes"]) / theirs["frames"]
    on_disk = (like_psnr["frame_bytes"] + overhead) / (ours["tar_bytes"] / ours["frames"])
    workers = "two" if "two" in spent else "one"
    cpu = ratio(spent["rival"], spent["one"])
    one, each = (further(spent[a], spent[b], bench.count) for a, b in (("one", "start"), ("rival", "rival start")))
    worse = [name for name, value in (("CPU", cpu), ("bytes", on_disk)) if value < 1]
    return "4. The usual way (OpenCV, quality 90, one tar member per frame) / vprep", [
        Row("is vprep ahead, in CPU and in bytes at similar PSNR", f"NO: {', '.join(worse)}" if worse else "yes"),
        Row("CPU, both on one processor", cpu, "x", least=1),
        Row("the same, each further video (start left out)", each / one, "x", least=1),
        Row("wall, both on one processor", ratio(spent["rival"], spent["one"], "wall"), "x", least=1),
        Row(
            "CPU, OpenCV with its own threads, vprep with all workers",
            ratio(spent["rival threads"], spent[workers]),
            "x",
            least=1,
        ),
        Row("wall, the same", ratio(spent["rival threads"], spent[workers], "wall"), "x", least=1),
        Row("CPU of a video, the usual way", 1000 * median_of(spent["rival"], "cpu") / bench.count, "ms"),
        Row("bytes on disk, quality 90", theirs["tar_bytes"] / ours["tar_bytes"], "x"),
        Row(f"bytes on disk at similar PSNR (quality {like_psnr['quality']:g})", on_disk, "x", least=1),
        Row("tar's own bytes for a frame, the usual way", overhead, "B"),
        Row("tar's own bytes for a frame, vprep", ours["tar_bytes"] / ours["frames"] - ours["frame_bytes"], "B"),
        Row("frames, the usual way / vprep", theirs["frames"] / ours["frames"], "x"),
        Row("PSNR, vprep", ours["psnr"], "dB"),
        Row("PSNR, quality 90", usual["psnr"], "dB"),
        Row(f"PSNR at similar bytes of JPEG (quality {like_bytes['quality']:g})", like_bytes["psnr"], "dB"),
    ]


def import_section(bench: Bench) -> Section:
    """Measure the import of the usual writer of such tars; both include Python's start, and vprep.format pyarrow."""
    found: Spent = {"webdataset.writer": [], "vprep.format": []}
    for _ in range(bench.repeats):
        for name, spent in found.items():
            spent.append(watched(name))
    cpu = ratio(found["webdataset.writer"], found["vprep.format"])
    rows = [Row("webdataset.writer / vprep.format: CPU", cpu, "x", least=1)]
    for name, spent in found.items():
        rows += [
            Row(f"import {name}: CPU", 1000 * median_of(spent, "cpu"), "ms"),
            Row(f"import {name}: memory", median_of(spent, "peak") / 1e6, "MB"),
            Row(f"import {name}: loads torch", "yes" if spent[0].torch else "no"),
        ]
    return "5. Why the sharder writes its tars itself", rows


def plan_section(bench: Bench, files: int) -> Section:
    folder = bench.work / "empty-files"
    for number in range(files):
        path = folder / f"class {number % CLASSES:03d}" / f"video_{number:07d}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    usage = watched("vprep.cli", "plan", str(folder), "--json")
    return f"6a. Planning {files} videos in {CLASSES} classes", [
        Row("videos found", json.loads(usage.output)["videos"], least=files),
        Row("wall", usage.wall, "s", most=60),
        Row("memory, peak", usage.peak / 1e6, "MB", most=1000),
    ]


def memory_section(bench: Bench, videos: int) -> Section:
    clip, peaks = bench.work / "small.mp4", []
    argv = [bench.ffmpeg.path, "-v", "error", "-f", "lavfi", "-i", "testsrc2=size=160x120:rate=25:duration=2"]
    subprocess.run([*argv, "-pix_fmt", "yuv420p", str(clip)], check=True)
    for times in (1, 4):
        folder = bench.work / f"small-{times}"
        folder.mkdir()
        for number in range(times * videos):
            (folder / f"{number:06d}.mp4").hardlink_to(clip)
        # The shards have equal sizes, and only their number grows: a shard's rows are held until it is complete.
        out, shards = bench.work / f"small-set-{times}", str(4 * times)
        peaks.append(shard(folder, out, len(processors()), "--shards", shards).peak / 1e6)
    return "6b. Memory of the sharder's own process", [
        Row(f"peak with {videos} videos", peaks[0], "MB"),
        Row(f"peak with {4 * videos} videos", peaks[1], "MB"),
        Row("growth", peaks[1] / peaks[0], "x", most=1.1),
    ]


def heading(bench: Bench, load: tuple[float, float, float]) -> dict[str, Any]:
    models = re.findall(r"^model name\s*: (.*)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "date": date.today().isoformat(),
        "processor": models[0] if models else platform.machine(),
        "processors": len(processors()),
        "load_before": [round(value, 2) for value in load],
        "vprep": version("playspeed"),
        "ffmpeg": bench.ffmpeg.version,
        "opencv": version("opencv-python-headless"),
        "python": platform.python_version(),
        "videos": bench.count,
        "different_videos": bench.different,
        "video_bytes": round(mean(path.stat().st_size for path in bench.files)),
        "repeats": bench.repeats,
    }


def measure(bench: Bench, args: argparse.Namespace) -> list[Section]:
    spent = rounds(bench)
    stored = watched(RIVAL, "stored", str(bench.videos), str(bench.different), "--of", str(bench.work / "set"))
    info = json.loads(stored.output)
    if info["videos"] != bench.count:
        sys.exit(f"{bench.count - info['videos']} videos failed; the comparison needs files without damage")
    sections = [cpu_section(bench, spent), speed_section(bench, spent), bytes_section(info)]
    sections += [rival_section(bench, spent, info), import_section(bench)]
    if args.plan_files:
        sections.append(plan_section(bench, args.plan_files))
    if args.memory:
        sections.append(memory_section(bench, args.memory))
    return sections


def show(info: dict[str, Any], sections: list[Section]) -> None:
    """Print the results as tables."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    console.print("  ".join(f"{name} {value}" for name, value in info.items()), markup=False)
    for title, rows in sections:
        right = [Column(name, justify="right") for name in ("", "goal", "met")]
        table = Table("measured", *right, title=title, title_justify="left", width=104)
        for row in rows:
            value = row.value if isinstance(row.value, str) else f"{row.value:{'.0f' if row.value >= 100 else '.3g'}}"
            goal = f"<= {row.most:g}" if row.most is not None else f">= {row.least:g}" if row.least is not None else ""
            table.add_row(row.what, f"{value} {row.unit}", goal, {None: "", True: "yes", False: "NO"}[row.met])
        console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--videos", type=Path, help="folder of videos [default: videos made for the purpose]")
    parser.add_argument("--count", type=int, default=40, help="number of files, repeated when there are fewer videos")
    parser.add_argument("--repeats", type=int, default=3, help="number of rounds")
    parser.add_argument("--plan-files", type=int, default=250_000, metavar="N", help="files to plan; 0 skips this")
    parser.add_argument("--memory", type=int, default=200, metavar="N", help="small videos, and then 4 N; 0 skips this")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    args = parser.parse_args()
    load = os.getloadavg()
    with tempfile.TemporaryDirectory(prefix="vprep-benchmark-") as name:
        work = Path(name)
        given = ["--of", str(args.videos)] if args.videos else []
        gathered = json.loads(watched(RIVAL, "gather", str(work / "videos"), str(args.count), *given).output)
        bench = Bench(work, work / "videos", args.count, gathered["different"], args.repeats, find())
        info, sections = heading(bench, load), measure(bench, args)
    if args.json:
        rows = [{"title": title, "rows": [asdict(row) | {"met": row.met} for row in rows]} for title, rows in sections]
        print(json.dumps(info | {"sections": rows}))
    else:
        show(info, sections)


if __name__ == "__main__":
    main()
