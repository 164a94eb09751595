"""Texts of every length have hashes of their own, and one that is there twice is found."""

import numpy as np
import pyarrow as pa
import pytest

from vprep.duplicates import codes, key_twice

TEXTS = ["", *(kind * count for kind in ("a", "é", "\0") for count in range(1, 140))]


def test_texts_of_all_lengths_have_different_hashes_wherever_they_stand() -> None:
    found = codes(pa.chunked_array([TEXTS[:5], [None], TEXTS[5:]], pa.string()))

    assert len(set(found.tolist())) == len(TEXTS)
    assert np.array_equal(found[::-1], codes(pa.chunked_array([TEXTS[::-1]], pa.string())))


@pytest.mark.parametrize("text", ["", "a", "a" * 64, "a" * 65, "é" * 100])
def test_a_key_that_comes_twice_is_found_at_any_length(text: str) -> None:
    others = [other for other in TEXTS if other != text]

    assert key_twice(pa.chunked_array([others, [text]], pa.string())) is None
    assert key_twice(pa.chunked_array([[text], others, [None, None, text]], pa.string())) == text
