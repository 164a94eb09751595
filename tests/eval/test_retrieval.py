"""The nearest neighbours are exact, with ties, for any size of the parts; percentages are counted from them."""

import subprocess
import sys
from collections.abc import Callable
from math import fsum, sqrt

import numpy as np
import pytest
from feature_tables import features
from hypothesis import given, settings
from hypothesis import strategies as st

from veval.features.table import Features
from veval.tasks import neighbours as search
from veval.tasks.neighbours import nearest
from veval.tasks.retrieval import retrieve
from vprep.errors import UsageError

Rng = np.random.Generator


@pytest.fixture
def rng() -> Rng:
    return np.random.default_rng(20)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """To 10 decimals; 0 where one is 0."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    norms = sqrt(fsum(a * a)) * sqrt(fsum(b * b))
    return round(fsum(a * b) / norms, 10) if norms else 0.0


def slowly(queries: np.ndarray, gallery: np.ndarray, depth: int, closed: set[tuple[int, int]]) -> list[list[int]]:
    """The nearest rows by sorting all of them, the first of equals first; -1 where there are no more."""
    found = []
    for number, query in enumerate(queries):
        open_rows = [row for row in range(len(gallery)) if (number, row) not in closed]
        near = sorted(open_rows, key=lambda row: (-cosine(query, gallery[row]), row))
        found.append([*near[:depth], *[-1] * (depth - len(near))])
    return found


# Small whole numbers make many equal cosines, also of vectors of different lengths, and some vectors of zeros.
@given(
    queries=st.integers(1, 9),
    gallery=st.integers(1, 60),
    width=st.integers(1, 5),
    depth=st.integers(1, 70),
    largest=st.integers(0, 2),
    part=st.sampled_from([1, 64, 400, 4096, 1 << 20]),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=150, deadline=None, derandomize=True, database=None)
def test_neighbours_are_those_of_a_slow_search_also_with_ties(
    queries: int, gallery: int, width: int, depth: int, largest: int, part: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    asked = rng.integers(-largest, largest + 1, (queries, width)).astype(np.float32)
    table = rng.integers(-largest, largest + 1, (gallery, width)).astype(np.float32)
    closed = rng.integers(0, [queries, gallery], (rng.integers(0, 9), 2))
    found = nearest(asked, table, depth, left_out=closed, part=part)
    assert found.row.tolist() == slowly(asked, table, depth, {(int(q), int(g)) for q, g in closed})


@pytest.mark.slow
def test_neighbours_do_not_depend_on_the_size_of_the_parts(rng: Rng) -> None:
    asked = rng.standard_normal((40, 33)).astype(np.float32)
    # Many rows twice or more, some many times over: ties across the borders of parts, and beyond the spare places.
    table = rng.standard_normal((50, 33)).astype(np.float32)[rng.integers(0, 50, 400) // 2]
    first = nearest(asked, table, 50)
    for part in (1, 5000, 20_000):
        other = nearest(asked, table, 50, part=part)
        assert np.array_equal(other.row, first.row)
    assert first.row[:3].tolist() == slowly(asked[:3], table, 50, set())


def test_features_that_float32_cannot_discriminate_are_ordered_correctly(rng: Rng) -> None:
    # As from a network whose features collapsed: all cosines are 1 to seven digits.
    table = (1 + 1e-6 * rng.standard_normal((300, 64))).astype(np.float32)
    found = nearest(table[:4], table, 20, part=3000)
    assert found.row.tolist() == slowly(table[:4], table, 20, set())


def test_features_that_are_all_the_same_have_the_first_rows_as_neighbours() -> None:
    same = np.full((200, 7), 0.3, np.float32)
    found = nearest(same[:2], same, 5, part=100)
    assert found.row.tolist() == [[0, 1, 2, 3, 4]] * 2
    assert found.similarity == pytest.approx(1)


def test_very_large_and_very_small_features_have_cosines_too() -> None:
    table = np.array([[1e-40, 0], [3e38, 3e38], [0, -2e-38]], np.float32)
    found = nearest(np.array([[1e38, 0], [0, 1e-42]], np.float32), table, 3)
    assert found.row.tolist() == [[0, 1, 2], [1, 0, 2]]
    assert found.similarity.ravel() == pytest.approx([1, sqrt(0.5), 0, sqrt(0.5), 0, -1])


@pytest.mark.parametrize("width", [8, 512, 9216])
def test_float32_errs_by_less_than_what_is_compared_again_in_float64(width: int, rng: Rng) -> None:
    # All above zero, as behind a ReLU: the harder case, as the sums grow.
    a, b = rng.random((2, 60, width)).astype(np.float32).astype(np.float64)
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    error = np.abs(a.astype(np.float32) @ b.astype(np.float32).T - a @ b.T).max()
    assert 4 * error < search._unsure(width)


def test_one_hot_features_of_the_class_are_always_correct() -> None:
    label = np.arange(300) % 101
    one_hot = np.eye(101)[label]
    found = retrieve(features(one_hot, label), features(one_hot, label))
    assert found.percent() == {1: 100, 5: 100, 10: 100, 20: 100, 50: 100}
    assert found.entries() == {
        "top1": 100,
        "top5": 100,
        "top10": 100,
        "top20": 100,
        "top50": 100,
        "queries": 300,
        "gallery": 300,
        "queries_without_label": 0,
        "gallery_without_label": 0,
        "queries_of_absent_class": 0,
        "duplicates": 0,
        "left_out": "nothing",
        "larger_than_gallery": [],
    }


def test_noise_is_correct_as_often_as_chance(rng: Rng) -> None:
    queries = features(rng.standard_normal((2000, 16)), rng.integers(0, 10, 2000))
    gallery = features(rng.standard_normal((500, 16)), rng.integers(0, 10, 500))
    share = np.bincount(gallery.label) / 500
    found = retrieve(queries, gallery, ks=(1, 5)).percent()
    chance = 100 * float(share[queries.label].mean())
    chance_of_5 = 100 * float((1 - (1 - share[queries.label]) ** 5).mean())
    assert found[1] == pytest.approx(chance, abs=4 * 100 * sqrt(0.1 * 0.9 / 2000))
    assert found[5] == pytest.approx(chance_of_5, abs=4 * 100 * sqrt(0.41 * 0.59 / 2000))


def test_percentages_are_those_of_a_count_by_hand() -> None:
    gallery = features([[1, 0], [3, 1], [1, 1], [0, 1]], [0, 1, 0, 2])
    queries = features([[1, 0.1], [0, 1], [1, 0.9]], [1, 2, 2])
    found = retrieve(queries, gallery, ks=(1, 2, 3))
    # Cosines: 0.995 0.975 0.774 0.1 (correct is second), 0 0.316 0.707 1 (first), 0.743 0.917 0.999 0.669 (fourth).
    assert found.first.tolist() == [2, 1, 4]
    assert found.percent() == pytest.approx({1: 100 / 3, 2: 200 / 3, 3: 200 / 3})
    assert found.hits(1).tolist() == [0, 1, 0]
    assert found.neighbours.row[0].tolist() == [0, 1, 2, 3]
    assert found.neighbours.similarity[0] == pytest.approx([0.99504, 0.97544, 0.77396, 0.09950], abs=1e-5)
    assert found.videos() == [
        {"key": "v0", "label": 1, "first": 2},
        {"key": "v1", "label": 2, "first": 1},
        {"key": "v2", "label": 2, "first": 4},
    ]


def test_a_video_is_the_mean_of_its_clips_unless_clips_are_asked_for() -> None:
    gallery = features([[[1, 0], [1, 0]], [[0, 1], [0, 1]]], [0, 1])
    queries = features([[[5, 0], [0, 1]], [[0, 1], [0, 1]]], [0, 1])
    assert retrieve(queries, gallery, ks=(1,)).hits(1).tolist() == [1, 1]
    by_clip = retrieve(queries, gallery, ks=(1, 2), level="clip")
    assert by_clip.hits(1).tolist() == [0.5, 1]
    assert by_clip.entries()["top1"] == 75
    assert (by_clip.entries()["queries"], by_clip.entries()["gallery"]) == (4, 4)
    assert by_clip.first.tolist() == [1, 3, 1, 1]
    assert by_clip.videos()[0] == {"key": "v0", "label": 0, "first": [1, 3]}


def test_a_k_beyond_the_gallery_counts_all_of_it_and_is_listed() -> None:
    gallery = features([[1, 0], [0, 1]], [0, 1])
    found = retrieve(features([[1, 0.1]], [1]), gallery)
    assert found.percent() == {1: 0, 5: 100, 10: 100, 20: 100, 50: 100}
    assert found.counts["larger_than_gallery"] == ["top5", "top10", "top20", "top50"]


def test_videos_without_label_are_left_out_on_both_sides_and_counted() -> None:
    gallery = features([[1, 0], [1, 0.1], [0, 1]], [-1, 3, 4])
    queries = features([[1, 0], [1, 0], [0, 1]], [3, -1, 9])
    found = retrieve(queries, gallery, ks=(1,))
    assert found.keys == ["v0", "v2"]
    assert found.hits(1).tolist() == [1, 0]
    counts = {name: found.counts[name] for name in ("queries", "gallery")}
    assert counts == {"queries": 2, "gallery": 2}
    assert (found.counts["queries_without_label"], found.counts["gallery_without_label"]) == (1, 1)
    assert found.counts["queries_of_absent_class"] == 1  # class 9; it counts as wrong
    assert found.neighbours.row.tolist() == [[1, 2], [2, 1]]


def test_a_query_that_is_its_own_nearest_neighbour_is_left_out_when_asked() -> None:
    videos = features([[1, 0], [1, 0.1], [0, 1]], [0, 1, 1])
    assert retrieve(videos, videos, ks=(1,)).hits(1).tolist() == [1, 1, 1]
    others = retrieve(videos, videos, ks=(1,), leave_out="same content")
    assert others.hits(1).tolist() == [0, 0, 1]
    assert others.neighbours.row.tolist() == [[1, 2, -1], [0, 2, -1], [1, 0, -1]]


def test_copies_of_a_query_in_the_gallery_are_listed_and_left_out_when_asked() -> None:
    gallery = features([[1, 0], [1, 0.2]], [0, 1], keys=["a", "b"], group=["same", ""])
    queries = features([[1, 0], [1, 0]], [0, 0], keys=["q", "a"], group=["same", "same"])
    found = retrieve(queries, gallery, ks=(1,))
    assert found.duplicates == [("q", "a")]  # the second query is that video itself
    assert found.percent() == {1: 100}
    strict = retrieve(queries, gallery, ks=(1,), leave_out="same content")
    assert strict.counts["duplicates"] == 1
    assert strict.neighbours.row.tolist() == [[1, -1], [1, -1]]


def test_all_clips_of_a_left_out_video_are_left_out() -> None:
    videos = features([[[1, 0], [0, 1]], [[1, 0], [0, 1]]], [0, 1])
    found = retrieve(videos, videos, ks=(1,), level="clip", leave_out="same content")
    assert found.neighbours.row.tolist() == [[2, 3, -1, -1], [3, 2, -1, -1], [0, 1, -1, -1], [1, 0, -1, -1]]


def test_an_array_that_cannot_be_written_to_is_searched_too() -> None:
    table = np.eye(3, dtype=np.float32)
    table.setflags(write=False)
    assert nearest(table, table, 1).row.ravel().tolist() == [0, 1, 2]


ONE = features([[1, 0]], [0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: retrieve(ONE, features(np.empty((0, 2)), [])),
            "none of the 0 gallery has a label; choose a split that has some",
        ),
        (
            lambda: retrieve(features([[1, 0]], [-1]), ONE),
            "none of the 1 queries has a label; choose a split that has some",
        ),
        (
            lambda: retrieve(features([[1, np.nan]], [0], keys=["bad"]), ONE),
            "queries: the features of video 'bad' are not all finite; "
            "extract them again, or leave the video out if its frames are damaged",
        ),
        (
            lambda: retrieve(ONE, features([[1, 0], [np.inf, 0]], [0, 0])),
            "gallery: the features of video 'v1' are not all finite; "
            "extract them again, or leave the video out if its frames are damaged",
        ),
        (
            lambda: retrieve(ONE, features([[np.nan, 0], [np.inf, 0]], [0, 0])),
            "gallery: the features of all 2 videos are not finite, so their weights are at fault; "
            "take an older state of the run, or a good copy, and extract them again",
        ),
        (
            lambda: retrieve(ONE, features([[1, 0, 0]], [0])),
            "features of the queries have 2 numbers, those of the gallery 3; "
            "extract both with the same weights and protocol",
        ),
        (
            lambda: retrieve(ONE, ONE, level="clip"),
            "level is 'clip', and the queries have no clips each, the gallery no; "
            "extract the same number of both, or use level=video",
        ),
        (lambda: retrieve(ONE, ONE, ks=()), "ks are []; one or more are needed, each at least 1"),
        (lambda: retrieve(ONE, ONE, ks=(0, 1)), "ks are [0, 1]; one or more are needed, each at least 1"),
        (lambda: retrieve(ONE, ONE, level="frame"), "level is 'frame'; there are video, clip"),
        (
            lambda: retrieve(ONE, ONE, leave_out="all"),
            "leave_out is 'all'; there are nothing, same content",
        ),
        (
            lambda: features([[1.0]], [0, 1]),
            "features have the shape (1, 1) for 2 videos; [V, D] or [V, K, D] is needed",
        ),
        (
            lambda: features([[1.0]], [0], group=["a", "b"]),
            "group has the shape (2,) for 1 videos; one for each is needed",
        ),
        (
            lambda: Features(keys=["a"], label=np.zeros(1, np.int64), features=np.zeros((1, 1))),
            "features are float64; float32 is needed",
        ),
    ],
)
def test_what_cannot_be_searched_is_refused_in_one_sentence(call: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError) as error:
        call()
    assert str(error.value) == message


MEMORY = """
import resource
import numpy as np
import torch
from veval.tasks.neighbours import nearest
torch.set_num_threads(1)
table = np.random.default_rng(0).standard_normal((16_000, 256), dtype=np.float32)
nearest(table[:10], table[:1000], 50, part=1 << 20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
nearest(table, table, 50, part=1 << 20)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.slow
def test_memory_is_bounded_by_the_size_of_a_part() -> None:
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    # All cosines at once would be 1,000 MB; 20 parts of 1 MB and 10 MB of neighbours are what is wanted.
    assert int(done.stdout) < 100
