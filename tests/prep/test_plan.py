"""The plan: keys, order and shards of the videos."""

import random
import re
from collections import Counter
from pathlib import Path

import pytest

from vprep.errors import UsageError
from vprep.layouts.listing import Entry
from vprep.settings import Settings, read_share, read_size
from vprep.sharding.destination import LocalSet
from vprep.sharding.plan import (
    LONGEST_KEY,
    Planned,
    divide,
    interleaved,
    keys_of,
    planned_videos,
    read_plan,
    write_plan,
)


def keys(*sources: str) -> list[str]:
    return keys_of([Entry(source=source, bytes=1) for source in sources])


def planned(sizes: dict[str, int]) -> list[Planned]:
    entries = [
        Entry(source=f"{name}/{n}", bytes=1, class_name=name) for name, size in sizes.items() for n in range(size)
    ]
    return [Planned(entry.source.replace("/", "_"), entry) for entry in entries]


def test_a_key_is_the_name_of_the_file() -> None:
    assert keys("Archery/v_Archery_g01_c01.avi", "abseiling/-0wR5jVB-WPk_000417_000427.mp4") == [
        "v_Archery_g01_c01",
        "-0wR5jVB-WPk_000417_000427",
    ]


def test_videos_of_one_name_get_different_keys_that_do_not_depend_on_other_videos() -> None:
    few, more = keys("a/1.mp4", "b/1.mp4"), keys("a/1.mp4", "b/1.mp4", "c/1.mp4")
    assert len(set(few)) == 2
    assert more[:2] == few


def test_names_that_differ_only_in_dots_get_different_keys() -> None:
    first, second = keys("clip.v1.mp4", "clip.v2.mp4")
    assert (first, second) == ("clip_v1", "clip_v2")


@pytest.mark.parametrize(
    "source", ["a b(c)'d.mp4", "ünïcode/日本.mp4", "x" * 300 + ".mp4", "%d.mp4", "new\nline.mp4", ".mp4"]
)
def test_any_name_gives_a_key_that_a_tar_and_webdataset_can_hold(source: str) -> None:
    (key,) = keys(source)
    assert re.fullmatch(rf"[A-Za-z0-9_-]{{1,{LONGEST_KEY}}}", key)


def test_parts_of_a_file_have_keys_of_their_own() -> None:
    parts = [Entry(source="a.mp4", bytes=1, start=start, end=start + 2.5) for start in (0.0, 2.5)]
    assert keys_of(parts) == ["a-0-2500", "a-2500-5000"]


def test_a_video_named_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="the source names a video twice; its key is 'a-"):
        keys("a.mp4", "a.mp4")


def test_every_stretch_of_the_order_holds_the_classes_in_their_shares() -> None:
    ordered = interleaved(planned({"common": 600, "rare": 60, "single": 1}), seed=0)
    assert len(ordered) == 661
    for begin in range(0, 600, 110):
        counts = Counter(video.entry.class_name for video in ordered[begin : begin + 110])
        assert 8 <= counts["rare"] <= 12


def test_the_order_depends_on_the_seed_and_not_on_the_order_of_listing() -> None:
    videos = planned({"a": 20, "b": 30})
    shuffled = random.Random(1).sample(videos, len(videos))
    assert interleaved(videos, seed=0) == interleaved(shuffled, seed=0)
    assert interleaved(videos, seed=0) != interleaved(videos, seed=1)


def test_shards_differ_by_one_video_at_most_and_keep_the_order() -> None:
    videos = planned({"a": 23})
    shards = divide(videos, 5)
    assert sorted(map(len, shards)) == [4, 4, 5, 5, 5]
    assert [video for shard in shards for video in shard] == videos


def test_more_shards_than_videos_are_refused() -> None:
    with pytest.raises(UsageError) as refused:
        divide(planned({"a": 3}), 4)
    assert str(refused.value) == "3 videos do not fill 4 shards; use --shards 3 or fewer"


def test_a_plan_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    shards = divide(planned({"é ü": 5, "b": 6}), 3)
    plan = write_plan(LocalSet(tmp_path), Settings(seed=7), "/videos", ["b", "é ü"], shards)
    assert read_plan(tmp_path) == plan
    assert [videos for _, videos in planned_videos(tmp_path)] == shards
    assert list(plan.shards) == ["000.tar", "001.tar", "002.tar"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("128", "--size is '128'; it must be HEIGHTxWIDTH, as in 128x171"),
        ("128x", "--size is '128x'; it must be HEIGHTxWIDTH, as in 128x171"),
    ],
)
def test_a_malformed_size_is_an_error_that_says_what_to_write(text: str, message: str) -> None:
    with pytest.raises(UsageError) as refused:
        read_size(text)
    assert str(refused.value) == message


def test_a_share_is_a_percentage_or_a_fraction() -> None:
    assert (read_share("5%"), read_share("0.05"), read_share("100%")) == (0.05, 0.05, 1.0)
    for text in ("5", "x%", "-1%", "nan"):
        with pytest.raises(UsageError, match="it must be a share from 0% to 100%"):
            read_share(text)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"quality": 1}, "--quality is 1; it must be from 2 to 31"),
        ({"fps": 0}, "--fps is '0'; it must be a number from 0.1 to 240, or native"),
        ({"height": 5}, "--size is 5; it must be from 8 to 4096"),
        ({"shards": 0}, "--shards is 0; it must be from 1 to 1000000"),
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError) as refused:
        Settings(**wrong)  # type: ignore[arg-type]
    assert str(refused.value) == message
