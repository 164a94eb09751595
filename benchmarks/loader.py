"""Speed and memory of the loader, against its goals and against the usual ways to the same clips (loader_rivals.py).
Linux only; decord and PyAV are measured where they are installed.

    .venv/bin/python benchmarks/loader.py [--videos DIR] [--count 24] [--repeats 3] [--only A,B,C,D,E] [--json]

A   one processor: this loader, bare JPEG decoding, webdataset with a tar member for each frame, decord, PyAV
B   memory of the workers, as epochs pass and as the index grows
C   time to the first batch, from the start and on resume
D   mixing of a set that is sorted by class
E   two workers against one, and the bytes that they pass on

Ways that are compared take turns on the same videos and frames, and a ratio is the median of the ratios of the turns,
so a machine that slows down does so for all. CPU is user and system time of all threads. Files are in the page cache.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
import pyarrow as pa

from prep import RIVAL, Bench, Row, Section, heading, show, watched
from vprep.format import DATASET, INDEX, read_dataset, shard_name, write_dataset
from vprep.index_rows import opened_index
from vprep.processors import processors
from vprep.sharding.assemble import IndexWriter, Totals, dataset_info
from vprep.tables import by_shard
from vprep.video.ffmpeg import find

RIVALS = str(Path(__file__).with_name("loader_rivals.py"))
PLANS = {"rspnet": "RSPNet, 2 windows of 32 frames", "ascnet": "ASCNet, 2 clips of 16 frames at speeds 4 and 8"}
PACKAGES = {  # package -> how it gets the clips, and how many times the loader's CPU it should take
    "webdataset": ("webdataset, a tar member for each frame", 2),
    "decord": ("decord on the source", 10),
    "av": ("PyAV on the source", 10),
}
SYNTH = (8, 32, 2)  # classes, videos of each, seconds
PER_SHARD = 160
RESUMED = 1.5  # epochs, at which the loader is resumed
SMALL = 8  # videos of a batch in loader_rivals.py; --count must be a multiple


def run_rivals(*words: object) -> Any:  # noqa: ANN401
    """Run a command of loader_rivals.py; return what it prints."""
    return json.loads(watched(RIVALS, *map(str, words)).said)


@cache
def source_set(bench: Bench) -> Path:
    """Shard the videos; return the folder of the set."""
    out = bench.work / "set"
    watched("vprep.cli", "shard", str(bench.videos), "--layout", "flat", "--out", str(out))
    failed = bench.count - read_dataset(out)["videos"]
    if failed:
        sys.exit(f"{failed} videos failed; give files that can all be used")
    return out


@cache
def short_set(bench: Bench) -> Path:
    """Make and shard many short videos; return the folder of the set."""
    made, out = bench.work / "short-videos", bench.work / "short-set"
    classes, each, seconds = map(str, SYNTH)
    options = ("--classes", classes, "--per-class", each, "--seconds", seconds)
    watched("vprep.cli", "synth", "--out", str(made), *options)
    watched("vprep.cli", "shard", str(made), "--out", str(out), "--shards", "4")
    return out


@cache
def large_set(bench: Bench, rows: int) -> Path:
    """Make a set of `rows` videos, whose shards are links to those of the short videos; return its folder."""
    few, out = short_set(bench), bench.work / "large-set"
    out.mkdir()
    info = read_dataset(few)
    known = {shard["name"]: shard for shard in info["shards"]}
    with opened_index(few) as index:
        tables = list(by_shard(index.batches()))
    totals, shards, count = Totals(), [], -(-rows // PER_SHARD)
    with (out / INDEX).open("wb") as file, IndexWriter(file) as index:
        for number in range(count):
            source, table = tables[number % len(tables)]
            name, size = shard_name(number, count), min(PER_SHARD, rows - number * PER_SHARD)
            table = table.take(np.arange(size) % len(table))
            table = table.set_column(table.schema.get_field_index("shard"), "shard", pa.array([name] * size))
            index.add(table)
            totals.add(table)
            (out / name).symlink_to(few / source)
            shards.append(known[source] | {"name": name, "videos": size})
    (out / DATASET).write_bytes(write_dataset(dataset_info(out, info["settings"], info["classes"], shards, totals)))
    return out


def core_section(bench: Bench, method: str) -> Section:
    tar = bench.work / "frames.tar"
    if not tar.exists():
        run_rivals("pack", source_set(bench), "--tar", tar)
    words = ("--videos", bench.videos, "--tar", tar, "--rounds", bench.repeats)
    found = run_rivals("core", source_set(bench), method, *words)
    turns, videos = found["turns"], found["videos"]

    def each(name: str, what: int) -> float:
        """Return milliseconds for a sample: CPU (0) or wall (1)."""
        return 1000 * median(turn[name][what] for turn in turns if name in turn) / videos

    def over(name: str, what: int) -> float:
        return median(turn[name][what] / turn["ours"][what] for turn in turns if name in turn)

    rows = [
        Row("this loader: samples a second", 1000 / each("ours", 1)),
        Row("this loader: CPU of a sample", each("ours", 0), "ms"),
        Row("frames that a sample shows", found["shape"][0] * found["shape"][1]),
        Row("of these, frames decoded", found["frames"]),
        Row("bare JPEG decoding / this loader, CPU", over("bare", 0), "x", least=0.85),
        Row("the same, wall", over("bare", 1), "x"),
        Row("bare JPEG decoding: CPU of a sample", each("bare", 0), "ms"),
    ]
    for name, (title, goal) in PACKAGES.items():
        if name not in found["differences"]:
            rows.append(Row(title, f"not measured: {name} is not installed"))
            continue
        rows += [
            Row(f"{title} / this loader, CPU", over(name, 0), "x", least=goal),
            Row("the same, wall", over(name, 1), "x"),
            Row(f"{title}: CPU of a sample", each(name, 0), "ms"),
            Row("mean difference of its pixels from this loader's", found["differences"][name], "of 255"),
        ]
    return f"A. One processor: {PLANS[method]}", rows


def memory_section(bench: Bench, rows: int) -> Section:
    few = read_dataset(short_set(bench))["videos"]
    sets = {few: short_set(bench), rows: large_set(bench, rows)}
    passes = {count: run_rivals("memory", folder, "--rows", few) for count, folder in sets.items()}

    def worker(count: int, what: str, number: int = -1) -> float:
        """Return the megabytes of a worker after a pass."""
        return mean(held[what] for held in passes[count][number]) / 1e6

    table = []
    for count in sets:
        table += [
            Row(f"{count} rows: memory of a worker after {len(passes[count])} passes", worker(count, "rss"), "MB"),
            Row("of that, its share (shared memory is divided)", worker(count, "pss"), "MB"),
            Row("of that, its own", worker(count, "own"), "MB"),
            Row(
                "after the last pass / after the first", worker(count, "rss") / worker(count, "rss", 0), "x", most=1.05
            ),
            Row("the same, its share", worker(count, "pss") / worker(count, "pss", 0), "x", most=1.05),
        ]
    table.append(Row(f"{rows} rows / {few} rows", worker(rows, "rss") / worker(few, "rss"), "x", most=1.05))
    for what, name in (("rss", "all"), ("pss", "its share"), ("own", "its own")):
        growth = worker(rows, what) - worker(few, what)
        table.append(Row(f"growth of a worker with the index, {name}", growth, "MB"))
        table.append(Row("the same, for each row", 1e6 * growth / (rows - few), "B"))
    return f"B. Memory of two workers; a pass is {few} samples", table


def first_section(bench: Bench, rows: int, batch: int) -> Section:
    jobs = {
        "start": (large_set(bench, rows), 0),
        "resume": (large_set(bench, rows), RESUMED),
        "few": (short_set(bench), 0),
    }
    spent: dict[str, list[dict[str, float]]] = {name: [] for name in jobs}
    for _ in range(bench.repeats):
        for name, (folder, position) in jobs.items():
            began = time.monotonic()  # the clock is the same in all processes
            spent[name].append(run_rivals("first", folder, "--batch", batch, "--position", position) | {"began": began})

    def took(name: str, begin: str, end: str = "first") -> float:
        return median(one[end] - one[begin] for one in spent[name])

    pairs = zip(spent["resume"], spent["start"], strict=True)
    resumed = median((a["first"] - a["imported"]) / (b["first"] - b["imported"]) for a, b in pairs)
    few = read_dataset(short_set(bench))["videos"]
    return f"C. First batch of {batch}, {rows} rows, two workers, a fresh process", [
        Row("from open_shards to the first batch", took("start", "imported"), "s", most=5),
        Row("with the start of Python and all imports", took("start", "began"), "s", most=5),
        Row("of that, the index", took("start", "imported", "opened"), "s"),
        Row(f"from open_shards to the first batch, {few} rows", took("few", "imported"), "s"),
        Row(f"the same on resume at {RESUMED} epochs", took("resume", "imported"), "s"),
        Row("resume / start, from open_shards to the first batch", resumed, "x", most=1.1),
    ]


def mixing_section() -> Section:
    found = run_rivals("mixing")
    perfect, block = found.pop("perfect"), found.pop("block")
    rows = [Row("different classes in a batch of 64, perfect shuffle", perfect)]
    for size, classes in found.items():
        default = int(size) == block
        name = "the default" if default else "for comparison"
        rows.append(Row(f"with blocks of {size} videos, {name}", classes))
        rows.append(Row("the same / perfect shuffle", classes / perfect, "x", least=0.95 if default else None))
    return "D. Mixing of 240,000 videos, sorted by their 400 classes, in shards of 160", rows


def workers_section(bench: Bench, method: str, batch: int) -> Section:
    title = f"E. Workers, batches of {batch}: {PLANS[method]}"
    if len(processors()) < 2:
        return title, [Row("two workers / one worker", "not measured: one processor")]
    found = run_rivals("workers", source_set(bench), method, "--batch", batch, "--rounds", bench.repeats)
    turns, limits = found["turns"], found["limits"]
    one, two = (median(found["samples"] / turn[number][1] for turn in turns) for number in ("1", "2"))
    return title, [
        Row("two workers / one worker", median(turn["1"][1] / turn["2"][1] for turn in turns), "x", least=1.7),
        Row(
            "two processes that only decode / one process", median(2 * limit["1"] / limit["2"] for limit in limits), "x"
        ),
        Row("one worker: samples a second", one),
        Row("two workers: samples a second", two),
        Row("bytes of a sample that are passed on", found["bytes"] / 1e6, "MB"),
        Row("through two workers, a second", two * found["bytes"] / 1e6, "MB"),
        Row(
            "CPU of the main process for a sample, two workers",
            1000 * median(turn["2"][0] for turn in turns) / found["samples"],
            "ms",
        ),
    ]


def measure(bench: Bench, args: argparse.Namespace) -> list[Section]:
    jobs: dict[str, list[Callable[[], Section]]] = {
        "A": [partial(core_section, bench, method) for method in PLANS],
        "B": [partial(memory_section, bench, args.rows)],
        "C": [partial(first_section, bench, args.rows, args.batch)],
        "D": [mixing_section],
        "E": [partial(workers_section, bench, method, args.batch) for method in PLANS],
    }
    sections = []
    for letter in args.only:
        for number, job in enumerate(jobs[letter], 1):
            print(f"section {letter}, part {number} of {len(jobs[letter])}", file=sys.stderr)
            sections.append(job())
    return sections


def installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def letters(text: str) -> list[str]:
    """Return the letters of a word like `A,D`."""
    found = sorted({letter.strip().upper() for letter in text.split(",")})
    if not set(found) <= set("ABCDE"):
        raise argparse.ArgumentTypeError(f"'{text}' does not name sections; write some of A, B, C, D and E, as in A,D")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--videos", type=Path, help="folder of videos; default: videos made for the benchmark")
    parser.add_argument("--count", type=int, default=24, help=f"number of videos, a multiple of {SMALL}")
    parser.add_argument("--repeats", type=int, default=3, help="repetitions of each measurement")
    parser.add_argument("--rows", type=int, default=250_000, help="rows of the large index")
    parser.add_argument("--batch", type=int, default=64, help="videos of a batch in sections C and E")
    parser.add_argument("--only", type=letters, default="A,B,C,D,E", help="sections to run, as in A,D")
    parser.add_argument("--json", action="store_true", help="print exactly one JSON object")
    args = parser.parse_args()
    if args.count < SMALL or args.count % SMALL:
        parser.error(f"--count is {args.count}; it must be a multiple of {SMALL}, the batch in section A")
    load = os.getloadavg()
    with tempfile.TemporaryDirectory(prefix="vtrain-benchmark-") as name:
        work = Path(name)
        given = ["--of", str(args.videos)] if args.videos else []
        print("making videos", file=sys.stderr)
        gathered = json.loads(watched(RIVAL, "gather", str(work / "videos"), str(args.count), *given).said)
        bench = Bench(work, work / "videos", args.count, gathered["different"], args.repeats, find())
        info = heading(bench, load) | {name: installed(name) for name in ("torch", *PACKAGES)}
        info |= {"rows": args.rows, "batch": args.batch}
        sections = measure(bench, args)
    if args.json:
        rows = [{"title": title, "rows": [asdict(row) | {"met": row.met} for row in rows]} for title, rows in sections]
        print(json.dumps(info | {"sections": rows}))
    else:
        show(info, sections)


if __name__ == "__main__":
    main()
