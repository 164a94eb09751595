"""The outputs of a network for videos: every clip once, in bounded pieces, the same however the work is cut."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from devices import CPU, comparable, every_device, needs_gpu
from torch import Tensor, nn

from vprep.errors import UsageError, WorkError
from vtrain.backbones import BACKBONES, backbone
from vtrain.data import EvenClips, Loader
from vtrain.data.augment.apply import Augment
from vtrain.data.augment.config import AugmentConfig
from vtrain.data.shard_set import ShardSet
from vtrain.inference import POOLS, Features, evaluating, outputs, piece

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")

VIDEOS = 30


def plan_of(clips: int = 2, crop: str = "centre", frames: int = 4) -> EvenClips:
    look = AugmentConfig(size=16, crop=crop, crop_size=20 if crop == "ten" else None, flip=0.0)  # type: ignore[arg-type]
    return EvenClips(clips=clips, frames=frames, looks=(look,))


def by_key(shards: Path, net: nn.Module, plan: EvenClips, **words: object) -> dict[str, Tensor]:
    """Return the output for each valid video by its key."""
    more = {name: words.pop(name) for name in ("clips_at_a_time", "precision") if name in words}
    more["device"] = words.setdefault("device", CPU)
    loader = Loader(ShardSet.open(shards).select(), plan, epochs=1, shuffled=False, **{"batch": 4, **words})  # type: ignore[arg-type]
    found: dict[str, Tensor] = {}
    for batch, rows in outputs(loader, net, looks=plan.looks, **more):  # type: ignore[arg-type]
        assert rows.dtype == torch.float32
        for key, valid, row in zip(batch.keys, batch.valid.tolist(), rows, strict=True):
            if valid:
                assert key not in found
                found[key] = row
    return found


def tiny() -> nn.Module:
    torch.manual_seed(3)
    return Features(backbone("tiny"), ["gap"]).eval()


@pytest.mark.parametrize("crop", ["centre", "three", "ten"])
def test_each_clip_and_crop_goes_through_the_network_once_and_in_order(shards: Path, crop: str) -> None:
    plan = plan_of(clips=3, crop=crop)
    found = by_key(shards, nn.Flatten(), plan)
    assert len(found) == VIDEOS
    for batch in Loader(ShardSet.open(shards).select(), plan, batch=1, epochs=1, shuffled=False):
        seen = Augment(plan.looks)(batch.clips, batch.augmentation)[0]
        assert torch.equal(found[batch.keys[0]], seen.flatten(1))
        assert len(seen) == 3 * plan.looks[0].crops


def test_ten_crops_of_which_some_coincide_are_refused_before_a_video_is_read(shards: Path) -> None:
    plan = EvenClips(clips=1, frames=4, looks=(AugmentConfig(size=16, crop="ten", flip=0.0),))
    with pytest.raises(UsageError) as error:
        by_key(shards, nn.Flatten(), plan)
    assert str(error.value) == (
        "crop is 'ten', which is 10 different crops, but frames of 24 x 32 pixels give only 6; set crop_size=21"
    )


@pytest.mark.parametrize("world", [1, 2, 4])
def test_every_video_counts_once_on_one_rank_or_several(shards: Path, world: int) -> None:
    alone = by_key(shards, nn.Flatten(), plan_of())
    ranks = [by_key(shards, nn.Flatten(), plan_of(), batch=4 * world, rank=rank, world=world) for rank in range(world)]
    assert sorted(key for found in ranks for key in found) == sorted(alone)
    assert all(torch.equal(row, alone[key]) for found in ranks for key, row in found.items())


def test_on_a_cpu_neither_batch_nor_workers_change_a_bit(shards: Path) -> None:
    wanted = by_key(shards, tiny(), plan_of(frames=8), batch=1)
    for batch, workers in ((3, 0), (7, 2), (30, 1)):
        found = by_key(shards, tiny(), plan_of(frames=8), batch=batch, workers=workers)
        assert all(torch.equal(found[key], row) for key, row in wanted.items())


def test_clips_of_several_videos_in_a_piece_give_the_same_to_rounding(shards: Path) -> None:
    wanted = by_key(shards, tiny(), plan_of(frames=8))
    found = by_key(shards, tiny(), plan_of(frames=8), clips_at_a_time=5)
    assert all(torch.allclose(found[key], row, rtol=0, atol=1e-6) for key, row in wanted.items())


class Small(nn.Module):
    """Has memory for `most` clips, and notes how many it was given."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most
        self.given: list[int] = []

    def forward(self, clips: Tensor) -> Tensor:
        self.given.append(len(clips))
        if len(clips) > self.most:
            raise torch.OutOfMemoryError("too many")
        return clips.flatten(1)


def test_pieces_that_do_not_fit_are_halved_until_they_do(shards: Path) -> None:
    net = Small(3)
    found = by_key(shards, net, plan_of(), batch=10, clips_at_a_time=20)
    wanted = by_key(shards, nn.Flatten(), plan_of(), batch=10)
    assert net.given[:3] == [20, 10, 5]
    assert max(net.given[4:]) <= 3
    assert all(torch.equal(found[key], row) for key, row in wanted.items())


@needs_gpu
def test_a_full_gpu_gets_smaller_pieces_and_gives_the_same(device: torch.device, shards: Path) -> None:
    """The first piece, of 80 clips, needs about 1 GB for a map of conv1 and its copy."""
    plan = EvenClips(clips=8, frames=16, looks=(AugmentConfig(size=112, crop="centre", flip=0.0),))
    net = Features(backbone("r3d"), ["gap"]).to(device)
    given: list[int] = []
    net.register_forward_pre_hook(lambda net, args: given.append(len(args[0])))
    with comparable():
        wanted = by_key(shards, net, plan, batch=10, clips_at_a_time=8, device=device, precision="float32")
        given.clear()
        with memory_left(700 << 20, device):
            found = by_key(shards, net, plan, batch=10, device=device, precision="float32")
    assert given[0] == 80
    assert given[1] == given[0] // 2
    assert max(given[-3:]) < given[0]
    assert all(torch.allclose(found[key], row, rtol=1e-3, atol=1e-4) for key, row in wanted.items())


@contextmanager
def memory_left(most: int, device: torch.device) -> Iterator[None]:
    """Let torch allocate at most so many bytes of the GPU beyond what it uses already."""
    torch.cuda.empty_cache()
    limit = torch.cuda.memory_reserved(device) + most
    torch.cuda.set_per_process_memory_fraction(limit / torch.cuda.get_device_properties(device).total_memory, device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)


@every_device
def test_a_device_gives_the_outputs_of_the_cpu(device: torch.device, shards: Path) -> None:
    wanted = by_key(shards, tiny(), plan_of(frames=8))
    with comparable():
        found = by_key(
            shards, tiny().to(device), plan_of(frames=8), batch=7, workers=1, device=device, precision="float32"
        )
    assert all(torch.allclose(found[key], row, rtol=1e-4, atol=1e-5) for key, row in wanted.items())


def test_a_clip_that_does_not_fit_alone_is_an_error(shards: Path) -> None:
    with pytest.raises(WorkError) as error:
        by_key(shards, Small(0), plan_of(), clips_at_a_time=1)
    assert str(error.value) == (
        "the memory of cpu is too small for one clip of 4 x 16 x 16; use smaller or shorter clips"
    )


def edges(group: int, most: int, end: int) -> Iterator[int]:
    done = 0
    yield done
    while done < end:
        _, done = piece(done, group, most, end)
        yield done


@pytest.mark.parametrize(
    ("group", "most", "end", "at"),
    [
        (10, 16, 20, [0, 10, 20]),  # one video after another
        (10, 4, 20, [0, 3, 6, 10, 13, 16, 20]),  # three parts of 10: 3, 3, 4
        (40, 16, 40, [0, 13, 26, 40]),
        (40, 16, 20, [0, 13, 20]),  # the last batch is shorter
        (1, 9, 3, [0, 1, 2, 3]),
    ],
)
def test_pieces_are_even_and_never_span_two_groups(group: int, most: int, end: int, at: list[int]) -> None:
    assert list(edges(group, most, end)) == at
    assert all(after - before <= most for before, after in pairwise(at))


def test_after_its_evaluation_a_network_is_in_its_former_mode(shards: Path) -> None:
    net = nn.Sequential(nn.Dropout(1.0), nn.BatchNorm3d(3), nn.Flatten()).train()
    net[1].eval()
    found = by_key(shards, net, plan_of())
    assert [module.training for module in net] == [True, False, True]
    assert not any(row.requires_grad for row in found.values())
    assert any(row.any() for row in found.values())  # nothing was dropped
    with pytest.raises(ZeroDivisionError), evaluating(net):
        raise ZeroDivisionError
    assert net.training


def test_bf16_on_a_cpu_is_refused(shards: Path) -> None:
    loader = Loader(ShardSet.open(shards).select(), plan_of(), batch=4, epochs=1)
    with pytest.raises(UsageError) as error:
        next(outputs(loader, nn.Flatten(), looks=plan_of().looks, precision="bf16"))
    assert str(error.value) == (
        "precision is bf16 on a CPU, where it is slower and weight gradients of 3D convolutions are sometimes NaN "
        "(vtrain doctor shows it); set precision=auto"
    )


def test_pools_compute_what_slow_loops_compute() -> None:
    conv4, conv5 = torch.randn(2, 3, 4, 5, 6), torch.randn(2, 4, 2, 5, 5)
    maps = {"conv4": conv4, "conv5": conv5}
    gap, top = POOLS["gap"](maps), POOLS["spatial-max"](maps)
    for row in range(2):
        for channel in range(4):
            channels_map = conv5[row, channel]
            assert gap[row, channel].item() == pytest.approx(channels_map.sum().item() / 50, abs=1e-6)
            highest = [max(channels_map[time].flatten().tolist()) for time in range(2)]
            assert top[row, channel].item() == pytest.approx(sum(highest) / 2)
    assert torch.equal(POOLS["pool5"](maps), slowly_pooled(conv5, 1))
    assert torch.equal(POOLS["p4"](maps), slowly_pooled(conv4, 2))


def slowly_pooled(maps: Tensor, depth: int) -> Tensor:
    rows, channels, time, height, width = maps.shape
    return torch.tensor(
        [
            [
                maps[row, channel, t : t + depth, h : h + 2, w : w + 2].max().item()
                for channel in range(channels)
                for t in range(0, time // depth * depth, depth)
                for h in range(0, height // 2 * 2, 2)
                for w in range(0, width // 2 * 2, 2)
            ]
            for row in range(rows)
        ]
    )


@pytest.mark.parametrize("name", BACKBONES)
def test_the_dimensions_of_the_pools_are_known_before_any_clip_is_computed(name: str) -> None:
    net = Features(backbone(name), list(POOLS))
    dims = net.dims((8, 32, 32))
    with torch.no_grad():
        assert net.eval()(torch.zeros(1, 3, 8, 32, 32)).shape == (1, sum(dims.values()))
    assert list(dims) == list(POOLS)


@pytest.mark.parametrize(
    ("name", "dims"),
    [("c3d", (512, 512, 9216, 50_176)), ("r3d", (512, 512, 9216, 25_088)), ("r2plus1d", (512, 512, 9216, 25_088))],
)
def test_features_have_the_sizes_of_the_papers(name: str, dims: tuple[int, ...]) -> None:
    assert tuple(Features(backbone(name), list(POOLS)).dims((16, 112, 112)).values()) == dims


def test_p4_of_c3d_is_its_fourth_pool() -> None:
    net = backbone("c3d", width=4).eval()
    clips = torch.randn(2, 3, 16, 32, 32)
    with torch.no_grad():
        fourth = net.conv5.pool(net.maps(clips)["conv4"])  # type: ignore[operator, union-attr]
        assert torch.equal(Features(net, ["p4"])(clips), fourth.flatten(1))


def test_an_axis_shorter_than_a_pool_gives_one_value() -> None:
    maps = {"conv4": torch.randn(1, 3, 1, 1, 4), "conv5": torch.randn(1, 3, 1, 1, 1)}
    assert POOLS["p4"](maps).shape == (1, 6)
    assert POOLS["pool5"](maps).shape == (1, 3)


def test_unknown_pools_and_too_small_clips_are_refused() -> None:
    with pytest.raises(UsageError) as error:
        Features(backbone("tiny"), ["mean"])
    assert str(error.value) == "no pool 'mean'; there are gap, spatial-max, pool5, p4"
    with pytest.raises(UsageError, match="clips of 4 x 24 x 24 are too small for the network"):
        Features(backbone("c3d"), ["gap"]).dims((4, 24, 24))
