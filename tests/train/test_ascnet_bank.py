"""ASCNet's bank: whose features it holds, who is whose neighbour, and which clips are read again, when."""

from dataclasses import replace
from math import cos, radians, sin
from pathlib import Path

import pytest
import torch
from small_recipes import lines, saved, small
from table_fetch import TableFetch
from torch import Tensor, nn

from vprep.errors import UsageError
from vtrain.backbones import Backbone
from vtrain.data.augment.config import AugmentConfig
from vtrain.data.sampling import OneClip
from vtrain.methods.ascnet import TARGET, Config, Sampling
from vtrain.methods.ascnet.memory import Bank, Recent, memory
from vtrain.methods.ascnet.network import ASCNet
from vtrain.recipes import RECIPES
from vtrain.training.train import train

SMALL = Config(sampling=Sampling(frames=4, looks=(AugmentConfig(size=8),)), queue=8, dim=8, hidden=16)


def at(*degrees: float) -> Tensor:
    """Return features of length 1 at these angles."""
    return torch.tensor([[cos(radians(angle)), sin(radians(angle))] for angle in degrees])


def rows(*numbers: int) -> Tensor:
    return torch.tensor(numbers)


def test_the_neighbour_is_the_most_similar_other_video_by_its_newest_feature() -> None:
    bank = Bank(8, 2)
    found, there = bank.neighbours(8, rows(0, 1, 2, 3), at(0, 10, 90, 100))
    assert found.tolist() == [1, 0, 3, 2]
    assert there.all()
    # Video 0 moves from 0 to 96 degrees. Its older feature, 4 degrees from video 4, is no more.
    found, there = bank.neighbours(8, rows(0, 4, 5, 6), at(96, 4, 52, 180))
    assert found.tolist() == [3, 1, 2, 3]
    assert there.all()
    assert bank["row"].tolist() == [0, 1, 2, 3, 4, 5, 6, -1]
    torch.testing.assert_close(bank["appearance"][:7], at(96, 10, 90, 100, 4, 52, 180))


def test_of_more_videos_than_it_has_entries_the_bank_holds_those_shown_last() -> None:
    bank = Bank(8, 2)
    bank.neighbours(9, rows(0, 1, 2, 3), at(0, 10, 90, 100))
    bank.neighbours(9, rows(4, 5, 6, 7), at(20, 30, 40, 50))
    found, _ = bank.neighbours(9, rows(8, 0, 1, 2), at(1, 95, 60, 170))
    # At 1 degree, video 0 of the first batch was the nearest; now that is video 4, at 20 degrees.
    assert found.tolist() == [4, 1, 7, 0]
    assert bank["row"].tolist() == [8, 0, 1, 2, 4, 5, 6, 7]


def test_a_video_that_is_twice_in_a_batch_is_once_in_the_bank_with_its_last_feature() -> None:
    bank = Bank(8, 2)
    bank.neighbours(8, rows(5, 2, 5, 5), at(0, 10, 20, 30))
    assert bank["row"].tolist() == [-1, -1, 2, -1, -1, 5, -1, -1]
    torch.testing.assert_close(bank["appearance"][[2, 5]], at(10, 30))


def test_a_batch_may_be_larger_than_the_bank() -> None:
    bank = Bank(3, 2)
    found, there = bank.neighbours(100, rows(0, 1, 2, 3, 4), at(0, 10, 20, 30, 45))
    assert sorted(bank["row"].tolist()) == [2, 3, 4]
    assert found.tolist() == [2, 2, 3, 2, 3]
    assert there.all()


def test_without_another_video_there_is_no_neighbour_and_a_videos_own_row_is_read() -> None:
    bank = Bank(8, 2)
    found, there = bank.neighbours(8, rows(6, 6), at(0, 10))
    assert found.tolist() == [6, 6]
    assert not there.any()


def test_a_held_out_video_may_have_any_neighbour_and_enters_no_bank() -> None:
    bank = Bank(8, 2)
    bank.neighbours(8, rows(0, 1), at(0, 90))
    bank.eval()
    found, there = bank.neighbours(8, rows(0, 700), at(10, 80))  # its rows count the held-out videos
    assert found.tolist() == [0, 1]
    assert there.all()
    assert bank["row"].tolist() == [0, 1, -1, -1, -1, -1, -1, -1]
    torch.testing.assert_close(bank["appearance"][:2], at(0, 90))


def test_the_bank_is_small_and_its_size_does_not_depend_on_the_batch() -> None:
    """The pool of clips that older recipes have takes 73 times as much."""

    def size(config: Config) -> int:
        with torch.device("meta"):
            return sum(kept.numel() * kept.element_size() for kept in memory(config).buffers())

    assert size(Config()) == 16384 * (256 * 4 + 8) + 8 == 16_908_296
    assert size(Config(memory="clip")) == 1024 * (16 * 112 * 112 * 3 * 2 + 256 * 4 + 4 + 8) + 8 == 1_234_186_248
    named = [RECIPES[f"ascnet-resnet3d18-minik200{row}"]() for row in ("", "-batch256", "-batch1024")]
    assert [recipe.batch for recipe in named] == [512, 256, 1024]
    assert {recipe.method for recipe in named} == {named[0].method}
    assert isinstance(memory(Config(memory="feature", queue=9)), Recent)


def made(config: Config = SMALL, videos: int = 6) -> tuple[ASCNet, TableFetch]:
    torch.manual_seed(1)
    method = ASCNet(Backbone(8, conv1=nn.Sequential(nn.Conv3d(3, 8, 3, stride=2, padding=1), nn.ReLU())), config)
    fetch = TableFetch(torch.randn(videos, 3, 4, 8, 8))
    method.fetch = fetch
    return method, fetch


def batch() -> tuple[Tensor, dict[str, Tensor]]:
    clips = torch.randn(4, 2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    return clips, {"row": rows(0, 3, 4, 5), "speed": torch.tensor([[4, 8], [8, 4], [4, 8], [8, 4]])}


def test_a_clip_of_the_neighbour_is_read_at_the_speed_of_the_first_clip_and_encoded_by_the_target() -> None:
    (method, fetch), (clips, targets) = made(), batch()
    a, m = method._target(clips[:, 1])
    likeness = (a @ a.T).fill_diagonal_(-2)
    nearest = targets["row"][likeness.argmax(1)]
    motion, found = method._other(clips, targets, a, m, 0, 1)()
    ((asked, speeds),) = fetch.asked
    assert asked.tolist() == nearest.tolist()
    assert speeds.tolist() == [4, 8, 4, 8]
    assert found.all()
    torch.testing.assert_close(motion, method._target(fetch.table[nearest])[1])


def test_both_directions_read_a_clip_each_at_the_speed_of_the_clip_that_the_online_network_sees() -> None:
    method, fetch = made(replace(SMALL, direction="both"))
    method(*batch())
    assert [speeds.tolist() for _, speeds in fetch.asked] == [[4, 8, 4, 8], [8, 4, 8, 4]]
    assert fetch.taken == 2


def test_the_host_waits_once_a_step_after_the_online_network_has_its_work() -> None:
    method, fetch = made()
    order: list[str] = []
    method.target_backbone.register_forward_hook(lambda *_: order.append(f"target, {len(fetch.asked)} asked"))
    method.backbone.register_forward_hook(lambda *_: order.append(f"online, {len(fetch.asked)} asked"))
    method.backbone.register_forward_hook(lambda *_: order.append(f"{fetch.taken} taken"))
    method(*batch())
    assert order == ["target, 0 asked", "online, 1 asked", "0 taken", "target, 1 asked"]
    assert fetch.taken == 1


def test_a_neighbour_whose_clip_cannot_be_read_is_left_out() -> None:
    method, fetch = made()
    fetch.valid = False
    numbers = method(*batch())
    assert numbers["neighbours"] == numbers["scp"] == 0
    assert numbers["loss"] == 0.5 * numbers["acp"]


def test_a_neighbours_clip_is_taken_and_augmented_as_the_targets_clips_are() -> None:
    with torch.device("meta"):
        method = ASCNet(
            Backbone(8, conv1=nn.Conv3d(3, 8, 3)), Config(sampling=Sampling(speeds=(8, 4), short="stretch"))
        )
    assert method.fetched == {
        speed: OneClip(frames=16, step=speed, short="stretch", looks=(TARGET,)) for speed in (4, 8)
    }
    for other in ({"memory": "feature"}, {"memory": "clip"}, {"tasks": "acp"}, {"instances": "different"}):
        assert ASCNet(Backbone(8), replace(SMALL, pool=2, **other)).fetched == {}  # type: ignore[arg-type]


def test_a_bank_outside_of_a_training_says_what_it_needs() -> None:
    method, _ = made()
    method.fetch = None
    with pytest.raises(UsageError, match=r"^memory=bank reads clips within a step, which a training provides; set "):
        method(*batch())


@pytest.mark.parametrize("settings", [(), ("queue=64", "direction=both")], ids=["videos shown last", "all videos"])
def test_a_training_is_the_same_whoever_reads_the_clips(
    settings: tuple[str, ...], shards: Path, tmp_path: Path
) -> None:
    changes = ("steps=6", "data.hold_out=5", "validate.every=0.5", "save_every=6", *settings)
    for workers in (0, 2):
        summary = train(small("ascnet", shards, *changes, f"workers={workers}"), tmp_path / str(workers))
        assert summary["neighbours"] == 1
    assert lines(tmp_path / "0") == lines(tmp_path / "2")
    one, other = (saved(tmp_path / workers)["model"] for workers in ("0", "2"))
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
    assert one["memory.row"].max() < 15
