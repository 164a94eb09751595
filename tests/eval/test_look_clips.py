"""The clips of a picture are those of test time, chosen by key, class or seed, and drawn as the network saw them."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from random import Random
from subprocess import CompletedProcess
from typing import get_args

import numpy as np
import pytest
import torch

from veval.look.asked import Chosen
from veval.look.clips import PacedClips, pixels, read
from veval.protocol import Normalise, Protocol
from vprep.errors import UsageError
from vtrain.data.augment.config import AugmentConfig
from vtrain.data.frames import read_frames
from vtrain.data.sampling import Video
from vtrain.data.shard_reader import ShardReader


@pytest.mark.parametrize("normalise", get_args(Normalise))
def test_a_drawn_frame_has_the_bytes_that_the_network_saw(normalise: Normalise, shards: Path) -> None:
    videos, _ = Chosen(shards=str(shards), split="all", count=2).open()
    plan = Protocol(clips=2, frames=4, size=24, normalise=normalise).plan()  # the largest square, not resized
    for row, clips in enumerate(read(videos, plan, normalise)):
        for frames, seen in zip(clips.frames, clips.seen, strict=True):
            stored = read_frames(videos, ShardReader(videos), row, frames)
            np.testing.assert_array_equal(seen, [frame[:, 4:28] for frame in stored])
        assert clips.frames == [[0, 1, 2, 3], [16, 17, 18, 19]]


def test_pixels_beyond_black_and_white_are_cut_off() -> None:
    assert pixels(torch.tensor([-1.0, 2.0, 0.5]).view(3, 1, 1, 1), "unit").ravel().tolist() == [128, 255, 0]


def paced(paces: tuple[str, ...], frames: int, short: str = "loop") -> list[list[int]]:
    plan = PacedClips(
        paces=tuple(map(Fraction, paces)), frames=4, short=short, looks=(AugmentConfig(),)  # type: ignore[arg-type]
    )  # fmt: skip
    sample = plan(Video("a", frames, 25.0, 24, 32), Random(0))
    return [list(view.frames) for view in sample.views]


def test_clips_of_all_paces_begin_together_and_the_slowest_lies_in_the_middle() -> None:
    assert paced(("1", "2", "4"), 21) == [[4, 5, 6, 7], [4, 6, 8, 10], [4, 8, 12, 16]]
    assert paced(("1/2", "1"), 8) == [[2, 2, 3, 3], [2, 3, 4, 5]]
    assert paced(("4",), 6) == [[0, 4, 2, 0]]
    assert paced(("4",), 6, "restart") == [[0, 4, 0, 4]]


def keys_of(shards: Path, **words: object) -> list[str]:
    videos, _ = Chosen(shards=str(shards), **words).open()  # type: ignore[arg-type]
    found: list[str] = videos.keys.to_pylist()
    return found


def test_videos_are_drawn_by_the_seed_with_each_class_before_any_comes_again(shards: Path) -> None:
    drawn = keys_of(shards, split="all", count=6)
    classes = [key.split("_")[1] for key in drawn]
    assert len(set(classes[:4])) == 4
    assert drawn == keys_of(shards, split="all", count=6)
    assert drawn[:3] == keys_of(shards, split="all", count=3)
    assert drawn != keys_of(shards, split="all", count=6, seed=1)


def test_videos_are_named_by_key_in_the_given_order_or_by_class(shards: Path) -> None:
    first, second, *_ = sorted(keys_of(shards, split="all", count=24))
    assert keys_of(shards, split="all", keys=[second, first]) == [second, first]
    name = first.split("_")[1]
    assert all(key.split("_")[1] == name for key in keys_of(shards, split="all", classes=[name], count=3))


def test_what_cannot_be_shown_is_refused_in_one_sentence(shards: Path) -> None:
    (key,) = keys_of(shards, split="train", count=1)
    for words, said in (
        ({"keys": ["nix"]}, "there is no video 'nix' in split 'test' of fold 1 of "),
        ({"keys": [key]}, f"there is no video '{key}' in split 'test' of fold 1 of "),
        ({"keys": [key[:-1]], "split": "all"}, f"close to it: '{key[:-1]}"),
        ({"classes": ["nix"]}, "there is no class 'nix'"),
        ({"split": "val"}, "name a split that it has with --split, or write --split all"),
        ({"fold": 4}, "--fold is 4"),
    ):
        with pytest.raises(UsageError) as caught:
            keys_of(shards, **words)
        assert said in str(caught.value)
    with pytest.raises(UsageError, match="at most 50 videos"):
        Chosen(count=51)
    with pytest.raises(UsageError, match="leave out --class and --count"):
        Chosen(keys=["a"], count=3)


def test_a_set_without_classes_has_none_to_choose(
    make_video: Callable[..., Path], run_vprep: Callable[..., CompletedProcess[str]], tmp_path: Path
) -> None:
    make_video(tmp_path / "videos" / "a.mp4")
    done = run_vprep("shard", tmp_path / "videos", "--out", tmp_path / "set", "--shards", 1)
    assert done.returncode == 0, done.stderr
    with pytest.raises(UsageError, match=f"--class is 'nix', but {tmp_path / 'set'} has no classes"):
        keys_of(tmp_path / "set", split="all", classes=["nix"])
