"""From weights and videos to a result: who knows the classes is right, who guesses is right by chance, and a result
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
from veval.features import feature_file
from veval.features.extract import How
from veval.inputs import Weights
from veval.protocol import Protocol, for_weights
from veval.results import result
from veval.tasks.classifier import classifier
from vprep.errors import UsageError
from vtrain.training.train import train

CLASSES = 4
TOLD = 400  # videos of a split that are told of, where chance is looked at


@pytest.fixture(scope="module")
def run(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two steps of pace prediction."""
    folder = tmp_path_factory.mktemp("runs") / "pace"
    train(small("pace", shards, "steps=2"), folder)
    return folder


def asked(run: Path, shards: Path, *words: str, name: str | None = None) -> tuple[Weights, Any, Any, Protocol]:
    """What a task is given first."""
    given = inputs.weights(str(run))
    videos, data = inputs.data(str(shards), ("test", "train"))
    return given, videos, data, for_weights("features", given.facts, name, ("clips=2", *words))


def read_back(facts: dict[str, Any] | None) -> dict[str, Any]:
    """A result as it is read back."""
    assert facts is not None
    found: dict[str, Any] = json.loads(json.dumps(facts, allow_nan=False))
    return found


def rewritten(kept: Path, features: np.ndarray, label: np.ndarray) -> None:
    """The same facts, with other videos and other features: half of them test, half train."""
    facts, half = feature_file.read_facts(kept), len(label) // 2
    parts = []
    for split, rows in (("test", slice(0, half)), ("train", slice(half, 2 * half))):
        parts.append(kept.with_name(f"{split}.parquet"))
        keys = [f"{split}{number}" for number in range(half)]
        feature_file.write_part(parts[-1], keys, label[rows], split, {"pool5": features[rows]}, [])
    feature_file.merge(parts, {"pool5": (features.shape[1],)}, facts, kept)


TASKS = {"retrieval": commands.retrieval, "linear": commands.by_linear, "knn": commands.by_neighbours}


@pytest.mark.parametrize("name", TASKS)
def test_labels_are_told_always_and_noise_by_chance(name: str, run: Path, shards: Path, tmp_path: Path) -> None:
    kept, given = tmp_path / "f.parquet", asked(run, shards)
    commands.retrieval(*given, how=How(), kept=kept)
    rng = np.random.default_rng(1)
    label = rng.integers(CLASSES, size=2 * TOLD)
    rewritten(kept, np.eye(CLASSES, dtype=np.float32)[label], label)
    found = read_back(TASKS[name](*given, how=How(), kept=kept))  # type: ignore[operator]  # alike in what is given here
    assert (found["kind"], found["top1"], found["intervals"]["top1"]) == (name, 100, [100, 100])
    rewritten(kept, rng.standard_normal((2 * TOLD, 16)).astype(np.float32), label)
    found = read_back(TASKS[name](*given, how=How(), kept=kept))  # type: ignore[operator]
    low, high = found["intervals"]["top1"]
    assert low < 100 / CLASSES < high
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.25 * 0.75 / TOLD) * 100, rel=0.15)
    assert len(result.hits(found) or ()) == TOLD


def test_retrieval_is_what_a_loop_over_all_pairs_comes_to(run: Path, shards: Path, tmp_path: Path) -> None:
    kept = tmp_path / "f.npz"
    found = read_back(commands.retrieval(*asked(run, shards, name="rspnet"), how=How(), kept=kept))
    features = feature_file.read(kept)
    for pool, numbers in (("gap", found), ("spatial-max", found["pools"]["spatial-max"])):
        queries, gallery = (features.of(split, pool) for split in ("test", "train"))
        right: defaultdict[int, int] = defaultdict(int)
        for query, label in zip(queries.features.astype(float), queries.label, strict=True):
            near = [
                (-float(query @ other / np.linalg.norm(query) / np.linalg.norm(other)), row)
                for row, other in enumerate(gallery.features.astype(float))
            ]
            places = [place for place, (_, row) in enumerate(sorted(near)) if gallery.label[row] == label]
            for k in (1, 5, 10, 20, 50):
                right[k] += places[0] < k
        assert {k: numbers[f"top{k}"] for k in right} == {k: 100 * count / 8 for k, count in right.items()}
    assert (found["protocol"]["pool"], found["protocol"]["pools"]) == ("gap", "gap,spatial-max")
    assert (found["queries"], found["gallery"], found["protocol"]["leave_out"]) == (8, 16, "nothing")


def test_a_result_says_all_that_it_depends_on(run: Path, shards: Path, tmp_path: Path) -> None:
    given = asked(run, shards)
    found = commands.by_neighbours(*given, how=How(), few=2, seed=3, k=1)
    assert found is not None
    assert found["weights"] == given[0].facts
    assert found["data"]["fingerprints"] == {split: some.fingerprint for split, some in given[1].items()}
    assert found["protocol"].items() >= given[3].words("features").items()
    more = {name: word for name, word in found["protocol"].items() if name not in given[3].words("features")}
    assert more == {"pool": "pool5", "k": 1, "temperature": 0.07, "votes": "similarity", "few": 2, "few_seed": 3}
    assert (found["train"], found["test"], found["precision"]) == (8, 8, "float32")
    result.write(tmp_path / "r.json", found)
    assert result.read(tmp_path / "r.json") == read_back(found)


def test_what_is_drawn_goes_by_the_seed(run: Path, shards: Path, tmp_path: Path) -> None:
    given, kept = asked(run, shards), tmp_path / "f.npz"
    several = [
        read_back(commands.by_neighbours(*given, how=How(), kept=kept, few=1, seed=seed)) for seed in (0, 0, 1, 2, 3)
    ]
    said = [[one["predicted"] for one in found["videos"]] for found in several]
    assert said[0] == said[1]
    assert any(said[0] != other for other in said[2:])
    every = [read_back(commands.by_neighbours(*given, how=How(), kept=kept, seed=seed)) for seed in (0, 1)]
    assert every[0]["videos"] == every[1]["videos"]
    assert "few_seed" not in every[0]["protocol"]


def test_a_query_of_the_same_content_does_not_meet_it(run: Path, shards: Path) -> None:
    """Of a set in which the training videos are those of the test, each finds itself, unless that is left out."""
    given, videos, data, protocol = asked(run, shards)
    both = {"test": videos["test"], "again": videos["test"]}
    found = read_back(commands.retrieval(given, both, data, protocol, how=How()))
    assert (found["top1"], found["duplicates"]) == (100, 0)  # a video is no duplicate of itself
    found = read_back(commands.retrieval(given, both, data, protocol, how=How(), leave_out="same content"))
    assert found["top1"] < 100
    assert found["protocol"]["leave_out"] == "same content"


def test_features_have_the_content_of_their_videos(shards: Path) -> None:
    rows = {row["key"]: row["hash"] for row in pq.read_table(shards / "index.parquet").to_pylist()}
    keys = [*sorted(rows), "another"]
    bare = commands.Features(keys=keys, label=np.zeros(25, np.int64), features=np.zeros((25, 1), np.float32))
    hashes = commands.contents({"shards": str(shards)})
    assert commands.with_content(bare, hashes).group == [rows.get(key, "") for key in keys]


def test_videos_without_labels_are_refused_before_anything_is_read(run: Path, shards: Path, tmp_path: Path) -> None:
    given, videos, data, protocol = asked(run, shards)
    bare = {split: replace(some, label=np.full_like(some.label, -1)) for split, some in videos.items()}
    for task in TASKS.values():
        with pytest.raises(UsageError) as error:
            task(given, bare, data, protocol, how=How(), kept=tmp_path / "f.npz")  # type: ignore[operator]
        assert str(error.value) == (
            f"{shards} has no labels (its videos were sharded without); shard it with --labels FILE, or name one set "
            "alone"
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("short", ["loop", "restart", "stretch"])
def test_ten_clips_of_a_video_that_is_shorter_than_one(short: str, run: Path, told: Path, tmp_path: Path) -> None:
    """All ten are the same, and so is their mean."""
    given = inputs.weights(str(run))
    videos, data = inputs.data(str(told), None)
    clips = {}
    for count in (1, 10):
        kept = tmp_path / f"{count}.npz"
        words = (f"clips={count}", "frames=16", f"short={short}", "pools=gap")
        seen = for_weights("features", given.facts, None, words)
        with commands.extracted(given, videos, data, seen, How(), kept, "") as found:
            assert found is not None
            clips[count] = dict(zip(found.keys, found.arrays["gap"], strict=True))
            assert found.facts["dropped"] == []
    length = dict(zip(videos["all"].keys.to_pylist(), videos["all"].frames.tolist(), strict=True))
    assert sum(frames < 16 for frames in length.values()) == 6
    for key, frames in length.items():
        if frames < 16:
            np.testing.assert_allclose(clips[10][key], clips[1][key], rtol=1e-5)


def test_a_test_tells_of_each_video_and_how_sure_the_number_is(shards: Path, tmp_path: Path) -> None:
    train(small("supervised", shards, "steps=2"), tmp_path / "run")
    network = classifier(str(tmp_path / "run"))
    videos, data = inputs.data(str(shards), ("test",))
    seen = for_weights("testing", network.facts, None, ["clips=2"], network.seen)
    found = read_back(commands.testing(network, videos["test"], data, seen, how=How(), logits=None))
    right = [one["class"] == one["named"] for one in found["predictions"]]
    assert found["top1"] == 100 * sum(right) / 8
    low, high = found["intervals"]["top1"]
    assert low <= found["top1"] <= high
    assert (found["kind"], found["videos"], found["weights"]) == ("test", 8, network.facts)
