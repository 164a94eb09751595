"""Compute features of videos: the outputs of a network for their clips, in memory or in a file.

V videos, R clips and crops of a video, D feature, F all numbers that are kept of a video
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from veval.evaluation import Evaluation, Execution, Info, Weights
from veval.features import feature_file, together
from veval.features.feature_file import FeatureTables, Shapes
from veval.features.forward import Net, demand_memory, for_clips, stream
from veval.features.reading import Array
from veval.features.resume import Part, open_parts, plan_parts, refuse_others
from veval.protocol import RELEASED_BATCH, Protocol
from vtrain.data.dataset import Videos
from vtrain.data.order import epoch_order
from vtrain.data.sampling import EvenClips
from vtrain.inference import Features

PART_VIDEOS, PART_BYTES = 256, 64 << 20  # of a part, at most: the part that is lost when the work is stopped


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Outputs to compute: those of `net` for each clip of `videos`, split into `shapes`."""

    net: Net
    shapes: Shapes
    videos: Mapping[str, Videos]
    plans: Mapping[str, EvenClips]
    left_out: Mapping[str, set[int]] = field(default_factory=dict)  # rows by split
    info: Info  # what the outputs depend on
    name: str = "features of videos"  # for the user
    execution: Execution

    @property
    def part(self) -> int:
        """Videos of a part; the same number in all processes, so that any process can continue a part."""
        return max(1, min(PART_VIDEOS, PART_BYTES // sum(4 * prod(shape) for shape in self.shapes.values())))

    def flat(self, outputs_VRD: Tensor) -> Tensor:
        """Return a row of numbers for each video: the outputs for its clips, or their mean."""
        widths = [shape[-1] for shape in self.shapes.values()]
        pools = zip(self.shapes.values(), outputs_VRD.split_with_sizes(widths, 2), strict=True)
        return torch.cat([(pool if len(shape) > 1 else pool.mean(1)).flatten(1) for shape, pool in pools], 1)

    def arrays(self, flat_VF: Tensor) -> dict[str, Array]:
        """Return the numbers of each pool in its shape."""
        sizes = [prod(shape) for shape in self.shapes.values()]
        pools = zip(self.shapes.items(), flat_VF.split_with_sizes(sizes, 1), strict=True)
        return {name: array.reshape(-1, *shape).numpy() for (name, shape), array in pools}


def work_of(evaluation: Evaluation[Weights], gallery: str = "") -> Work:
    """Return the work of computing the features for an evaluation; `gallery` is the split with that role."""
    protocol = evaluation.protocol
    net = Features(evaluation.network.net, protocol.pools)
    clips = () if protocol.level == "video" else (protocol.rows,)
    videos = evaluation.data.videos
    for chosen in videos.values():
        demand_memory(protocol.plan(), chosen)
    return Work(
        net=for_clips(net, protocol, evaluation.execution.device),
        shapes={pool: (*clips, dim) for pool, dim in net.dims(protocol.clip).items()},
        videos=videos,
        plans={split: protocol.plan(of_gallery=split == gallery) for split in videos},
        left_out={gallery: last_batch(videos[gallery], protocol)} if gallery else {},
        info=evaluation.info("features"),
        execution=evaluation.execution,
    )


def compute(work: Work) -> FeatureTables:
    """Compute everything in memory; the numbers are the same as those in a file, to the last bit."""
    videos_in_all, before, row = sum(map(len, work.videos.values())), 0, 0
    arrays = {pool: np.empty((videos_in_all, *shape), np.float32) for pool, shape in work.shapes.items()}
    keys: list[str] = []
    label, split = np.empty(videos_in_all, np.int64), np.empty(videos_in_all, object)
    dropped: list[Info] = []
    work.execution.begin(work.name)
    for name, videos in work.videos.items():
        bad: list[Info] = []
        left_out = work.left_out.get(name, set())
        for at, rows, outputs in stream(work.net, videos, work.plans[name], work.execution, bad):
            kept = [number for number, video in enumerate(rows) if video not in left_out]
            chosen, here = [rows[number] for number in kept], slice(row, row + len(kept))
            for pool, array in work.arrays(work.flat(outputs[kept])).items():
                arrays[pool][here] = array
            keys += videos.keys.take(pa.array(chosen, pa.int64())).to_pylist()
            label[here], split[here] = videos.label[chosen], name
            row += len(kept)
            work.execution.progress(before + at, videos_in_all)
        before += len(videos)
        dropped += [{"split": name, **video} for video in bad]
    tables = {pool: array[:row] for pool, array in arrays.items()}
    return FeatureTables(keys, label[:row], split[:row].astype(str), tables, {**as_json(work.info), "dropped": dropped})


def write(work: Work, out: Path) -> None:
    """Compute the missing parts of `out`, a .parquet or .npz file.

    The work can be stopped at any time; the next call continues it. With several processes, each computes its share;
    the first process merges the shares, and returns when `out` is complete.
    """
    feature_file.refuse_kind(out)
    rank, world = work.execution.rank_and_world
    patience, info = together.patience(work.execution), as_json(work.info)

    def finished() -> bool:
        if not out.exists():
            return False
        found = feature_file.read_info(out)
        refuse_others(out, {name: found.get(name) for name in info}, info)
        return True

    parts = plan_parts(out, {split: len(videos) for split, videos in work.videos.items()}, work.part, info)
    together.demand_same_work(info, out)
    if finished():
        return
    if rank == 0:
        open_parts(parts, rank, patience, finished)
    together.demand_same_folder(parts.folder)
    if rank > 0:
        open_parts(parts, rank, patience, finished)
    runs = list(parts.missing_of(rank, world))
    # Meanwhile the first process may have merged the parts and removed them.
    if finished():
        return
    _write_parts(work, runs)
    if rank == 0:
        parts.wait(patience)
        feature_file.merge([part.path for part in parts.all], work.shapes, info, out)
        parts.remove()


def as_json(info: Info) -> Info:
    """Return `info` in the form in which it is read back from a file."""
    found: Info = json.loads(json.dumps(info))
    return found


def _write_parts(work: Work, runs: list[list[Part]]) -> None:
    """Write the parts of one process, run by run; each part when its last video is finished."""
    videos_in_all, before = sum(run[-1].end - run[0].begin for run in runs), 0
    work.execution.begin(work.name)
    for run in runs:
        split, first = run[0].split, run[0].begin
        videos = work.videos[split].take(np.arange(first, run[-1].end))
        bad: list[Info] = []
        held: list[tuple[int, Tensor]] = []
        waiting = list(run)
        in_split = len(work.videos[split])
        for at, rows, outputs in stream(work.net, videos, work.plans[split], work.execution, bad, of=in_split):
            held += [(first + row, flat) for row, flat in zip(rows, work.flat(outputs), strict=True)]
            while waiting and first + at >= waiting[0].end:
                part = waiting.pop(0)
                inside = [item for item in held if item[0] < part.end]
                held = held[len(inside) :]
                _write_part(part, inside, bad, work)
            work.execution.progress(before + at, videos_in_all)
        before += len(videos)


def _write_part(part: Part, outputs: list[tuple[int, Tensor]], bad: list[Info], work: Work) -> None:
    videos = work.videos[part.split]
    outputs = [item for item in outputs if item[0] not in work.left_out.get(part.split, ())]
    rows = np.array([row for row, _ in outputs], np.int64)
    width = sum(prod(shape) for shape in work.shapes.values())
    arrays = work.arrays(torch.stack([flat for _, flat in outputs]) if outputs else torch.empty(0, width))
    keys = videos.keys.take(pa.array(rows)).to_pylist()
    inside = set(videos.keys.slice(part.begin, part.end - part.begin).to_pylist())
    dropped = [{"split": part.split, **video} for video in bad if video["key"] in inside]
    feature_file.write_part(part.path, keys, videos.label[rows], part.split, arrays, dropped)


def last_batch(videos: Videos, protocol: Protocol) -> set[int]:
    """Return the rows that RSPNet's shuffled gallery would lack without its last batch; there, they are random."""
    if protocol.gallery != "released":
        return set()
    over = len(videos) % RELEASED_BATCH
    return set(epoch_order(videos.shard, 0, 0)[len(videos) - over :].tolist())
