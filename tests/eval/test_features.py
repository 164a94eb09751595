"""Features in a file: of every video once, the same bytes however they were made, and gone on with after any stop.

On a CPU all of this is equal to the last bit.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from veval import inputs
from veval.features import extract as extraction
from veval.features import feature_file
from veval.features.extract import How, extract
from veval.protocol import Protocol
from vprep.errors import UsageError, WorkError
from vtrain.data import Loader
from vtrain.data.augment.apply import Augment
from vtrain.data.shard_set import ShardSet
from vtrain.inference import POOLS

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")

SMALL = Protocol(clips=2, frames=8, size=16, pools=("gap", "spatial-max"))
SPLITS = ["train", "test"]
PROGRAM = """
import sys, time
from pathlib import Path
import torch
from veval import inputs
from veval.features import extract as features
from veval.protocol import Protocol
torch.set_num_threads(1)
shards, out, wait = sys.argv[1:]
features.PART_VIDEOS = 3
videos, data = inputs.data(shards, ["train", "test"], fold=2)
protocol = Protocol(clips=2, frames=8, size=16, pools=("gap", "spatial-max"))
how = features.How(batch=2, patience=20, progress=lambda done, of: time.sleep(float(wait)))
features.extract(inputs.weights("random", backbone="tiny"), videos, protocol, Path(out), data=data, how=how)
"""


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extraction, "PART_VIDEOS", 3)


def make(shards: Path, out: Path, protocol: Protocol = SMALL, seed: int = 0, **how: Any) -> bytes:  # noqa: ANN401
    videos, data = inputs.data(str(shards), SPLITS, fold=2)
    extract(inputs.weights("random", backbone="tiny", seed=seed), videos, protocol, out, data=data, how=How(**how))
    return out.read_bytes()


@pytest.fixture(scope="module")
def whole(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The features of SMALL, made in one go."""
    out = tmp_path_factory.mktemp("whole") / "features.parquet"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extraction, "PART_VIDEOS", 3)
        make(shards, out)
    return out


def start(shards: Path, out: Path, wait: float = 0.0, **env: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(shards), str(out), str(wait)],
        env=os.environ | env, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_a_feature_is_the_mean_over_the_clips_of_what_the_network_makes_of_each(shards: Path, whole: Path) -> None:
    kept, net = feature_file.read(whole), inputs.weights("random", backbone="tiny").net
    plan, row = SMALL.plan(), 0
    for split in SPLITS:
        for batch in Loader(ShardSet.open(shards).select(split=split, fold=2), plan, batch=1, epochs=1, shuffled=False):
            clips = Augment(plan.looks)(batch.clips, batch.augmentation)[0]
            with torch.no_grad():
                made = {name: POOLS[name](net.maps(clips)).mean(0) for name in ("gap", "spatial-max")}
            assert (kept.keys[row], kept.split[row], kept.label[row]) == (batch.keys[0], split, batch.label.item())
            for name, feature in made.items():
                assert np.allclose(kept.arrays[name][row], feature.numpy(), atol=1e-6)
            row += 1
    assert row == len(kept.keys) == len(set(kept.keys)) == 24


@pytest.mark.parametrize("how", [{"batch": 7}, {"batch": 1, "workers": 2}, {"batch": 30, "workers": 1}])
def test_batch_and_workers_do_not_change_a_byte(shards: Path, whole: Path, tmp_path: Path, how: dict[str, Any]) -> None:
    assert make(shards, tmp_path / "f.parquet", **how) == whole.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["f.parquet"]


@pytest.mark.parametrize("world", [2, 5, 12])
def test_the_shares_of_several_processes_make_the_same_file(
    shards: Path, whole: Path, tmp_path: Path, world: int
) -> None:
    out = tmp_path / "f.parquet"
    with pytest.raises(WorkError):  # there is no first one yet
        make(shards, out, rank=1, world=world, patience=0)
    with pytest.raises(WorkError):  # it does not wait for the others
        make(shards, out, rank=0, world=world, patience=0)
    for rank in range(1, world):
        videos, data = inputs.data(str(shards), SPLITS, fold=2)
        how = How(rank=rank, world=world)
        extract(inputs.weights("random", backbone="tiny"), videos, SMALL, out, data=data, how=how)
        assert not out.exists()
    assert make(shards, out, rank=0, world=world, patience=0) == whole.read_bytes()


@pytest.mark.slow
def test_processes_of_torchrun_make_it_together(shards: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "f.parquet"
    processes = [start(shards, out, RANK=str(rank), WORLD_SIZE="2") for rank in (1, 0)]
    for process in processes:
        _, words = process.communicate(timeout=120)
        assert process.returncode == 0, words
    assert out.read_bytes() == whole.read_bytes()


def test_a_dead_process_is_not_waited_for_for_ever_and_its_share_can_be_made_later(
    shards: Path, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "f.parquet"
    with pytest.raises(WorkError) as error:
        make(shards, out, rank=0, world=2, patience=0.2)
    # 20 videos to train in 7 parts, 4 to test in 2; the first four are those of the first process.
    assert str(error.value) == (
        f"5 of 9 parts in {out}.parts are missing, and no process has made one for 0.2 s; "
        "what is there stays: run the same command again to go on"
    )
    assert make(shards, out) == whole.read_bytes()


@pytest.mark.slow
def test_killed_at_any_time_and_run_again_the_file_is_the_same(shards: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "f.parquet"
    process = start(shards, out, wait=0.15)
    until = time.monotonic() + 60
    while len(list(tmp_path.glob("*.parts/*.parquet"))) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not out.exists()
    kept = list(tmp_path.glob("*.parts/*.parquet"))
    assert kept
    seen: list[tuple[int, int]] = []
    assert make(shards, out, progress=lambda done, of: seen.append((done, of))) == whole.read_bytes()
    assert seen[-1] == (24 - 3 * len(kept),) * 2  # what was there was not made again
    assert [path.name for path in tmp_path.iterdir()] == ["f.parquet"]


def test_what_is_there_is_not_made_again(shards: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "f.parquet"
    shutil.copy(whole, out)
    seen: list[tuple[int, int]] = []
    make(shards, out, progress=lambda done, of: seen.append((done, of)))
    assert not seen


def test_what_is_there_of_something_else_is_refused(shards: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "f.parquet"
    shutil.copy(whole, out)
    with pytest.raises(UsageError) as error:
        make(shards, out, replace(SMALL, clips=3))
    assert str(error.value) == f"{out} is of protocol clips 2, asked is 3; remove it, or choose another --out"
    out.unlink()
    with pytest.raises(WorkError):
        make(shards, out, world=2, rank=0, patience=0)
    with pytest.raises(UsageError, match=r"parts is of weights hash \w{32}, asked is \w{32}; remove it"):
        make(shards, out, seed=1)
    (tmp_path / "f.parquet.parts" / "facts.json").unlink()
    with pytest.raises(UsageError, match=r"parts holds 'train-0000\d.parquet' and no facts.json; remove it"):
        make(shards, out)


def test_both_kinds_of_file_hold_the_same(shards: Path, whole: Path, tmp_path: Path) -> None:
    npz = tmp_path / "f.npz"
    first = make(shards, npz)
    one, other = feature_file.read(whole), feature_file.read(npz)
    assert one.keys == other.keys
    assert one.facts == other.facts
    assert np.array_equal(one.label, other.label)
    assert np.array_equal(one.split, other.split)
    assert all(np.array_equal(array, other.arrays[name]) for name, array in one.arrays.items())
    with np.load(npz, allow_pickle=False) as found:
        assert found["gap"].dtype == np.float32
        assert json.loads(str(found["facts"]))["protocol"]["clips"] == 2
    npz.unlink()
    assert make(shards, npz) == first


def test_the_file_says_what_it_is_of(whole: Path) -> None:
    facts = json.loads(pq.read_schema(whole).metadata[b"veval"])
    assert facts["protocol"] == SMALL.words("features")
    assert facts["weights"]["method"] == "random"
    assert facts["data"]["videos"] == {"train": 20, "test": 4}
    assert (facts["precision"], facts["dropped"]) == ("float32", [])


def test_at_the_level_of_clips_each_clip_has_its_own(shards: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "f.parquet"
    make(shards, out, replace(SMALL, level="clip", crop="three"))
    kept = feature_file.read(out)
    assert kept.arrays["gap"].shape == (24, 6, 128)
    make(shards, tmp_path / "g.parquet", replace(SMALL, level="clip"))
    clips = feature_file.read(tmp_path / "g.parquet").arrays["gap"]
    assert np.allclose(clips.mean(1), feature_file.read(whole).arrays["gap"], atol=1e-6)


def test_a_split_and_a_pool_are_read_as_a_table(whole: Path) -> None:
    kept = feature_file.read(whole)
    test = kept.of("test", "spatial-max")
    assert test.features.shape == (4, 128)
    assert test.keys == kept.keys[20:]
    assert np.array_equal(kept.of("train").features, kept.arrays["gap"][:20])
    with pytest.raises(UsageError) as error:
        kept.of("val")
    assert str(error.value) == (
        "no features of split 'val' and pool 'gap' are there; there are splits test, train and pools gap, spatial-max"
    )


def test_the_gallery_as_released_is_drawn_at_random_once_for_all_and_lacks_its_last_batch(
    shards: Path, whole: Path, tmp_path: Path
) -> None:
    protocol = replace(SMALL, gallery="released")
    first = make(shards, tmp_path / "f.parquet", protocol)
    assert make(shards, tmp_path / "g.parquet", protocol, batch=5) == first
    released, plain = feature_file.read(tmp_path / "f.parquet"), feature_file.read(whole)
    assert (released.split == "train").sum() == 16  # of 20, in batches of 8
    assert np.array_equal(released.of("test").features, plain.of("test").features)
    rows = [plain.keys.index(key) for key in released.of("train").keys]
    assert not np.allclose(released.of("train").features, plain.arrays["gap"][rows], atol=1e-4)


def test_a_video_that_cannot_be_read_is_left_out_and_named(shards: Path, whole: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "shards"
    shutil.copytree(shards, damaged)
    row = next(row for row in pq.read_table(shards / "index.parquet").to_pylist() if row["split2"] == "test")
    with (damaged / row["shard"]).open("r+b") as file:
        file.seek(row["offset"] + 2)
        file.write(bytes(row["size"] - 2))
    with pytest.raises(WorkError, match=f"video '{row['key']}'"):
        make(damaged, tmp_path / "f.parquet")
    make(damaged, tmp_path / "f.parquet", on_error="skip")
    kept = feature_file.read(tmp_path / "f.parquet")
    assert sorted(kept.keys) == sorted(set(feature_file.read(whole).keys) - {row["key"]})
    (dropped,) = kept.facts["dropped"]
    assert (dropped["key"], dropped["split"], dropped["shard"]) == (row["key"], "test", row["shard"])


def test_weights_that_want_another_mean_see_it(shards: Path, tmp_path: Path) -> None:
    net = extraction.for_clips(torch.nn.Flatten(), replace(SMALL, normalise="kinetics"), "cpu")
    clips = torch.rand(2, 3, 1, 2, 2)
    mean, deviation = inputs.KINETICS
    wanted = torch.stack([(clips[:, channel] - mean[channel]) / deviation[channel] for channel in range(3)], 1)
    assert torch.allclose(net(clips), wanted.flatten(1))
    make(shards, tmp_path / "f.parquet", replace(SMALL, normalise="kinetics"))


def test_only_files_of_features_are_read_and_written(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        make(shards, tmp_path / "f.csv")
    assert str(error.value) == f"--out is {tmp_path / 'f.csv'}; features go to a .parquet or .npz file"
    (tmp_path / "f.parquet").write_bytes(b"no parquet")
    (tmp_path / "f.npz").write_bytes(b"no zip")
    for name in ("f.parquet", "f.npz"):
        with pytest.raises(UsageError, match="holds no features of veval"):
            feature_file.read(tmp_path / name)
    with pytest.raises(UsageError, match=r"there is no .*g.npz; features are made with: veval features"):
        feature_file.read(tmp_path / "g.npz")


@pytest.mark.slow
def test_features_of_50176_numbers_are_kept_and_read(shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "f.parquet"
    videos, data = inputs.data(str(shards), ["test"], fold=2)
    protocol = Protocol(clips=1, pools=("p4", "pool5"), level="clip")
    extract(inputs.weights("random", backbone="c3d"), videos, protocol, out, data=data)
    kept = feature_file.read(out)
    assert kept.arrays["p4"].shape == (4, 1, 50_176)
    assert kept.arrays["pool5"].shape == (4, 1, 9_216)
    assert all(np.isfinite(array).all() and array.any(2).all() for array in kept.arrays.values())
