"""The measurements of loader.py that need a process of their own, above all of the usual ways to the same clips.

    loader_rivals.py pack SET --tar T                     write the frames of a set as a tar, one member for each
    loader_rivals.py core SET METHOD --videos V --tar T   time this loader and its rivals in turns, on one processor
    loader_rivals.py workers SET METHOD                   time one worker and two workers, in turns
    loader_rivals.py memory SET METHOD --rows N           memory of workers after each of several passes over N videos
    loader_rivals.py first SET METHOD --position P        time of the first batch
    loader_rivals.py mixing                               number of classes in a batch

All ways end with the same array: uint8, 128x171, in memory that was used before. A rival gets the frames that the
loader chose in the same turn, each once, and is spared whatever it can be: threads, frames that are not shown, a
second seek.
"""

import argparse
import json
import os
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO
from itertools import islice, pairwise
from math import comb
from multiprocessing import active_children, get_context
from pathlib import Path
from statistics import mean
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import webdataset as wds

from vprep.format import INDEX
from vtrain.data import Batch, Loader, ShardSet, open_shards
from vtrain.data.order import BLOCK, epoch_order
from vtrain.data.sampler import FLAGS
from vtrain.methods import ascnet, rspnet

IMPORTED = time.monotonic()
PLANS = {"rspnet": rspnet.Sampling(), "ascnet": ascnet.Sampling()}
FPS = 25  # of the stored frames
SMALL, LARGE = 8, 64  # videos of a batch: in `core` and `memory`, and as in training
TURNS = 4  # turns of the fast ways for each turn of the slow ones
WARM, TIMED = 6, 12  # batches, or epochs where these are of a few batches
CLASSES, SHARDS, PER_SHARD = 400, 1500, 160  # of the set in `mixing`
PASSES = 3  # over the videos, in `memory`
EPOCHS = 4  # in `mixing`

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Need:
    """The frames that a sample shows of one video."""

    key: str
    path: Path  # of the source
    numbers: list[int]  # of the frames, sorted, each once
    places: Array  # index into `numbers`, for each slot of the sample


Read = Callable[[list[Need], Array], None]


def index_of(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the rows of the index, by key."""
    columns = ["key", "shard", "offset", "size", "source", "frame_offsets"]
    return {row["key"]: row for row in pq.read_table(folder / INDEX, columns=columns).to_pylist()}


def jpegs_of(folder: Path, row: dict[str, Any]) -> list[Array]:
    """Return all JPEG pictures of a video."""
    data = np.fromfile(folder / row["shard"], np.uint8, row["size"], offset=row["offset"])
    return [data[begin:end] for begin, end in pairwise(row["frame_offsets"])]


def pack(folder: Path, out: Path) -> dict[str, int]:
    """Write all frames of a set into a tar, as `<key>.000.jpg` and so on."""
    members = 0
    with tarfile.open(out, "w") as tar:
        for key, row in index_of(folder).items():
            for number, jpeg in enumerate(jpegs_of(folder, row)):
                info = tarfile.TarInfo(f"{key}.{number:03d}.jpg")
                info.size = len(jpeg)
                tar.addfile(info, BytesIO(jpeg.tobytes()))
                members += 1
    return {"members": members, "bytes": out.stat().st_size}


def of_source(number: int, rate: float, frames: int) -> int:
    """Return the frame of the source at the time of a stored frame."""
    return min(round(number * rate / FPS), frames - 1)


def by_decord(needs: list[Need], canvas: Array) -> None:
    import decord

    for slot, need in enumerate(needs):
        height, width = canvas.shape[-3:-1]
        reader = decord.VideoReader(str(need.path), ctx=decord.cpu(0), width=width, height=height, num_threads=1)
        wanted = [of_source(number, reader.get_avg_fps(), len(reader)) for number in need.numbers]
        pictures = reader.get_batch(wanted).asnumpy()
        np.take(pictures, need.places, axis=0, out=flat(canvas, slot), mode="clip")


def by_pyav(needs: list[Need], canvas: Array) -> None:
    """One seek, to the last key frame before the first picture, and from there to the last picture."""
    import av

    for slot, need in enumerate(needs):
        with av.open(str(need.path)) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            rate, begin = float(stream.average_rate), stream.start_time or 0
            wanted = [of_source(number, rate, stream.frames or 1 << 30) for number in need.numbers]
            container.seek(begin + int(wanted[0] / rate / stream.time_base), stream=stream)
            pictures: list[Array] = []
            for frame in container.decode(stream):
                shown = round(float((frame.pts - begin) * stream.time_base) * rate)
                if shown < wanted[len(pictures)]:
                    continue
                height, width = canvas.shape[-3:-1]
                picture = frame.to_ndarray(width=width, height=height, format="rgb24")
                while len(pictures) < len(wanted) and shown >= wanted[len(pictures)]:
                    pictures.append(picture)
                if len(pictures) == len(wanted):
                    break
        pictures += [picture] * (len(wanted) - len(pictures))
        put(pictures, need, canvas, slot)


def by_webdataset(tar: Path) -> Read:
    """Return a reader that passes over the whole tar."""

    def read(needs: list[Need], canvas: Array) -> None:
        slots = {need.key: (slot, need) for slot, need in enumerate(needs)}
        for sample in wds.WebDataset(str(tar), shardshuffle=False):
            if sample["__key__"] in slots:
                slot, need = slots[sample["__key__"]]
                jpegs = [np.frombuffer(sample[f"{number:03d}.jpg"], np.uint8) for number in need.numbers]
                put([cv2.imdecode(jpeg, FLAGS) for jpeg in jpegs], need, canvas, slot)

    return read


def put(pictures: list[Array], need: Need, canvas: Array, slot: int) -> None:
    out = flat(canvas, slot)
    for place, number in enumerate(need.places):
        out[place] = pictures[number]


def flat(canvas: Array, slot: int) -> Array:
    """Return the slots for the frames of one sample, in one sequence."""
    return canvas[slot % SMALL].reshape(-1, *canvas.shape[-3:])


def shown_by(batches: Iterator[Batch], count: int) -> dict[str, Array]:
    """Return the frames that the next batches show of each video; keep nothing else of the batches."""
    shown: dict[str, Array] = {}
    for _ in range(count // SMALL):
        batch = next(batches)
        shown |= zip(batch.keys, batch.frame.numpy(), strict=True)
    return shown


def needs_of(shown: dict[str, Array], sources: dict[str, Path]) -> list[Need]:
    needs = []
    for key, frames in shown.items():
        numbers, places = np.unique(frames, return_inverse=True)
        needs.append(Need(key, sources[key], numbers.tolist(), places.ravel()))
    return needs


def bare(jpegs: list[Array]) -> None:
    """Only decode: the physical limit."""
    for jpeg in jpegs:
        cv2.imdecode(jpeg, FLAGS)


def core(folder: Path, method: str, source: Path, tar: Path, rounds: int) -> dict[str, Any]:
    """Time epochs of all ways in turns, on one processor."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    rivals = {"webdataset": by_webdataset(tar)}
    rivals |= {name: read for name, read in (("av", by_pyav), ("decord", by_decord)) if find_spec(name)}
    index = index_of(folder)
    sources = {key: source / row["source"] for key, row in index.items()}
    batches, count = iter(open_shards(folder, PLANS[method], batch=SMALL)), len(index)

    shown_by(batches, WARM * count - SMALL)
    last = next(batches)
    needs = needs_of(dict(zip(last.keys, last.frame.numpy(), strict=True)), sources)
    ours, differences = last.clips.numpy().copy(), {}
    del last  # so that its buffer returns to the pool
    canvas, shape = np.zeros_like(ours), ours.shape[1:]
    for name, read in rivals.items():
        read(needs, canvas)
        differences[name] = cv2.norm(canvas.ravel(), ours.ravel(), cv2.NORM_L1) / canvas.size

    turns, frames = [], []
    for number in range(rounds * TURNS):
        spent, shown = timed(shown_by, batches, count)
        needs = needs_of(shown, sources)
        stored = {need.key: jpegs_of(folder, index[need.key]) for need in needs}
        jpegs = [stored[need.key][number] for need in needs for number in need.numbers]
        turn = {"ours": spent, "bare": timed(bare, jpegs)[0]}
        for name, read in rivals.items():
            if name == "webdataset" or number % TURNS == 0:
                turn[name] = timed(read, needs, canvas)[0]
        turns.append(turn)
        frames.append(len(jpegs) / count)
    return {"turns": turns, "videos": count, "frames": mean(frames), "shape": shape, "differences": differences}


def timed(job: Callable[..., Any], *args: Any) -> tuple[tuple[float, float], Any]:  # noqa: ANN401
    """Run a job; return the CPU of all threads and the wall time in seconds, and the result."""
    began, cpu = time.perf_counter(), time.process_time()
    found = job(*args)
    return (time.process_time() - cpu, time.perf_counter() - began), found


def at_once(processes: int, jpegs: list[Array]) -> None:
    """Let several processes decode, each of them everything."""
    started = [get_context("fork").Process(target=bare, args=(jpegs,)) for _ in range(processes)]
    for process in started:
        process.start()
    for process in started:
        process.join()


def passed(batches: Iterator[Batch], count: int) -> int:
    """Take `count` batches and keep none; return the bytes of a sample."""
    return [batch.clips[0].numel() for batch in islice(batches, count)][-1]


def workers(folder: Path, method: str, size: int, rounds: int) -> dict[str, Any]:
    """Time batches in the middle of an epoch with one worker and with two: CPU of the main process, and wall.

    Also time processes that only decode, each the same pictures: the limit of the machine.
    """
    videos, turns, limits = ShardSet.open(folder).select(), [], []
    jpegs = [jpeg for row in index_of(folder).values() for jpeg in jpegs_of(folder, row)]
    for _ in range(rounds):
        turn = {}
        for number in (1, 2):
            batches = iter(Loader(videos, PLANS[method], batch=size, workers=number))
            passed(batches, WARM)  # so that all its memory was used before
            turn[number], each = timed(passed, batches, TIMED)
        turns.append(turn)
        limits.append({number: timed(at_once, number, jpegs)[0][1] for number in (1, 2)})
    return {"turns": turns, "limits": limits, "samples": TIMED * size, "bytes": each}


def memory(folder: Path, method: str, rows: int) -> list[list[dict[str, int]]]:
    """Return the memory of each of two workers, after each pass over `rows` samples."""
    batches = iter(open_shards(folder, PLANS[method], batch=SMALL, workers=2))
    passes = []
    for _ in range(PASSES):
        for _ in range(rows // SMALL):
            next(batches)
        passes.append([held(worker.pid) for worker in active_children() if worker.pid])
    return passes


def held(process: int) -> dict[str, int]:
    """Return the bytes of a process: all, all with shared pages divided among their users, and those of its own."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]
    found = {name: int(rest.split()[0]) << 10 for name, rest in (line.split(":") for line in lines)}
    return {"rss": found["Rss"], "pss": found["Pss"], "own": found["Private_Clean"] + found["Private_Dirty"]}


def first(folder: Path, method: str, size: int, position: float) -> dict[str, float]:
    """Return the times of the steps to the first batch, by a clock that all processes share; `position` in epochs."""
    videos = ShardSet.open(folder).select()
    opened = time.monotonic()
    loader = Loader(videos, PLANS[method], batch=size, workers=2, position=int(position * len(videos)))
    batches = iter(loader)
    next(batches)
    return {"imported": IMPORTED, "opened": opened, "first": time.monotonic()}  # before the workers end


def mixing() -> dict[str, float]:
    """Return the number of classes in a batch of a set that is sorted by class: by block, and of a perfect shuffle."""
    count = SHARDS * PER_SHARD
    of_class = count // CLASSES
    found: dict[str, float] = {
        "block": BLOCK,
        "perfect": CLASSES * (1 - comb(count - of_class, LARGE) / comb(count, LARGE)),
    }
    for block in (4096, 16384, BLOCK):
        orders = [epoch_order(np.arange(count) // PER_SHARD, 0, epoch, block) for epoch in range(EPOCHS)]
        classes = np.sort(np.concatenate(orders).reshape(-1, LARGE) // of_class, axis=1)
        found[str(block)] = 1 + float((np.diff(classes, axis=1) > 0).sum(axis=1).mean())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("what", choices=("pack", "core", "workers", "memory", "first", "mixing"))
    parser.add_argument("folder", type=Path, nargs="?", help="the set")
    parser.add_argument("method", choices=PLANS, nargs="?", default="rspnet")
    parser.add_argument("--videos", type=Path, help="folder of the videos of which the set was made")
    parser.add_argument("--tar", type=Path, help="tar with a member for each frame")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--batch", type=int, default=LARGE)
    parser.add_argument("--rows", type=int, default=0)
    parser.add_argument("--position", type=float, default=0.0)
    args = parser.parse_args()
    jobs: dict[str, Callable[[], object]] = {
        "pack": lambda: pack(args.folder, args.tar),
        "core": lambda: core(args.folder, args.method, args.videos, args.tar, args.rounds),
        "workers": lambda: workers(args.folder, args.method, args.batch, args.rounds),
        "memory": lambda: memory(args.folder, args.method, args.rows),
        "first": lambda: first(args.folder, args.method, args.batch, args.position),
        "mixing": mixing,
    }
    print(json.dumps(jobs[args.what]()))


if __name__ == "__main__":
    main()
