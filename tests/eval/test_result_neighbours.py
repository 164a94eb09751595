"""A result of retrieval keeps the neighbours of each query, and says which are copies and clips of the same film."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from feature_tables import features
from results_on import bases

from veval.results import neighbours, result
from veval.results.neighbours import Found, read_neighbours
from veval.tasks.retrieval import retrieve
from vprep.errors import UsageError

QUERIES, GALLERY = 3783, 9537  # of UCF101's first split


def retrieved(keep: int, level: str = "video", **changes: object) -> dict[str, Any]:
    """A result about three queries and four gallery videos of two clips each."""
    keys = ["v_A_g01_c02", "v_B_g01_c01", "v_A_g02_c01", "v_B_g01_c02"]
    gallery = features(
        [[[1, 0], [1, 0]], [[3, 1], [3, 1]], [[1, 1], [1, 1]], [[0, 1], [0, 1]]], [0, 1, 0, 1],
        keys=keys, group=["a", "b", "c", "d"],
    )  # fmt: skip
    queries = features(
        [[[1, 0.1], [1, 0.1]], [[0, 1], [0, 1]]], [0, 1], keys=["v_A_g01_c01", "v_B_g01_c03"], group=["a", "x"]
    )
    found = retrieve(queries, gallery, ks=(1, 2), level=level, keep=keep)  # type: ignore[arg-type]
    copies = [{"query": query, "gallery": other} for query, other in found.duplicates]
    numbers = found.entries() | found.with_neighbours(keep) | {"same_content": copies, "class_names": ["jump", "run"]}
    return bases()[0] | {"pools": {}, "intervals": {}} | numbers | changes


def read_back(found: dict[str, Any], folder: Path) -> dict[str, Any]:
    result.write(folder / "r.json", found)
    return result.read(folder / "r.json")


def test_a_query_has_its_nearest_gallery_videos_with_class_and_cosine(tmp_path: Path) -> None:
    found = read_neighbours(read_back(retrieved(3), tmp_path))
    first, second = found.queries
    assert (first.key, first.label, first.clip, first.first, first.is_correct) == ("v_A_g01_c01", "jump", 0, 1, True)
    near = [(one.key, one.label, one.is_correct) for one in first.neighbours]
    assert near == [("v_A_g01_c02", "jump", True), ("v_B_g01_c01", "run", False), ("v_A_g02_c01", "jump", True)]
    assert [one.similarity for one in first.neighbours] == pytest.approx([0.99504, 0.97544, 0.77396], abs=1e-5)
    assert [one.key for one in second.neighbours] == ["v_B_g01_c02", "v_A_g02_c01", "v_B_g01_c01"]
    assert (found.keep, found.level, found.left_out) == (3, "video", "nothing")


def test_copies_and_clips_of_the_same_film_are_marked(tmp_path: Path) -> None:
    first, second = read_neighbours(read_back(retrieved(4), tmp_path)).queries
    assert [one.same_content for one in first.neighbours] == [True, False, False, False]
    assert [one.same_film for one in first.neighbours] == [True, False, False, False]
    assert [one.same_film for one in second.neighbours] == [True, False, True, False]


def test_on_the_level_of_clips_each_clip_has_its_neighbours(tmp_path: Path) -> None:
    found = read_neighbours(read_back(retrieved(2, "clip"), tmp_path))
    assert [(one.key, one.clip) for one in found.queries] == [
        (key, clip) for key in ("v_A_g01_c01", "v_B_g01_c03") for clip in (0, 1)
    ]
    assert [one.key for one in found.queries[0].neighbours] == ["v_A_g01_c02"] * 2  # both of its clips


def test_queries_are_sorted_with_the_worst_first() -> None:
    found = retrieved(2)
    for video, rank in zip(found["videos"], (4, 0), strict=True):
        video["first"] = rank
    assert [one.first for one in read_neighbours(found).worst_first()] == [0, 4]


@pytest.mark.parametrize("videos", [True, None, {}, []])
def test_a_result_that_lists_no_videos_has_no_queries(videos: object, tmp_path: Path) -> None:
    found = read_back(retrieved(2, videos=videos), tmp_path)
    assert read_neighbours(found).queries == []


@pytest.mark.parametrize(
    ("found", "what"),
    [
        (
            bases()[1],
            "a result of finetune, which does not search, lists no neighbours; make one with: veval retrieval",
        ),
        (
            retrieved(0),
            "a result of retrieval of an older version, or of --keep 0, lists no neighbours; make one with: "
            "veval retrieval",
        ),
    ],
)
def test_a_result_without_neighbours_is_refused_in_one_sentence(found: dict[str, Any], what: str) -> None:
    with pytest.raises(UsageError) as error:
        read_neighbours(found)
    assert str(error.value) == what


def searched(keys: list[str], clips: int = 1) -> Found:
    """Random neighbours of as many queries as UCF101 has."""
    rng = np.random.default_rng(0)
    return Found(
        row=rng.integers(0, GALLERY * clips, (QUERIES * clips, 50)),
        similarity=rng.random((QUERIES * clips, 50), np.float32),
        clips=clips,
        gallery_keys=keys,
        gallery_label=np.zeros(GALLERY, np.int64),
    )


def test_ten_neighbours_of_all_queries_of_ucf101_have_little_more_than_a_megabyte() -> None:
    keys = [f"v_HandstandPushups_g{number:04}_c01" for number in range(GALLERY)]
    videos, more = searched(keys).entries(10)
    assert (len(videos), more["keep"], len(more["gallery_videos"])) == (QUERIES, 10, pytest.approx(GALLERY, rel=0.02))
    assert len(json.dumps([videos, more])) < 1.6e6


def test_of_neighbours_that_a_result_cannot_hold_fewer_are_kept_and_it_says_how_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(neighbours, "LARGEST", 1 << 20)
    videos, more = searched([f"k{number}" for number in range(GALLERY)]).entries(20)
    assert (more["keep"], {len(video["neighbours"]) for video in videos}) == (10, {10})
    videos, more = searched(["x" * 1000] * GALLERY).entries(2)
    assert (more, videos) == ({"keep": 0, "gallery_videos": []}, [])


@pytest.mark.parametrize(
    ("place", "value", "what"),
    [
        ("neighbours", [0, 9], "not all neighbours of its videos are numbers of its gallery_videos with a similarity"),
        ("neighbours", [[0], [1]], "not all neighbours of its videos are numbers of its"),
        ("similarity", [0.5], "not all neighbours of its videos are numbers of its"),
        ("similarity", [0.5, 7], "not all neighbours of its videos are numbers of its"),
        ("label", "A", "not all neighbours of its videos are numbers of its"),
        ("label", {}, "not all of its videos have a key, and label"),
        ("keep", -1, "its keep is -1; it must be a whole number"),
        ("class_names", ["A", 3], "its class_names are not a list of words"),
        ("gallery_videos", [{"key": "a"}], "not all of its gallery_videos have a key and a label"),
        ("same_content", [{"query": "a"}], "not all of its same_content have a query and a gallery"),
    ],
)
def test_wrong_neighbours_of_a_strangers_result_are_refused(
    place: str, value: object, what: str, tmp_path: Path
) -> None:
    found = bases()[0]
    (found["videos"][0] if place in ("neighbours", "similarity", "label") else found)[place] = value
    (tmp_path / "r.json").write_text(json.dumps(found))
    with pytest.raises(UsageError) as error:
        result.read(tmp_path / "r.json")
    assert what in str(error.value)
