"""Videos held out from training; and a selection of videos, which has its own pixels and fingerprint."""

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vprep.errors import UsageError
from vtrain.data import Loader, OneClip, ShardSet, Videos
from vtrain.data.dataset import PER_VIDEO, By, held_out

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")

Pictures = Callable[[Path], dict[str, list[np.ndarray]]]


def keys(videos: Videos) -> list[str]:
    found: list[str] = videos.keys.to_pylist()
    return found


def group(key: str) -> str:
    """Return the group in a key: g03 of v_StarSpins_g03_c01."""
    return key.split("_")[2]


@pytest.mark.parametrize("by", ["video", "group"])
@pytest.mark.parametrize("count", [0, 1, 7, 20])
def test_the_others_and_the_held_out_are_all_videos_in_their_order(shards: Path, by: By, count: int) -> None:
    videos = ShardSet.open(shards).select()
    left, held = held_out(videos, count, by)
    assert not set(keys(left)) & set(keys(held))
    assert len(left) + len(held) == len(videos) == 30
    for part in (left, held):
        chosen = set(keys(part))
        assert keys(part) == [key for key in keys(videos) if key in chosen]


@pytest.mark.parametrize("count", [0, 1, 7, 29])
def test_exactly_as_many_videos_are_held_out_as_were_asked_for(shards: Path, count: int) -> None:
    assert len(held_out(ShardSet.open(shards).select(), count)[1]) == count


def test_just_enough_groups_are_held_out_and_each_is_on_one_side(shards: Path) -> None:
    """A class has two videos of group 1, one of 2, two of 3 and one of 4; each group has videos of all five classes."""
    videos = ShardSet.open(shards).select()
    sizes = Counter(map(group, keys(videos)))
    assert sizes == {"g01": 10, "g02": 5, "g03": 10, "g04": 5}
    for seed in range(10):
        for count in (1, 5, 6, 14, 19):
            left, held = held_out(videos, count, "group", seed)
            whole = {name: sizes[name] for name in map(group, keys(held))}
            assert not set(whole) & set(map(group, keys(left)))
            assert len(held) == sum(whole.values()) >= count
            assert len(held) - max(whole.values()) < count


def test_the_seed_decides_which_videos_are_held_out(shards: Path) -> None:
    videos = ShardSet.open(shards).select()
    drawn = [keys(held_out(videos, 10, seed=seed)[1]) for seed in (0, 0, 1, 2)]
    assert drawn[0] == drawn[1]
    assert len({tuple(one) for one in drawn}) == 3
    groups = {tuple(keys(held_out(videos, 1, "group", seed)[1])) for seed in range(20)}
    assert len(groups) == 4


def test_each_video_is_held_out_as_often_as_any_other(shards: Path) -> None:
    """6 of 30, 300 times: each 60 times, within four standard deviations."""
    videos = ShardSet.open(shards).select()
    times = Counter(key for seed in range(300) for key in keys(held_out(videos, 6, seed=seed)[1]))
    assert len(times) == 30
    assert all(abs(count - 60) < 4 * (300 * 0.2 * 0.8) ** 0.5 for count in times.values())


def test_the_choice_does_not_depend_on_the_order_of_the_videos(shards: Path) -> None:
    """Nor on the count: a smaller count holds out some of the same videos."""
    videos = ShardSet.open(shards).select()
    few, more = (set(keys(held_out(videos, count, seed=3)[1])) for count in (5, 12))
    assert few < more
    turned = videos.take(np.arange(30)[::-1])
    assert set(keys(held_out(turned, 12, seed=3)[1])) == more


def test_a_video_that_is_there_twice_is_on_one_side_only(shards: Path) -> None:
    left, held = held_out(ShardSet.open(shards).select().take(np.tile(np.arange(30), 2)), 6)
    assert len(held) == 6
    assert len(set(keys(held))) == 3
    assert not set(keys(left)) & set(keys(held))


@pytest.mark.parametrize(
    ("count", "by", "message"),
    [
        (30, "video", "data.hold_out is 30 of 30 videos; it must be from 0 to 29"),
        (31, "group", "data.hold_out is 31 of 30 videos; it must be from 0 to 29"),
        (-1, "video", "data.hold_out is -1 of 30 videos; it must be from 0 to 29"),
        (26, "group", "the 4 groups are too large to hold out 26 videos; set data.hold_out lower"),
    ],
)
def test_a_count_that_leaves_no_video_is_refused(shards: Path, count: int, by: By, message: str) -> None:
    with pytest.raises(UsageError) as error:
        held_out(ShardSet.open(shards).select(), count, by)
    assert str(error.value) == message


def test_videos_without_a_group_in_their_key_are_refused(small_shards: Path) -> None:
    videos = ShardSet.open(small_shards).select()
    with pytest.raises(UsageError) as error:
        held_out(videos, 3, "group")
    assert str(error.value) == (
        f"video '{keys(videos)[0]}' has no group in its name, as in v_Archery_g01_c02; set data.hold_out_by=video"
    )
    assert len(held_out(videos, 3)[1]) == 3


ROWS = [[4, 7, 8], [8, 0, 3, 5], [2], list(range(9))]


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("which", ["own", "foreign", "both"])
def test_a_loader_of_selected_videos_has_their_pixels(
    shards: Path, foreign: Path, pictures: Pictures, which: str, rows: list[int], workers: int
) -> None:
    spec = {"own": [shards], "foreign": [foreign], "both": [shards, foreign]}[which]
    everything = ShardSet.open(spec).select()
    # Of both sets in turn.
    taken = [row + 30 * (at % 2) for at, row in enumerate(rows)] if which == "both" else rows
    videos = everything.take(np.array(taken))
    assert keys(videos) == [keys(everything)[row] for row in taken]
    known = pictures(shards)
    (batch,) = Loader(videos, OneClip(frames=4), batch=len(taken), epochs=1, workers=workers)
    assert sorted(batch.row.tolist()) == list(range(len(taken)))
    for number, row in enumerate(batch.row.tolist()):
        assert batch.keys[number] == videos[row].key == everything[taken[row]].key
        assert batch.label[number] == videos.label[row]
        for place, frame in enumerate(batch.frame[number, 0].tolist()):
            picture = known[batch.keys[number].removeprefix("part/")][frame]
            assert np.array_equal(batch.clips[number, 0, place].numpy(), picture)


def test_a_selection_of_a_selection_is_a_selection(shards: Path, foreign: Path) -> None:
    everything = ShardSet.open([shards, foreign]).select()
    twice = everything.take(np.array([35, 2, 31, 38])).take(np.array([3, 0]))
    once = everything.take(np.array([38, 35]))
    assert keys(twice) == keys(once)
    assert twice.fingerprint == once.fingerprint
    assert twice.frame_index is not None
    assert everything.frame_index is not None
    for row, before in enumerate((38, 35)):
        assert twice.frame_index.of(row) == everything.frame_index.of(before)
        assert len(twice.frame_index.of(row)[0]) > 20


def test_a_selected_video_keeps_its_fields(shards: Path) -> None:
    videos = ShardSet.open(shards).select()
    assert [videos.take(np.array([9, 4]))[row] for row in range(2)] == [videos[9], videos[4]]
    none = videos.take(np.array([], int))
    assert len(none) == 0
    assert keys(none) == []


def test_the_fingerprint_does_not_depend_on_the_folder(shards: Path, tmp_path: Path) -> None:
    videos = ShardSet.open(shards).select()
    assert ShardSet.open(shards).select().fingerprint == videos.fingerprint
    assert ShardSet.open(Path(shutil.copytree(shards, tmp_path / "moved"))).select().fingerprint == videos.fingerprint
    assert videos.take(np.arange(30)).fingerprint == videos.fingerprint
    assert held_out(videos, 0)[0].fingerprint == videos.fingerprint


def test_the_fingerprint_does_not_depend_on_paths_classes_and_frame_index(shards: Path, foreign: Path) -> None:
    videos = ShardSet.open(shards).select()
    assert replace(videos, classes=None).fingerprint == videos.fingerprint
    assert replace(videos, paths=[Path("elsewhere") / path.name for path in videos.paths]).fingerprint == (
        videos.fingerprint
    )
    others = ShardSet.open(foreign).select()
    assert replace(others, frame_index=None).fingerprint == others.fingerprint


def test_other_videos_or_another_order_have_another_fingerprint(shards: Path, foreign: Path) -> None:
    videos = ShardSet.open(shards).select()
    left, held = held_out(videos, 10)
    parts = [
        videos,
        left,
        held,
        ShardSet.open(shards).select(split="train"),
        ShardSet.open(shards / "000.tar").select(),
        ShardSet.open(foreign).select(),
        ShardSet.open([shards, foreign]).select(),
        ShardSet.open([foreign, shards]).select(),
        videos.take(np.arange(30)[::-1]),
        videos.take(np.array([1, 0, *range(2, 30)])),
        videos.take(np.array([], int)),
    ]
    assert len({part.fingerprint for part in parts}) == len(parts)


@pytest.mark.parametrize("name", ["label", "frames", "offset", "shard"])
def test_one_changed_number_changes_the_fingerprint(shards: Path, name: str) -> None:
    videos = ShardSet.open(shards).select()
    assert name in PER_VIDEO
    numbers = getattr(videos, name).copy()
    numbers[17] += 1
    assert replace(videos, **{name: numbers}).fingerprint != videos.fingerprint


def test_the_size_of_a_shard_changes_the_fingerprint(shards: Path) -> None:
    videos = ShardSet.open(shards).select()
    sizes = [*videos.sizes[:-1], videos.sizes[-1] + 512]
    assert replace(videos, sizes=sizes).fingerprint != videos.fingerprint
