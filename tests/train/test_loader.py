"""Batches have the right videos and the right pixels, for any ranks and workers and after any stop."""

import json
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vprep.errors import UsageError, WorkError
from vtrain.data import Batch, EvenClips, Loader, OneClip, Plan, open_shards
from vtrain.data.augment.config import AugmentConfig
from vtrain.data.shard_set import ShardSet
from vtrain.methods import ascnet, pace, prp, rspnet

# torch warns if there are more workers than processors, as there are here on purpose.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")

Pictures = Callable[[Path], dict[str, list[np.ndarray]]]
VIDEOS = 30
SMALL: list[Plan] = [
    rspnet.Sampling(frames=4),
    ascnet.Sampling(frames=3, speeds=(2, 4)),
    pace.Sampling(frames=4, clips=2),
]


def take(loader: Loader, count: int) -> list[Batch]:
    return list(islice(loader, count))


def tensors(batch: Batch) -> dict[str, torch.Tensor]:
    columns = {"clips": batch.clips, "label": batch.label, "frame": batch.frame, "speed": batch.speed}
    return columns | {f"target {name}": value for name, value in batch.targets.items()} | batch.augmentation


def assert_same(parts: list[Batch], whole: Batch) -> None:
    """The parts of the ranks, concatenated, are bit for bit the whole batch."""
    assert [key for part in parts for key in part.keys] == whole.keys
    for name, value in tensors(whole).items():
        assert torch.equal(torch.cat([tensors(part)[name] for part in parts]), value), name


@pytest.mark.slow
@given(
    plan=st.sampled_from(SMALL),
    world=st.integers(1, 3),
    local=st.integers(1, 4),
    workers=st.integers(0, 3),
    start=st.integers(0, 100),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_number_of_ranks_and_workers_makes_the_same_global_batches(
    shards: Path, plan: Plan, world: int, local: int, workers: int, start: int, seed: int
) -> None:
    batch, steps = world * local, 3
    wanted = take(open_shards(shards, plan, batch=batch, seed=seed, position=start), steps)
    ranks = [
        take(
            open_shards(shards, plan, batch=batch, seed=seed, position=start, workers=workers, rank=rank, world=world),
            steps,
        )
        for rank in range(world)
    ]
    for step, whole in enumerate(wanted):
        assert_same([batches[step] for batches in ranks], whole)
        assert [batches[step].position for batches in ranks] == [start + batch * (step + 1)] * world


@pytest.mark.slow
@given(
    plan=st.sampled_from(SMALL),
    stop=st.integers(0, 12),
    before=st.integers(0, 2),
    after=st.integers(0, 3),
    batch=st.sampled_from([4, 7]),
)
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_loader_resumed_with_other_workers_continues_with_the_same_batches(
    shards: Path, plan: Plan, stop: int, before: int, after: int, batch: int
) -> None:
    straight = take(open_shards(shards, plan, batch=batch, seed=5), stop + 3)
    loader = open_shards(shards, plan, batch=batch, seed=5, workers=before)
    take(loader, stop)
    assert loader.position == stop * batch
    resumed = open_shards(shards, plan, batch=batch, seed=5, workers=after, position=loader.position)
    for wanted, got in zip(straight[stop:], take(resumed, 3), strict=True):
        assert_same([got], wanted)


@given(batch=st.integers(1, 40), workers=st.integers(0, 3), seed=st.integers(0, 100))
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_epoch_has_every_video_exactly_once(shards: Path, batch: int, workers: int, seed: int) -> None:
    loader = open_shards(shards, OneClip(frames=2), batch=batch, workers=workers, seed=seed, epochs=2)
    steps = len(loader)
    batches = list(loader)
    keys = [key for one in batches for key in one.keys]
    first, second = keys[:VIDEOS], keys[VIDEOS:]
    assert len(batches) == steps == -(-2 * VIDEOS // batch)
    assert sorted(first) == sorted(second) == sorted(set(first))
    assert len(first) == VIDEOS
    assert first != second


@pytest.mark.parametrize("world", [1, 2, 4, 7])
def test_a_finite_pass_has_equal_batches_on_all_ranks_and_marks_the_videos_that_fill_them_up(
    shards: Path, world: int
) -> None:
    batch = 4 * world
    ranks = [
        list(open_shards(shards, EvenClips(clips=2, frames=2), batch=batch, rank=rank, world=world, epochs=1))
        for rank in range(world)
    ]
    assert len({tuple(len(one) for one in batches) for batches in ranks}) == 1
    assert {batches[-1].position for batches in ranks} == {VIDEOS}
    valid = [
        key
        for batches in ranks
        for one in batches
        for key, wanted in zip(one.keys, one.valid.tolist(), strict=True)
        if wanted
    ]
    assert sorted(valid) == sorted(set(valid))
    assert len(valid) == VIDEOS


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    "plan",
    [
        rspnet.Sampling(frames=4),
        ascnet.Sampling(frames=4, speeds=(4, 8)),
        prp.Sampling(speeds=(1,)),
        pace.Sampling(),
        OneClip(),
        EvenClips(),
    ],
    ids=["rspnet", "ascnet", "prp", "pace", "finetune", "test"],
)
def test_the_pixels_are_those_of_the_frames_that_the_plan_chose(
    shards: Path, pictures: Pictures, plan: Plan, workers: int
) -> None:
    known = pictures(shards)
    for batch in take(open_shards(shards, plan, batch=5, workers=workers), 7):
        assert batch.clips.dtype == torch.uint8
        assert batch.clips.shape[:3] == (5, plan.views, plan.length)
        for number, key in enumerate(batch.keys):
            for view in range(plan.views):
                for place in range(plan.length):
                    picture = known[key][batch.frame[number, view, place]]
                    got = batch.clips[number, view, place].numpy()
                    assert _contains(picture, got)


def _contains(picture: np.ndarray, part: np.ndarray) -> bool:
    height, width = part.shape[:2]
    down, right = picture.shape[0] - height, picture.shape[1] - width
    return any(
        np.array_equal(picture[top : top + height, left : left + width], part)
        for top in range(down + 1)
        for left in range(right + 1)
    )


def test_workers_cut_out_a_crop_of_fixed_size(shards: Path, pictures: Pictures) -> None:
    config = AugmentConfig(crop="centre", crop_size=16, size=16, blur_kernel=3, flip=0.0)
    (batch,) = take(open_shards(shards, OneClip(frames=2, looks=(config,)), batch=3), 1)
    assert batch.clips.shape == (3, 1, 2, 16, 16, 3)
    assert batch.augmentation["box"].tolist() == [[[[0, 0, 16, 16]]]] * 3
    picture = pictures(shards)[batch.keys[0]][batch.frame[0, 0, 0]]
    assert np.array_equal(batch.clips[0, 0, 0].numpy(), picture[4:20, 8:24])  # of 24 x 32


def test_a_batch_has_the_labels_and_rows_of_its_videos(shards: Path) -> None:
    videos = ShardSet.open(shards).select()
    assert videos.classes is not None
    for batch in take(Loader(videos, OneClip(frames=2), batch=10), 3):
        for key, row, label in zip(batch.keys, batch.row.tolist(), batch.label.tolist(), strict=True):
            assert videos[row].key == key
            assert videos.classes[label] in key


def test_each_epoch_and_each_group_of_views_draws_its_own_augmentation(shards: Path) -> None:
    loader = open_shards(shards, rspnet.Sampling(frames=2), batch=VIDEOS)
    first, second = take(loader, 2)
    boxes = [dict(zip(batch.keys, batch.augmentation["box"].tolist(), strict=True)) for batch in (first, second)]
    assert sum(boxes[0][key] == boxes[1][key] for key in boxes[0]) < 3
    drawn = first.augmentation["box"]
    assert not torch.equal(drawn[:, 0], drawn[:, 1])


def test_batches_that_are_held_do_not_change(shards: Path) -> None:
    """Buffers are used again, but never while someone holds a tensor of them."""
    for workers in (0, 1, 2):
        loader = open_shards(shards, OneClip(frames=4), batch=3, workers=workers)
        kept, copies = [], []
        for batch in islice(loader, 25):
            kept.append(batch.clips[1:])
            copies.append(batch.clips[1:].clone())
            del batch
        assert all(torch.equal(clips, copy) for clips, copy in zip(kept, copies, strict=True))


def test_a_batch_made_in_several_chunks_is_complete(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = take(open_shards(shards, SMALL[0], batch=7), 5)
    sample = 2 * 8 * 24 * 32 * 3  # bytes
    for samples, workers in ((3, 2), (1, 1), (0.5, 2)):  # a worker has fewer buffers than a batch has chunks
        monkeypatch.setattr("vtrain.data.buffers.CHUNK_BYTES", int(samples * sample))
        parts = take(open_shards(shards, SMALL[0], batch=7, workers=workers), 5)
        for one, other in zip(parts, whole, strict=True):
            assert_same([one], other)


def test_a_second_iteration_continues_at_the_position_of_the_loader(shards: Path) -> None:
    loader = open_shards(shards, OneClip(frames=2), batch=4, workers=1)
    keys = [take(loader, 1)[0].keys for _ in range(3)]
    assert keys == [batch.keys for batch in take(open_shards(shards, OneClip(frames=2), batch=4), 3)]


def test_a_video_that_replaces_a_short_video_has_the_same_speed(
    make_video: Callable[..., Path], run_vprep: Callable[..., object], tmp_path: Path
) -> None:
    for number, seconds in enumerate((0.4, 0.8, 2.8, 3.0)):
        make_video(tmp_path / "in" / f"{number}.mp4", size="64x48", seconds=seconds)
    run_vprep("shard", tmp_path / "in", "--out", tmp_path / "out", "--size", "24x32")
    plan = prp.Sampling(speeds=(4,))
    for batch in take(open_shards(tmp_path / "out", plan, batch=4), 4):
        assert set(batch.keys) <= {"2", "3"}  # 65 frames are needed
        assert batch.speed.unique().tolist() == [4.0]
        assert batch.valid.all()
    all_speeds = prp.Sampling(speeds=(1, 2, 4))
    rates = [take(open_shards(tmp_path / "out", all_speeds, batch=4, seed=seed), 1)[0] for seed in range(40)]
    drawn = torch.cat([batch.targets["rate"] for batch in rates]).bincount(minlength=3)
    assert drawn.min() > 30  # short videos do not make high speeds rarer


def test_a_plan_for_which_no_video_is_long_enough_is_refused(shards: Path) -> None:
    with pytest.raises(WorkError) as error:
        take(open_shards(shards, prp.Sampling(speeds=(8,)), batch=2), 1)
    assert str(error.value) == (
        "no video has the 129 frames that a sample needs, the longest has 20; "
        "use longer videos, or another policy for short ones than replace"
    )


def test_videos_of_different_sizes_share_a_tensor(
    make_video: Callable[..., Path], run_vprep: Callable[..., object], pictures: Pictures, tmp_path: Path
) -> None:
    for name, size in (("wide", "96x48"), ("tall", "48x96")):
        make_video(tmp_path / "in" / f"{name}.mp4", size=size, seconds=0.4)
    run_vprep("shard", tmp_path / "in", "--out", tmp_path / "out", "--short-side", 24)
    (batch,) = take(open_shards(tmp_path / "out", OneClip(frames=3), batch=2), 1)
    assert batch.clips.shape == (2, 1, 3, 48, 48, 3)
    known = pictures(tmp_path / "out")
    for number, key in enumerate(batch.keys):
        height, width = (24, 48) if key == "wide" else (48, 24)
        top, left, tall, broad = batch.augmentation["box"][number, 0, 0].int().tolist()
        assert top + tall <= height
        assert left + broad <= width
        clip = batch.clips[number, 0, 0].numpy()
        assert np.array_equal(clip[:height, :width], known[key][batch.frame[number, 0, 0]])
        assert not clip[height:].any()
        assert not clip[:, width:].any()


def test_tars_of_other_tools_are_read_by_their_index(shards: Path, foreign: Path, pictures: Pictures) -> None:
    known = pictures(shards)
    batches = list(open_shards(foreign, rspnet.Sampling(frames=4), batch=3, workers=1, epochs=1))
    assert sum(map(len, batches)) == 9
    for batch in batches:
        for number, key in enumerate(batch.keys):
            picture = known[key.removeprefix("part/")][batch.frame[number, 1, 3]]
            assert np.array_equal(batch.clips[number, 1, 3].numpy(), picture)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch": 6, "world": 4}, "batch is 6 for 4 ranks; it is divided among them: write a multiple of 4"),
        ({"batch": 0}, "batch is 0 for 1 ranks; it is divided among them: write a multiple of 1"),
        ({"batch": 2, "rank": 2, "world": 2}, "rank is 2 of 2; ranks count from 0"),
        (
            {"batch": 1, "workers": -1},
            "workers is -1; write 0 to work in this process, or the number of worker processes",
        ),
        ({"batch": 1, "on_error": "ignore"}, "on_error is 'ignore'; write raise or skip"),
    ],
)
def test_impossible_arguments_are_refused(shards: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as error:
        open_shards(shards, OneClip(), **options)  # type: ignore[arg-type]
    assert str(error.value) == message


def test_a_loader_can_be_the_source_of_a_webdataset_pipeline(shards: Path) -> None:
    """A stage of webdataset can follow a loader."""
    import webdataset as wds

    loader = open_shards(shards, OneClip(frames=2), batch=10, epochs=1)
    labels = wds.DataPipeline(lambda: iter(loader), wds.map(lambda batch: batch.label.tolist()))
    assert [len(one) for one in labels] == [10, 10, 10]


def test_a_loader_does_not_change_the_files_of_a_set(copy: Path) -> None:
    before = {path.name: path.read_bytes() for path in copy.iterdir()}
    list(open_shards(copy, OneClip(), batch=4, workers=2, epochs=1))
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == before
    assert json.loads(before["dataset.json"])["videos"] == VIDEOS
