"""Features of videos: what a network makes of their clips, made once and kept in a file.

V videos, R clips and crops of a video, C channels, T time, S side, D feature, F all that is kept of a video
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from veval.features import feature_file
from veval.features.feature_file import Facts, Shapes
from veval.features.resume import Part, open_parts, place_among_processes, plan_parts, refuse_others
from veval.inputs import KINETICS, Weights
from veval.protocol import DROPPED_FROM, Protocol
from vtrain.data.batch import Bad
from vtrain.data.chunks import OnError
from vtrain.data.dataset import Videos
from vtrain.data.loader import Loader
from vtrain.data.order import epoch_order
from vtrain.data.sampling import EvenClips
from vtrain.inference import Features, Precision, outputs, uses_bf16

PART_VIDEOS, PART_BYTES = 256, 64 << 20  # of a part, at most: what is lost when the work is stopped
CLIPS = 128  # of a batch on a GPU
VIDEOS = 4  # of a batch on a CPU, where clips of one video are worked on at a time

Progress = Callable[[int, int], None]  # videos that are done, and all of this process
Net = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class How:
    """How the work is done; in float32 on a CPU the results do not depend on it."""

    device: torch.device | str = "cpu"
    precision: Precision = "auto"
    batch: int | None = None  # videos; None: what suits the device
    workers: int = 0
    on_error: OnError = "raise"
    budget: float = 0.001  # of the videos may be bad, when these are skipped
    rank: int | None = None  # None: as torchrun says
    world: int | None = None
    patience: float = 600  # seconds without a new part, after which the others are taken for dead
    progress: Progress = field(default=lambda done, videos: None)

    @property
    def place(self) -> tuple[int, int]:
        rank, world = place_among_processes()
        return (rank if self.rank is None else self.rank), (world if self.world is None else self.world)

    @property
    def numbers(self) -> str:
        """In what is computed: it changes the last digits."""
        return "bf16" if uses_bf16(self.precision, torch.device(self.device)) else "float32"


class Standardise(nn.Module):
    """In front of a network that wants another mean and deviation than the loader knows."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, net: nn.Module, mean: tuple[float, ...], deviation: tuple[float, ...]) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1, 1))
        self.register_buffer("deviation", torch.tensor(deviation).view(-1, 1, 1, 1))

    def forward(self, clips_RCTSS: Tensor) -> Any:  # noqa: ANN401  what the network gives
        return self.net((clips_RCTSS - self.mean) / self.deviation)


def extract(
    weights: Weights,
    videos: Mapping[str, Videos],
    protocol: Protocol,
    out: Path,
    *,
    data: Facts,
    how: How | None = None,
    gallery: str = "train",
) -> None:
    """Keep the features of the videos of all splits in `out`, a .parquet or .npz file.

    Stopped at any time and called again, it goes on where it was. With several processes each makes its share; the
    first one puts them together, and returns when `out` is there.
    """
    how = how or How()
    net = Features(weights.net, protocol.pools)
    dims = net.dims(protocol.clip)
    clips = () if protocol.level == "video" else (protocol.rows,)
    facts = {
        "weights": weights.facts,
        "protocol": protocol.words("features"),
        "data": data,
        "precision": how.numbers,
    }
    plans = {split: protocol.plan(of_gallery=split == gallery) for split in videos}
    left_out = {split: last_batch(some, protocol) if split == gallery else set() for split, some in videos.items()}
    work = Work(
        net=for_clips(net, protocol, how.device),
        shapes={pool: (*clips, dim) for pool, dim in dims.items()},
        videos=videos,
        plans=plans,
        left_out=left_out,
    )
    carry_out(work, facts, out, how)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What is to be made of which videos: the outputs of `net` for each clip, cut into `shapes`."""

    net: Net
    shapes: Shapes
    videos: Mapping[str, Videos]
    plans: Mapping[str, EvenClips]
    left_out: Mapping[str, set[int]] = field(default_factory=dict)  # rows of a split

    @property
    def part(self) -> int:
        """Videos of a part; of the same number whatever the process, so that any of them can go on."""
        return max(1, min(PART_VIDEOS, PART_BYTES // sum(4 * prod(shape) for shape in self.shapes.values())))

    def flat(self, made_VRD: Tensor) -> Tensor:
        """All that is kept of each video, in a row: of its clips, or of their mean."""
        widths = [shape[-1] for shape in self.shapes.values()]
        pools = zip(self.shapes.values(), made_VRD.split_with_sizes(widths, 2), strict=True)
        return torch.cat([(one if len(shape) > 1 else one.mean(1)).flatten(1) for shape, one in pools], 1)


def carry_out(work: Work, facts: Facts, out: Path, how: How) -> None:
    """Make what is missing of `out`."""
    feature_file.refuse_kind(out)
    rank, world = how.place
    facts = json.loads(json.dumps(facts))  # as they are read back

    def done() -> bool:
        if not out.exists():
            return False
        found = feature_file.read_facts(out)
        refuse_others(out, {name: found.get(name) for name in facts}, facts)
        return True

    parts = plan_parts(out, {split: len(some) for split, some in work.videos.items()}, work.part, facts)
    if done():
        return
    open_parts(parts, rank, how.patience, done)
    runs = list(parts.mine(rank, world))
    # In between, the first process may have put all together and removed the parts.
    if done():
        return
    _make(work, runs, how)
    if rank == 0:
        parts.wait(how.patience)
        feature_file.merge([part.path for part in parts.all], work.shapes, facts, out)
        parts.remove()


def _make(work: Work, runs: list[list[Part]], how: How) -> None:
    """The parts of one process, one run after another; each is written when its last video is through."""
    videos, before = sum(run[-1].end - run[0].begin for run in runs), 0
    for run in runs:
        split, first = run[0].split, run[0].begin
        some = work.videos[split].take(np.arange(first, run[-1].end))
        bad: list[Facts] = []
        held: list[tuple[int, Tensor]] = []
        waiting = list(run)
        for at, rows, made in stream(work.net, some, work.plans[split], how, bad, of=len(work.videos[split])):
            held += [(first + row, one) for row, one in zip(rows, work.flat(made), strict=True)]
            while waiting and first + at >= waiting[0].end:
                part = waiting.pop(0)
                mine = [one for one in held if one[0] < part.end]
                held = held[len(mine) :]
                _write(part, mine, bad, work)
            how.progress(before + at, videos)
        before += len(some)


def _write(part: Part, made: list[tuple[int, Tensor]], bad: list[Facts], work: Work) -> None:
    videos = work.videos[part.split]
    made = [one for one in made if one[0] not in work.left_out.get(part.split, ())]
    rows = np.array([row for row, _ in made], np.int64)
    sizes = [prod(shape) for shape in work.shapes.values()]
    flat_VF = torch.stack([one for _, one in made]) if made else torch.empty(0, sum(sizes))
    arrays = {
        pool: array.reshape(-1, *shape).numpy()
        for (pool, shape), array in zip(work.shapes.items(), flat_VF.split_with_sizes(sizes, 1), strict=True)
    }
    keys = videos.keys.take(pa.array(rows)).to_pylist()
    inside = set(videos.keys.slice(part.begin, part.end - part.begin).to_pylist())
    dropped = [{"split": part.split, **one} for one in bad if one["key"] in inside]
    feature_file.write_part(part.path, keys, videos.label[rows], part.split, arrays, dropped)


def stream(
    net: Net, videos: Videos, plan: EvenClips, how: How, bad: list[Facts], *, of: int | None = None
) -> Iterator[tuple[int, list[int], Tensor]]:
    """How many videos are through, in order; and of some, their rows and what `net` makes of each clip: [V, R, D].

    Those that cannot be read are not among them, but in `bad`. They may be a share of `of` videos.
    """
    device = torch.device(how.device)
    crops = plan.looks[0].crops
    size = how.batch or (VIDEOS if device.type == "cpu" else max(1, CLIPS // (plan.clips * crops)))
    loader = Loader(
        videos,
        plan,
        batch=size,
        workers=how.workers,
        epochs=1,
        shuffled=False,
        on_error=how.on_error,
        budget=how.budget * (of or len(videos)) / len(videos),
        device=device,
    )
    at = 0
    for batch, made in outputs(loader, net, looks=plan.looks, device=device, precision=how.precision):
        rows = [row for row, valid in zip(range(at, at + len(batch)), batch.valid.tolist(), strict=True) if valid]
        bad += [_named(one) for one in batch.bad]
        at += len(batch)
        yield at, rows, made[batch.valid]


def for_clips(net: nn.Module, protocol: Protocol, device: torch.device | str) -> nn.Module:
    """The network, on the device, behind what the protocol's loader shows."""
    return (Standardise(net, *KINETICS).eval() if protocol.normalise == "kinetics" else net).to(device)


def last_batch(videos: Videos, protocol: Protocol) -> set[int]:
    """Rows that RSPNet's shuffled and cut gallery would lack; which ones is chance there."""
    if protocol.gallery != "released":
        return set()
    over = len(videos) % DROPPED_FROM
    return set(epoch_order(videos.shard, 0, 0)[len(videos) - over :].tolist())


def _named(bad: Bad) -> Facts:
    return {"key": bad.key, "shard": Path(bad.shard).name, "what": bad.what}
