"""From an evaluation to a result: features with the class are always correct, noise is correct by chance, and a result
says what it depends on."""

import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from small_recipes import small

from veval import commands, inputs
from veval.evaluation import Data, Evaluation, Weights
from veval.features import feature_file
from veval.features.table import Features
from veval.protocol import for_weights
from veval.results import result
from veval.results.aggregate import pool_by_pool
from veval.tasks.classifier import load_classifier
from veval.tasks.voting import Voting
from vprep.errors import UsageError
from vtrain.data.dataset import Videos
from vtrain.data.shard_set import ShardSet
from vtrain.training.train import train

CLASSES = 4
VIDEOS = 400  # of a split, where chance is measured


@pytest.fixture(scope="module")
def run(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two steps of pace prediction."""
    folder = tmp_path_factory.mktemp("runs") / "pace"
    train(small("pace", shards, "steps=2"), folder)
    return folder


def evaluation(run: Path, shards: Path, *, protocol: str | None = None) -> Evaluation[Weights]:
    """Two clips per video, of the test and the training videos."""
    network = inputs.weights(str(run))
    return Evaluation(
        network=network,
        data=inputs.open_data(str(shards), ("test", "train")),
        protocol=for_weights("features", network.info, protocol, ["clips=2"]),
    )


def read_back(found: dict[str, Any] | None) -> dict[str, Any]:
    """A result as it is read back."""
    assert found is not None
    read: dict[str, Any] = json.loads(json.dumps(found, allow_nan=False))
    return read


def with_videos(of: Evaluation[Weights], **videos: Videos) -> Evaluation[Weights]:
    data = Data(shards=of.data.shards, videos=videos, info=of.data.info)
    return replace(of, data=data)


def rewritten(kept: Path, features: np.ndarray, label: np.ndarray) -> None:
    """Write other videos and features into the file: half of them test, half train."""
    info, half = feature_file.read_info(kept), len(label) // 2
    parts = []
    for split, rows in (("test", slice(0, half)), ("train", slice(half, 2 * half))):
        parts.append(kept.with_name(f"{split}.parquet"))
        keys = [f"{split}{number}" for number in range(half)]
        feature_file.write_part(parts[-1], keys, label[rows], split, {"pool5": features[rows]}, [])
    feature_file.merge(parts, {"pool5": (features.shape[1],)}, info, kept)


TASKS = {"retrieval": commands.retrieval, "linear": commands.linear, "knn": commands.knn}


@pytest.mark.parametrize("name", TASKS)
def test_one_hot_features_of_the_class_are_always_correct_and_noise_by_chance(
    name: str, run: Path, shards: Path, tmp_path: Path
) -> None:
    kept, work = tmp_path / "f.parquet", evaluation(run, shards)
    commands.retrieval(work, features=kept)
    rng = np.random.default_rng(1)
    label = rng.integers(CLASSES, size=2 * VIDEOS)
    rewritten(kept, np.eye(CLASSES, dtype=np.float32)[label], label)
    found = read_back(TASKS[name](work, features=kept))  # type: ignore[operator]  # they share these arguments
    assert (found["kind"], found["top1"], found["intervals"]["top1"]) == (name, 100, [100, 100])
    rewritten(kept, rng.standard_normal((2 * VIDEOS, 16)).astype(np.float32), label)
    found = read_back(TASKS[name](work, features=kept))  # type: ignore[operator]
    low, high = found["intervals"]["top1"]
    assert low < 100 / CLASSES < high
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.25 * 0.75 / VIDEOS) * 100, rel=0.15)
    assert len(result.hits(found) or ()) == VIDEOS


def test_retrieval_has_the_numbers_of_a_loop_over_all_pairs(run: Path, shards: Path, tmp_path: Path) -> None:
    kept = tmp_path / "f.npz"
    found = read_back(commands.retrieval(evaluation(run, shards, protocol="rspnet"), features=kept))
    features = feature_file.read(kept)
    for pool, numbers in (("gap", found), ("spatial-max", found["pools"]["spatial-max"])):
        queries, gallery = (features.of(split, pool) for split in ("test", "train"))
        correct: defaultdict[int, int] = defaultdict(int)
        for query, label in zip(queries.features.astype(float), queries.label, strict=True):
            near = [
                (-float(query @ other / np.linalg.norm(query) / np.linalg.norm(other)), row)
                for row, other in enumerate(gallery.features.astype(float))
            ]
            ranks = [rank for rank, (_, row) in enumerate(sorted(near)) if gallery.label[row] == label]
            for k in (1, 5, 10, 20, 50):
                correct[k] += ranks[0] < k
        assert {k: numbers[f"top{k}"] for k in correct} == {k: 100 * count / 8 for k, count in correct.items()}
    assert (found["protocol"]["pool"], found["protocol"]["pools"]) == ("gap", "gap,spatial-max")
    # The result lists the ranks by each pool, so the gains of each have an interval.
    first, second = pool_by_pool(found)
    for one, numbers in ((first, found), (second, found["pools"]["spatial-max"])):
        hits = result.hits(one, "top1") or {}
        assert (len(hits), one["top1"]) == (8, numbers["top1"])
        assert 100 * sum(hits.values()) / 8 == one["top1"]
    assert found["bootstrap"] == "groups"  # vprep synth names films as UCF101 does
    assert (found["queries"], found["gallery"], found["protocol"]["leave_out"]) == (8, 16, "nothing")


def test_a_result_says_all_that_it_depends_on(run: Path, shards: Path, tmp_path: Path) -> None:
    work = evaluation(run, shards)
    found = commands.knn(work, few=2, seed=3, voting=Voting(k=1))
    assert found is not None
    assert found["weights"] == work.network.info.as_dict()
    assert found["data"]["fingerprints"] == {name: videos.fingerprint for name, videos in work.data.videos.items()}
    protocol = work.protocol.as_dict("features")
    assert found["protocol"].items() >= protocol.items()
    more = {name: word for name, word in found["protocol"].items() if name not in protocol}
    assert more == {"pool": "pool5", "k": 1, "temperature": 0.07, "votes": "similarity", "few": 2, "few_seed": 3}
    assert (found["train"], found["test"], found["precision"]) == (8, 8, "float32")
    result.write(tmp_path / "r.json", found)
    assert result.read(tmp_path / "r.json") == read_back(found)


def test_the_seed_decides_which_few_videos_are_drawn(run: Path, shards: Path, tmp_path: Path) -> None:
    work, kept = evaluation(run, shards), tmp_path / "f.npz"
    several = [read_back(commands.knn(work, features=kept, few=1, seed=seed)) for seed in (0, 0, 1, 2, 3)]
    predicted = [[one["predicted"] for one in found["videos"]] for found in several]
    assert predicted[0] == predicted[1]
    assert any(predicted[0] != other for other in predicted[2:])
    every = [read_back(commands.knn(work, features=kept, seed=seed)) for seed in (0, 1)]
    assert every[0]["videos"] == every[1]["videos"]
    assert "few_seed" not in every[0]["protocol"]


def test_a_query_is_not_compared_with_videos_of_its_content_when_these_are_left_out(run: Path, shards: Path) -> None:
    """With the test videos as the gallery, each query finds itself, unless that is left out."""
    work = evaluation(run, shards)
    both = with_videos(work, test=work.data.videos["test"], again=work.data.videos["test"])
    found = read_back(commands.retrieval(both))
    assert (found["top1"], found["duplicates"]) == (100, 0)  # a video is no duplicate of itself
    found = read_back(commands.retrieval(both, leave_out="same content"))
    assert found["top1"] < 100
    assert found["protocol"]["leave_out"] == "same content"


def test_features_have_the_content_of_their_videos(shards: Path) -> None:
    rows = {row["key"]: row["hash"] for row in pq.read_table(shards / "index.parquet").to_pylist()}
    keys = [*sorted(rows), "another"]
    bare = Features(keys=keys, label=np.zeros(25, np.int64), features=np.zeros((25, 1), np.float32))
    hashes = ShardSet.open(shards).content_hashes()
    assert commands.with_content(bare, hashes).group == [rows.get(key, "") for key in keys]


def test_videos_without_labels_are_refused_before_anything_is_read(run: Path, shards: Path, tmp_path: Path) -> None:
    work = evaluation(run, shards)
    videos = work.data.videos.items()
    bare = with_videos(work, **{name: replace(of, label=np.full_like(of.label, -1)) for name, of in videos})
    for task in TASKS.values():
        with pytest.raises(UsageError) as error:
            task(bare, features=tmp_path / "f.npz")  # type: ignore[operator]
        assert str(error.value) == (
            f"{shards} has no labels (its videos were sharded without); shard it with --labels FILE, or name a "
            "single set"
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("short", ["loop", "restart", "stretch"])
def test_ten_clips_of_a_video_that_is_shorter_than_one(short: str, run: Path, grey: Path) -> None:
    """All ten are the same, and so is their mean."""
    network, data = inputs.weights(str(run)), inputs.open_data(str(grey), None)
    clips = {}
    for count in (1, 10):
        words = (f"clips={count}", "frames=16", f"short={short}", "pools=gap")
        protocol = for_weights("features", network.info, None, words)
        found = commands.features_of(Evaluation(network=network, data=data, protocol=protocol), None)
        assert found is not None
        clips[count] = dict(zip(found.keys, found.arrays["gap"], strict=True))
        assert found.info["dropped"] == []
    videos = data.videos["all"]
    length = dict(zip(videos.keys.to_pylist(), videos.frames.tolist(), strict=True))
    assert sum(frames < 16 for frames in length.values()) == 6
    for key, frames in length.items():
        if frames < 16:
            np.testing.assert_allclose(clips[10][key], clips[1][key], rtol=1e-5)


def test_a_test_has_the_prediction_of_each_video_and_an_interval(shards: Path, tmp_path: Path) -> None:
    train(small("supervised", shards, "steps=2"), tmp_path / "run")
    network = load_classifier(str(tmp_path / "run"))
    protocol = for_weights("testing", network.info, None, ["clips=2"], network.trained_on)
    data = inputs.open_data(str(shards), ("test",))
    found = read_back(commands.accuracy(Evaluation(network=network, data=data, protocol=protocol)))
    correct = [one["class"] == one["named"] for one in found["predictions"]]
    assert found["top1"] == 100 * sum(correct) / 8
    low, high = found["intervals"]["top1"]
    assert low <= found["top1"] <= high
    assert (found["kind"], found["videos"], found["weights"]) == ("test", 8, network.info.as_dict())


def test_the_user_says_what_intervals_draw(run: Path, shards: Path, grey: Path, tmp_path: Path) -> None:
    kept, work = tmp_path / "f.parquet", evaluation(run, shards)
    found = {over: commands.knn(work, features=kept, over=over) for over in (None, "groups", "videos")}
    assert {over: one and one["bootstrap"] for over, one in found.items()} == {
        None: "groups", "groups": "groups", "videos": "videos",
    }  # fmt: skip
    nameless = replace(work, data=inputs.open_data(str(grey), None))
    with pytest.raises(UsageError) as error:
        commands.retrieval(nameless, over="groups")
    assert str(error.value) == (
        "--bootstrap is groups, but the name of video 'b2' says no film; write --bootstrap videos, or leave it out"
    )
