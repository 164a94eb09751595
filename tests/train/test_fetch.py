"""Clips that a method chooses within a step: whose they are, what they depend on, and what happens to bad ones."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from small_recipes import damaged
from torch import Tensor

from vprep.errors import UsageError, WorkError
from vtrain.data import OneClip, Videos, fetch
from vtrain.data.augment.apply import Augment
from vtrain.data.augment.config import AugmentConfig
from vtrain.data.batch import Bad
from vtrain.data.fetch import ClipFetcher
from vtrain.data.sampler import Sampler
from vtrain.data.shard_set import ShardSet

LOOK = AugmentConfig(size=16, jitter=(0.4, 0.4, 0.4, 0.1), grey=0.2)
PLANS = {speed: OneClip(frames=4, step=speed, looks=(LOOK,)) for speed in (1, 2)}
ROWS, SPEEDS = torch.tensor([3, 0, 11, 3, 19]), torch.tensor([1, 2, 2, 1, 1])


@pytest.fixture
def videos(shards: Path) -> Videos:
    return ShardSet.open(shards).select("train")


def fetched(reader: ClipFetcher, rows: Tensor = ROWS, speeds: Tensor = SPEEDS, batch: object = 8) -> Tensor:
    reader.batch = batch
    clips, valid = reader(rows, speeds).clips()
    assert valid.all()
    return clips


def test_each_clip_is_of_the_video_and_at_the_speed_that_were_asked_for(videos: Videos) -> None:
    clips = fetched(ClipFetcher(videos, PLANS, seed=5))
    assert clips.shape == (5, 1, 3, 4, 16, 16)
    for at, (row, speed) in enumerate(zip(ROWS.tolist(), SPEEDS.tolist(), strict=True)):
        sampler = Sampler(videos, PLANS[speed], 5)
        planned = sampler.plan(f"fetch 8 {at} {speed}", row)
        frames = planned.sample.views[0].frames
        assert np.diff(frames).tolist() == [speed] * 3
        pixels = torch.empty(1, 1, 4, *sampler.canvas, 3, dtype=torch.uint8)
        sampler.fill(planned, sampler.read(sampler.locate(planned)), pixels[0].numpy())
        drawn = {
            name: torch.as_tensor(np.array([[value]], np.float32 if name == "sigma" else None))
            for name, value in planned.augmentation[0].items()
        }
        torch.testing.assert_close(clips[at], Augment((LOOK,))(pixels, drawn)[0])


def test_clips_depend_on_seed_batch_and_place_and_not_on_threads_or_ranks(videos: Videos) -> None:
    wanted = fetched(ClipFetcher(videos, PLANS, seed=5))
    assert not torch.equal(wanted[0], wanted[3])  # the same video twice
    for threads in (1, 3, 20):
        reader = ClipFetcher(videos, PLANS, seed=5, threads=threads)
        for _ in range(2):
            assert torch.equal(fetched(reader), wanted)
    halves = [
        fetched(ClipFetcher(videos, PLANS, seed=5, rank=rank), ROWS[part], SPEEDS[part])
        for rank, part in enumerate((slice(0, 2), slice(2, 4)))
    ]
    assert torch.equal(torch.cat(halves), wanted[:4])
    for other in ({"batch": 12}, {"batch": "held out 8"}):
        assert not torch.equal(fetched(ClipFetcher(videos, PLANS, seed=5), **other)[0], wanted[0])  # type: ignore[arg-type]
    assert not torch.equal(fetched(ClipFetcher(videos, PLANS, seed=6))[0], wanted[0])


def test_nothing_is_drawn_from_a_global_generator(videos: Videos) -> None:
    before = torch.random.get_rng_state()
    fetched(ClipFetcher(videos, PLANS, threads=2))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_two_fetches_may_be_begun_before_the_first_is_taken(videos: Videos) -> None:
    reader = ClipFetcher(videos, PLANS, threads=2)
    first, second = reader(ROWS, SPEEDS), reader(ROWS.flip(0), SPEEDS.flip(0))
    apart = ClipFetcher(videos, PLANS)
    assert torch.equal(first.clips()[0], apart(ROWS, SPEEDS).clips()[0])
    assert torch.equal(second.clips()[0], apart(ROWS.flip(0), SPEEDS.flip(0)).clips()[0])


def test_the_wait_for_clips_is_measured(videos: Videos) -> None:
    reader = ClipFetcher(videos, PLANS)
    assert reader.waited == 0
    fetched(reader)
    assert 0 < reader.waited < 60


BAD = (3, 11)  # of the videos to train on


def test_a_bad_clip_is_an_error_that_names_it(copy: Path) -> None:
    videos = ShardSet.open(copy).select("train")
    for threads in (0, 2):
        with damaged(copy, BAD), pytest.raises(WorkError) as error:
            fetched(ClipFetcher(videos, PLANS, threads=threads))
        assert videos.keys[3].as_py() in str(error.value)
        assert "differs from what was written" in str(error.value)


def test_with_skip_a_bad_clip_is_not_valid_and_counted(copy: Path) -> None:
    videos, found = ShardSet.open(copy).select("train"), list[Bad]()
    with damaged(copy, BAD):
        clips, valid = ClipFetcher(videos, PLANS, on_error="skip", count=found.extend)(ROWS, SPEEDS).clips()
    assert valid.tolist() == [False, True, False, False, True]
    assert [one.key for one in found] == [videos.keys[row].as_py() for row in (3, 11, 3)]
    assert str(found[0]).endswith("differs from what was written; its clip is left out")
    same = ClipFetcher(videos, PLANS, on_error="skip")(ROWS, SPEEDS).clips()[0]
    assert torch.equal(clips[valid], same[valid])
    assert not torch.equal(clips[~valid], same[~valid])


def test_a_video_that_another_one_replaces_because_it_is_short_is_not_valid(videos: Videos) -> None:
    plans = {6: OneClip(frames=4, step=6, short="replace", looks=(LOOK,))}
    lengths = videos.frames.copy()
    lengths[3] = 18  # of 20 frames; a clip spans 19
    short = videos.take(np.arange(len(videos)))
    short.frames[:] = lengths
    _, valid = ClipFetcher(short, plans)(ROWS, torch.full((5,), 6)).clips()
    assert valid.tolist() == [False, True, True, False, True]


def test_a_speed_without_a_plan_is_refused(videos: Videos) -> None:
    with pytest.raises(UsageError, match=r"^a method fetches a clip at speed 3; its `fetched` has plans for 1, 2$"):
        fetched(ClipFetcher(videos, PLANS), speeds=torch.tensor([1, 2, 2, 3, 1]))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files are counted on Linux")
def test_all_threads_together_keep_no_more_files_open_than_one_reader(
    videos: Videos, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "MOST_OPEN", 4)
    rows = torch.arange(len(videos)).repeat(4)
    before = len(os.listdir("/proc/self/fd"))
    reader = ClipFetcher(videos, PLANS, threads=4)
    fetched(reader, rows, torch.ones_like(rows))
    assert len(set(videos.shard.tolist())) == 6
    assert 1 <= len(os.listdir("/proc/self/fd")) - before <= 4


def test_no_memory_is_made_for_the_pixels_of_each_step(videos: Videos) -> None:
    reader = ClipFetcher(videos, PLANS)
    addresses = set()
    for batch in range(4):
        fetching = reader(ROWS, SPEEDS)
        addresses.add(fetching.pixels.data_ptr())
        fetching.clips()
        reader.batch = batch
        del fetching
    assert len(addresses) == 1
