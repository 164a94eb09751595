"""The frames that plans choose, against numbers worked out by hand."""

from collections.abc import Sequence
from fractions import Fraction
from random import Random
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vprep.errors import UsageError
from vtrain.data.sampling import (
    EvenClips,
    OneClip,
    Plan,
    Short,
    TooShortError,
    Video,
    covering,
    fallback,
    random_clip,
    restarted,
)
from vtrain.methods import ascnet, pace, prp, rspnet


def video(frames: int) -> Video:
    return Video(key="v", frames=frames, fps=25.0, height=128, width=171)


def shown(plan: Plan, frames: int, seed: int = 0) -> list[list[int]]:
    return [list(view.frames) for view in plan(video(frames), Random(seed)).views]


@pytest.mark.parametrize(
    ("short", "frames", "wanted"),
    [
        ("loop", 5, [0, 3, 1, 4]),  # 0 3 6 9 modulo 5
        ("restart", 5, [0, 3, 0, 3]),  # the third would be 6: begin again
        ("stretch", 5, [0, 1, 3, 4]),  # 0, 4/3, 8/3, 4
        ("stretch", 3, [0, 1, 2, 0]),  # fewer than the clip shows: 0 1 2 3 modulo 3, not 0 3 6 9
        ("stretch", 4, [0, 1, 2, 3]),
        ("loop", 1, [0, 0, 0, 0]),
    ],
)
def test_a_short_video_is_shown_as_the_policy_says(short: str, frames: int, wanted: list[int]) -> None:
    assert fallback(4, 3, frames, short) == wanted  # type: ignore[arg-type]


@pytest.mark.parametrize("short", ["replace", "error"])
def test_a_refused_video_is_an_error_with_the_number_of_frames_needed(short: str) -> None:
    with pytest.raises(TooShortError) as error:
        fallback(4, 3, 9, short)  # type: ignore[arg-type]
    assert (error.value.needed, error.value.short) == (10, short)


def test_a_clip_that_just_fits_begins_at_the_first_frame() -> None:
    assert random_clip(Random(1), 4, 3, 10, "error") == [0, 3, 6, 9]


def test_every_start_that_fits_is_drawn() -> None:
    assert {random_clip(Random(seed), 4, 3, 13, "error")[0] for seed in range(100)} == {0, 1, 2, 3}


PLANS: list[Plan] = [
    rspnet.Sampling(),
    ascnet.Sampling(),
    ascnet.Sampling(speeds=(1, 2, 4, 8)),
    prp.Sampling(short="loop"),
    prp.Sampling(short="loop", rate=4, mask="paper"),
    pace.Sampling(),
    pace.Sampling(paces=(Fraction(1, 3), Fraction(1, 2), 1, 2, 3), clips=2),
    OneClip(),
    OneClip(how="cover"),
    EvenClips(),
    EvenClips(how="centres"),
    EvenClips(how="cover", clips=2),
]


@given(plan=st.sampled_from(PLANS), frames=st.integers(1, 400), seed=st.integers(0, 2**64 - 1))
def test_every_plan_chooses_as_many_frames_as_it_says_from_those_of_the_video(
    plan: Plan, frames: int, seed: int
) -> None:
    sample = plan(video(frames), Random(seed))
    assert len(sample.views) == plan.views
    for view in sample.views:
        assert len(view.frames) == plan.length
        assert min(view.frames) >= 0
        assert max(view.frames) < frames
    assert plan(video(frames), Random(seed)) == sample


@given(short=st.sampled_from(get_args(Short)), frames=st.integers(1, 300), seed=st.integers(0, 1000))
def test_a_policy_for_short_videos_does_not_touch_long_ones(short: str, frames: int, seed: int) -> None:
    clip = (16, 8)
    if frames >= 121:
        assert random_clip(Random(seed), *clip, frames, short) == random_clip(  # type: ignore[arg-type]
            Random(seed), *clip, frames, "error"
        )
    elif short in ("replace", "error"):
        with pytest.raises(TooShortError):
            random_clip(Random(seed), *clip, frames, short)  # type: ignore[arg-type]
    else:
        assert len(random_clip(Random(seed), *clip, frames, short)) == 16  # type: ignore[arg-type]


def test_rspnet_takes_two_windows_of_consecutive_frames_in_groups_of_their_own() -> None:
    sample = rspnet.Sampling()(video(100), Random(3))
    for view in sample.views:
        assert list(view.frames) == list(range(view.frames[0], view.frames[0] + 32))
    assert [view.group for view in sample.views] == [0, 1]
    assert sample.views[0].frames != sample.views[1].frames


def test_rspnet_loops_a_video_shorter_than_a_window() -> None:
    assert shown(rspnet.Sampling(frames=4), 6) == [[0, 1, 2, 3, 4, 5, 0, 1]] * 2


def test_ascnet_shows_both_speeds_in_both_orders() -> None:
    orders = set()
    for seed in range(20):
        sample = ascnet.Sampling()(video(200), Random(seed))
        speeds = [view.frames[1] - view.frames[0] for view in sample.views]
        assert [view.speed for view in sample.views] == speeds == sample.targets["speed"]
        orders.add(tuple(speeds))
    assert orders == {(4, 8), (8, 4)}


def test_prp_needs_one_frame_more_than_its_window() -> None:
    plan = prp.Sampling(speeds=(8,))
    assert len(shown(plan, 129)[0]) == 32 + 32
    with pytest.raises(TooShortError) as error:
        plan(video(128), Random(0))
    assert (error.value.needed, error.value.short) == (129, "replace")


@pytest.mark.parametrize("speed", [2, 4, 8])
def test_prp_paints_twice_as_many_stored_frames_as_it_sees(speed: int) -> None:
    sample = prp.Sampling(speeds=(speed,))(video(129), Random(0))
    (view,) = sample.views
    start = view.frames[0]
    assert list(view.frames[:32]) == list(range(start, start + 16 * speed, speed // 2))
    assert list(view.frames[:32:2]) == list(range(start, start + 16 * speed, speed))  # what the network sees
    assert view.speed == speed


@pytest.mark.parametrize(("speed", "rate", "real"), [(1, 2, 16), (1, 4, 16), (2, 4, 32)])
def test_prp_takes_all_frames_of_its_window_when_it_paints_more_than_there_are(
    speed: int, rate: int, real: int
) -> None:
    plan = prp.Sampling(speeds=(speed,), rate=rate)
    (frames,) = shown(plan, 40)
    start, last = frames[0], frames[0] + real - 1
    assert frames[: 16 * rate] == [*range(start, last), *[last] * (16 * rate - real + 1)]
    assert frames[16 * rate :] == [start + 16 * segment + n for segment in range(speed) for n in (0, 5, 10, 15)]


@pytest.mark.parametrize(
    ("mask", "frames", "numbers"),
    [
        ("released", 16, (0, 5, 10, 15)),
        ("released", 8, (0, 2, 5, 7)),  # 0, 7/3, 14/3, 7
        ("released", 4, (0, 1, 2, 3)),
        ("paper", 4, (0, 1, 2, 3)),
        ("paper", 8, range(8)),
        ("none", 8, ()),
    ],
)
def test_prp_compares_some_frames_of_each_segment_as_long_as_its_clip(
    mask: prp.Mask, frames: int, numbers: Sequence[int]
) -> None:
    plan = prp.Sampling(frames=frames, speeds=(2, 4), mask=mask)
    for seed in range(8):
        (view,) = plan(video(200), Random(seed)).views
        start, segments = view.frames[0], int(view.speed)
        motion = [start + frames * segment + number for segment in range(segments) for number in numbers]
        last = start + frames * segments - 1
        assert list(view.frames[2 * frames :]) == motion + [last] * (4 * len(numbers) - len(motion))


def test_the_target_of_prp_is_the_index_of_the_speed() -> None:
    plan = prp.Sampling(speeds=(1, 2, 4, 8, 16), rate=1, short="loop")
    samples = [plan(video(300), Random(seed)) for seed in range(60)]
    assert {(sample.targets["rate"], sample.views[0].speed) for sample in samples} == set(enumerate((1, 2, 4, 8, 16)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"speeds": (1, 3)},
            "speeds has 3, and rate is 2: frames to reconstruct would lie between those of the video; "
            "one must be a multiple of the other",
        ),
        (
            {"speeds": (3,), "rate": 1},
            "speeds has 3, which needs 3 motion maps for 16 x 1 frames to reconstruct, which cannot be "
            "divided evenly among them; "
            "leave this speed out, or set mask=none",
        ),
    ],
)
def test_prp_refuses_a_speed_that_its_frames_do_not_fit(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as error:
        prp.Sampling(**settings)
    assert str(error.value) == message


def test_prp_begins_at_the_first_frame_twice_as_often_as_elsewhere() -> None:
    starts = [shown(prp.Sampling(speeds=(1,)), 20, seed)[0][0] for seed in range(4000)]
    assert set(starts) == {0, 1, 2}  # 0..3 is drawn, and 1 is subtracted unless it is 0
    assert 1.8 < starts.count(0) / starts.count(1) < 2.2


def test_pace_begins_again_at_the_first_frame_where_a_video_ends() -> None:
    assert restarted(7, 5, 3, 10) == [7, 0, 3, 6, 9]
    starts = {shown(pace.Sampling(), 20, seed)[0][0] for seed in range(300)}
    assert starts == set(range(20))


def test_the_target_of_pace_is_the_index_of_the_pace() -> None:
    plan = pace.Sampling(paces=(Fraction(1, 3), Fraction(1, 2), 1, 2, 3), short="loop")
    for seed in range(50):
        sample = plan(video(500), Random(seed))
        (label,), (view,) = sample.targets["pace"], sample.views
        assert view.speed == pytest.approx(float(plan.paces[label]))
        seen = [frame - view.frames[0] for frame in view.frames[:7]]
        if view.frames[0] < 400:
            assert seen == [int(number * plan.paces[label]) for number in range(7)]


def test_one_clip_is_consecutive_or_covers_the_video() -> None:
    (clip,) = shown(OneClip(frames=4, step=2), 100)
    assert clip == [clip[0] + 2 * number for number in range(4)]
    assert covering(40, 4, 0.0) == [0, 10, 20, 30]
    assert covering(40, 4, 9.99) == [9, 19, 29, 39]


def test_a_clip_that_covers_a_video_with_fewer_frames_than_it_shows_loops_in_training_and_in_testing() -> None:
    looped = [0, 1, 2, 3, 4, 0, 1, 2]
    for seed in range(20):
        assert shown(OneClip(frames=8, how="cover"), 5, seed) == [looped]
    assert shown(EvenClips(clips=2, frames=8, how="cover", short="stretch"), 5) == [looped] * 2
    assert shown(EvenClips(clips=1, frames=5, how="cover"), 5) == [[0, 1, 2, 3, 4]]
    for plan in (OneClip(frames=8, how="cover", short="error"), EvenClips(frames=8, how="cover", short="error")):
        with pytest.raises(TooShortError) as error:
            plan(video(5), Random(0))
        assert error.value.needed == 8


def test_a_single_clip_that_covers_a_video_shows_the_middle_of_each_part() -> None:
    # 40 frames in 4 parts of 10: 5 frames into each. 50 frames in 4 parts of 12.5: 6.25, 18.75, 31.25, 43.75.
    assert shown(EvenClips(clips=1, frames=4, how="cover"), 40) == [[5, 15, 25, 35]]
    assert shown(EvenClips(clips=1, frames=4, how="cover"), 50) == [[6, 18, 31, 43]]


@pytest.mark.parametrize(
    ("plan", "frames", "starts"),
    [
        (EvenClips(clips=4), 25, [0, 3, 6, 9]),
        (EvenClips(clips=4), 18, [0, 1, 1, 2]),  # 0, 2/3, 4/3, 2
        (EvenClips(clips=1), 25, [4]),  # 9 // 2
        (EvenClips(clips=1), 27, [5]),  # 11 // 2, where rounding 5.5 gives 6
        (EvenClips(clips=1, step=2), 42, [5]),  # 11 // 2: 31 frames from the first to the last
        (EvenClips(clips=3), 27, [0, 6, 11]),  # 5.5, rounded to even, as numpy does
        (EvenClips(clips=4, how="centres"), 25, [0, 3, 6, 9]),  # centres 8, 11, 14, 17
        (EvenClips(clips=10, how="centres"), 41, [0, 2, 5, 8, 11, 13, 16, 19, 22, 25]),  # 25/9, 50/9 ..., cut off
        (EvenClips(clips=1, how="centres"), 41, [0]),  # np.linspace(8, 33, 1) is [8]
        (EvenClips(clips=3, how="centres", step=2), 40, [0, 4, 8]),  # centres 16, 20, 24
        (EvenClips(clips=3, how="centres", step=2), 31, [0, 0, 0]),  # the span just fits, the strides do not
    ],
)
def test_even_clips_begin_where_the_protocol_says(plan: EvenClips, frames: int, starts: list[int]) -> None:
    clips = shown(plan, frames)
    assert [clip[0] for clip in clips] == starts
    assert all(clip == [clip[0] + plan.step * number for number in range(16)] for clip in clips)


@pytest.mark.parametrize("length", [15, 16])
@pytest.mark.parametrize("clips", [1, 2, 3, 7, 10, 15])
def test_even_clips_begin_where_numpys_linspace_puts_them(length: int, clips: int) -> None:
    half = length / 2  # 7.5 for 15 frames
    for frames in range(length, 300):
        centres = np.linspace(half, frames - half, clips)
        vcop = [clip[0] for clip in shown(EvenClips(clips=clips, frames=length, how="centres"), frames)]
        assert vcop == [int(centre - half) for centre in centres], frames
        if clips > 1:
            starts = [clip[0] for clip in shown(EvenClips(clips=clips, frames=length), frames)]
            assert starts == np.linspace(0, frames - length, clips).round().tolist(), frames


def test_even_clips_of_a_video_shorter_than_a_clip_are_all_the_same() -> None:
    assert shown(EvenClips(clips=3, frames=4), 3) == [[0, 1, 2, 0]] * 3


def test_two_covering_clips_alternate() -> None:
    assert shown(EvenClips(clips=2, frames=4, how="cover"), 40) == [[0, 10, 20, 30], [5, 15, 25, 35]]
    assert shown(EvenClips(clips=2, frames=4, how="cover"), 50) == [[0, 12, 25, 37], [6, 18, 31, 43]]
