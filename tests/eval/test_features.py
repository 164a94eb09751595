"""Features: each video once, the same bytes however they are computed, in memory or in a file, after any interruption.

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
from veval.evaluation import Evaluation, Execution, Weights
from veval.features import extract, feature_file
from veval.features.forward import for_clips
from veval.protocol import Protocol
from vprep.errors import UsageError, WorkError
from vprep.hashing import hash_file
from vtrain.data import Loader
from vtrain.data.augment.apply import Augment
from vtrain.data.shard_set import ShardSet
from vtrain.inference import POOLS
from vtrain.weights import save_weights

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")

SMALL = Protocol(clips=2, frames=8, size=16, pools=("gap", "spatial-max"))
SPLITS = ["train", "test"]
PROGRAM = """
import sys, time
from pathlib import Path
import torch
from veval import inputs
from veval.evaluation import Evaluation, Execution
from veval.features import extract
from veval.protocol import Protocol
torch.set_num_threads(1)
shards, out, wait = sys.argv[1:]
extract.PART_VIDEOS = 3
evaluation = Evaluation(
    network=inputs.weights("random", backbone="tiny"),
    data=inputs.open_data(shards, ["train", "test"], fold=2),
    protocol=Protocol(clips=2, frames=8, size=16, pools=("gap", "spatial-max")),
    execution=Execution(batch=2, patience=20, progress=lambda done, of: time.sleep(float(wait))),
)
extract.write(extract.work_of(evaluation), Path(out))
"""


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extract, "PART_VIDEOS", 3)


def evaluation(shards: Path, protocol: Protocol = SMALL, seed: int = 0, **execution: Any) -> Evaluation[Weights]:  # noqa: ANN401
    return Evaluation(
        network=inputs.weights("random", backbone="tiny", seed=seed),
        data=inputs.open_data(str(shards), SPLITS, fold=2),
        protocol=protocol,
        execution=Execution(**execution),
    )


def make(shards: Path, out: Path, protocol: Protocol = SMALL, seed: int = 0, **execution: Any) -> bytes:  # noqa: ANN401
    extract.write(extract.work_of(evaluation(shards, protocol, seed, **execution), "train"), out)
    return out.read_bytes()


@pytest.fixture(scope="module")
def complete(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The features of SMALL, written without interruption."""
    out = tmp_path_factory.mktemp("complete") / "features.parquet"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extract, "PART_VIDEOS", 3)
        make(shards, out)
    return out


def start(shards: Path, out: Path, wait: float = 0.0, **env: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(shards), str(out), str(wait)],
        env=os.environ | env, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_a_feature_is_the_mean_of_the_networks_outputs_over_the_clips(shards: Path, complete: Path) -> None:
    kept, net = feature_file.read(complete), inputs.weights("random", backbone="tiny").net
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
def test_batch_and_workers_do_not_change_a_byte(
    shards: Path, complete: Path, tmp_path: Path, how: dict[str, Any]
) -> None:
    assert make(shards, tmp_path / "f.parquet", **how) == complete.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["f.parquet"]


@pytest.mark.parametrize("world", [2, 5, 12])
def test_the_shares_of_several_processes_are_merged_to_the_same_file(
    shards: Path, complete: Path, tmp_path: Path, world: int
) -> None:
    out = tmp_path / "f.parquet"
    with pytest.raises(WorkError):  # there is no first one yet
        make(shards, out, rank=1, world=world, patience=0)
    with pytest.raises(WorkError):  # it does not wait for the others
        make(shards, out, rank=0, world=world, patience=0)
    for rank in range(1, world):
        extract.write(extract.work_of(evaluation(shards, rank=rank, world=world), "train"), out)
        assert not out.exists()
    assert make(shards, out, rank=0, world=world, patience=0) == complete.read_bytes()


@pytest.mark.slow
def test_processes_of_torchrun_share_the_work(shards: Path, complete: Path, tmp_path: Path) -> None:
    out = tmp_path / "f.parquet"
    processes = [start(shards, out, RANK=str(rank), WORLD_SIZE="2") for rank in (1, 0)]
    for process in processes:
        _, words = process.communicate(timeout=120)
        assert process.returncode == 0, words
    assert out.read_bytes() == complete.read_bytes()


def test_nobody_waits_forever_for_a_dead_process_and_its_share_can_be_computed_later(
    shards: Path, complete: Path, tmp_path: Path
) -> None:
    out = tmp_path / "f.parquet"
    with pytest.raises(WorkError) as error:
        make(shards, out, rank=0, world=2, patience=0.2)
    # 20 videos to train in 7 parts, 4 to test in 2; the first four are those of the first process.
    assert str(error.value) == (
        f"5 of 9 parts in {out}.parts are missing, and no process has written one for 0.2 s; "
        "the finished parts stay: run the same command again to continue"
    )
    assert make(shards, out) == complete.read_bytes()


@pytest.mark.slow
def test_killed_at_any_time_and_run_again_the_file_is_the_same(shards: Path, complete: Path, tmp_path: Path) -> None:
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
    assert make(shards, out, progress=lambda done, of: seen.append((done, of))) == complete.read_bytes()
    assert seen[-1] == (24 - 3 * len(kept),) * 2  # finished parts are not computed again
    assert [path.name for path in tmp_path.iterdir()] == ["f.parquet"]


def test_a_finished_file_is_not_computed_again(shards: Path, complete: Path, tmp_path: Path) -> None:
    out = tmp_path / "f.parquet"
    shutil.copy(complete, out)
    seen: list[tuple[int, int]] = []
    make(shards, out, progress=lambda done, of: seen.append((done, of)))
    assert not seen


def test_a_file_or_parts_of_other_work_are_refused(shards: Path, complete: Path, tmp_path: Path) -> None:
    out = tmp_path / "f.parquet"
    shutil.copy(complete, out)
    with pytest.raises(UsageError) as error:
        make(shards, out, replace(SMALL, clips=3))
    assert str(error.value) == f"{out} was made with protocol clips 2, not 3; remove it, or name another file"
    out.unlink()
    with pytest.raises(WorkError):
        make(shards, out, world=2, rank=0, patience=0)
    with pytest.raises(UsageError, match=r"parts was made with weights hash \w{32}, not \w{32}; remove it"):
        make(shards, out, seed=1)
    (tmp_path / "f.parquet.parts" / "facts.json").unlink()
    with pytest.raises(UsageError, match=r"parts holds 'train-0000\d.parquet' but no facts.json; remove the folder"):
        make(shards, out)


@pytest.mark.parametrize("word", ["random", "file"])
def test_features_of_version_0_1_are_still_those_of_the_same_weights(word: str, shards: Path, tmp_path: Path) -> None:
    """They hold the hash of the weights' file, and do not say what it is of."""
    weights, out = tmp_path / "a.safetensors", tmp_path / "f.parquet"
    save_weights(weights, inputs.weights("random", backbone="tiny").net, {"backbone": "tiny"})
    path = "random" if word == "random" else str(weights)

    def work() -> extract.Work:
        network = inputs.weights(path, backbone="tiny")
        return extract.work_of(replace(evaluation(shards), network=network), "train")

    extract.write(work(), out)
    table = pq.read_table(out)
    info = json.loads(table.schema.metadata[b"veval"])
    del info["weights"]["hash_of"]
    info["weights"]["hash"] = hash_file(weights) if word == "file" else info["weights"]["hash"]
    pq.write_table(table.replace_schema_metadata({b"veval": json.dumps(info)}), out)
    older = out.read_bytes()
    extract.write(work(), out)
    assert out.read_bytes() == older
    if word == "file":
        save_weights(weights, inputs.weights("random", backbone="tiny", seed=1).net, {"backbone": "tiny"})
        with pytest.raises(UsageError, match=r"was made with weights hash \w{32}, not \w{32}; remove it"):
            extract.write(work(), out)


def test_both_kinds_of_file_hold_the_same(shards: Path, complete: Path, tmp_path: Path) -> None:
    npz = tmp_path / "f.npz"
    first = make(shards, npz)
    one, other = feature_file.read(complete), feature_file.read(npz)
    assert one.keys == other.keys
    assert one.info == other.info
    assert np.array_equal(one.label, other.label)
    assert np.array_equal(one.split, other.split)
    assert all(np.array_equal(array, other.arrays[name]) for name, array in one.arrays.items())
    with np.load(npz, allow_pickle=False) as found:
        assert found["gap"].dtype == np.float32
        assert json.loads(str(found["facts"]))["protocol"]["clips"] == 2
    npz.unlink()
    assert make(shards, npz) == first


def test_the_file_says_what_its_features_depend_on(complete: Path) -> None:
    info = json.loads(pq.read_schema(complete).metadata[b"veval"])
    assert info["protocol"] == SMALL.as_dict("features")
    assert info["weights"]["method"] == "random"
    assert info["data"]["videos"] == {"train": 20, "test": 4}
    assert (info["precision"], info["dropped"]) == ("float32", [])


def test_at_the_level_of_clips_each_clip_has_its_own(shards: Path, complete: Path, tmp_path: Path) -> None:
    out = tmp_path / "f.parquet"
    make(shards, out, replace(SMALL, level="clip", crop="three"))
    kept = feature_file.read(out)
    assert kept.arrays["gap"].shape == (24, 6, 128)
    make(shards, tmp_path / "g.parquet", replace(SMALL, level="clip"))
    clips = feature_file.read(tmp_path / "g.parquet").arrays["gap"]
    assert np.allclose(clips.mean(1), feature_file.read(complete).arrays["gap"], atol=1e-6)


def test_a_split_and_a_pool_are_read_as_a_table(complete: Path) -> None:
    kept = feature_file.read(complete)
    test = kept.of("test", "spatial-max")
    assert test.features.shape == (4, 128)
    assert test.keys == kept.keys[20:]
    assert np.array_equal(kept.of("train").features, kept.arrays["gap"][:20])
    with pytest.raises(UsageError) as error:
        kept.of("val")
    assert str(error.value) == (
        "there are no features of split 'val' and pool 'gap'; there are splits test, train and pools gap, spatial-max"
    )


@pytest.mark.parametrize("changes", [{}, {"level": "clip"}, {"gallery": "released"}, {"crop": "three"}])
def test_features_in_memory_are_those_of_a_file_to_the_last_bit(
    shards: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    protocol = replace(SMALL, **changes)
    make(shards, tmp_path / "f.npz", protocol)
    kept = feature_file.read(tmp_path / "f.npz")
    seen: list[tuple[int, int]] = []
    work = extract.work_of(evaluation(shards, protocol, progress=lambda done, of: seen.append((done, of))), "train")
    found = extract.compute(work)
    assert (found.keys, found.split.tolist(), found.info) == (kept.keys, kept.split.tolist(), kept.info)
    assert np.array_equal(found.label, kept.label)
    assert found.arrays.keys() == kept.arrays.keys()
    assert all(array.tobytes() == kept.arrays[name].tobytes() for name, array in found.arrays.items())
    assert seen[-1] == (24, 24)


def test_the_released_gallery_is_cropped_at_random_once_for_all_clips_and_lacks_its_last_batch(
    shards: Path, complete: Path, tmp_path: Path
) -> None:
    protocol = replace(SMALL, gallery="released")
    first = make(shards, tmp_path / "f.parquet", protocol)
    assert make(shards, tmp_path / "g.parquet", protocol, batch=5) == first
    released, plain = feature_file.read(tmp_path / "f.parquet"), feature_file.read(complete)
    assert (released.split == "train").sum() == 16  # of 20, in batches of 8
    assert np.array_equal(released.of("test").features, plain.of("test").features)
    rows = [plain.keys.index(key) for key in released.of("train").keys]
    assert not np.allclose(released.of("train").features, plain.arrays["gap"][rows], atol=1e-4)


def test_a_video_that_cannot_be_read_is_left_out_and_listed(shards: Path, complete: Path, tmp_path: Path) -> None:
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
    computed = extract.compute(extract.work_of(evaluation(damaged, on_error="skip")))
    assert (computed.keys, computed.info["dropped"]) == (kept.keys, kept.info["dropped"])
    assert sorted(kept.keys) == sorted(set(feature_file.read(complete).keys) - {row["key"]})
    (dropped,) = kept.info["dropped"]
    assert (dropped["key"], dropped["split"], dropped["shard"]) == (row["key"], "test", row["shard"])


def test_weights_with_the_normalisation_of_torchvision_get_it(shards: Path, tmp_path: Path) -> None:
    net = for_clips(torch.nn.Flatten(), replace(SMALL, normalise="kinetics"), "cpu")
    clips = torch.rand(2, 3, 1, 2, 2)
    mean, deviation = inputs.KINETICS
    wanted = torch.stack([(clips[:, channel] - mean[channel]) / deviation[channel] for channel in range(3)], 1)
    assert torch.allclose(net(clips), wanted.flatten(1))
    make(shards, tmp_path / "f.parquet", replace(SMALL, normalise="kinetics"))


def test_only_files_of_features_are_read_and_written(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        make(shards, tmp_path / "f.csv")
    wanted = "the name of a feature file ends in .parquet or .npz"
    assert str(error.value) == f"{wanted}, and that of {tmp_path / 'f.csv'} does not"
    (tmp_path / "f.parquet").write_bytes(b"no parquet")
    (tmp_path / "f.npz").write_bytes(b"no zip")
    for name in ("f.parquet", "f.npz"):
        with pytest.raises(UsageError, match="holds no features of veval"):
            feature_file.read(tmp_path / name)
    with pytest.raises(UsageError, match=r"there is no .*g.npz; make features with: veval features"):
        feature_file.read(tmp_path / "g.npz")


def test_a_large_array_is_read_from_both_kinds_of_file(tmp_path: Path) -> None:
    array = np.random.default_rng(0).random((3000, 1024), np.float32)  # 12 MB
    keys, label = [str(row) for row in range(len(array))], np.zeros(len(array), np.int64)
    feature_file.write_part(tmp_path / "a.parquet", keys, label, "train", {"gap": array}, [])
    for name in ("f.parquet", "f.npz"):
        feature_file.merge([tmp_path / "a.parquet"], {"gap": (1024,)}, {}, tmp_path / name)
        assert np.array_equal(feature_file.read(tmp_path / name).arrays["gap"], array)


@pytest.mark.slow
def test_features_of_50176_numbers_are_kept_and_read(shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "f.parquet"
    c3d = Evaluation(
        network=inputs.weights("random", backbone="c3d"),
        data=inputs.open_data(str(shards), ["test"], fold=2),
        protocol=Protocol(clips=1, pools=("p4", "pool5"), level="clip"),
    )
    extract.write(extract.work_of(c3d), out)
    kept = feature_file.read(out)
    assert kept.arrays["p4"].shape == (4, 1, 50_176)
    assert kept.arrays["pool5"].shape == (4, 1, 9_216)
    assert all(np.isfinite(array).all() and array.any(2).all() for array in kept.arrays.values())
