"""A result may be a stranger's or old: the shards that it names are opened only if they are here and still the same."""

from pathlib import Path
from typing import Any

import pytest
from pages import retrieval

from veval.evaluation import Data
from veval.results.named_shards import open_named
from vprep.errors import UsageError
from vtrain.data.shard_set import ShardSet


def about(**data: object) -> dict[str, Any]:
    return retrieval([("a", 0)], [("b", 0)], ["A"], keep=1, data=data)


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ({}, "the result names no shards"),
        ({"shards": None}, "the result names no shards"),
        ({"shards": 5}, "the result names no shards"),
        ({"shards": "s3://bucket/set"}, "are in a store"),
        ({"shards": "here http://127.0.0.1:9/set"}, "cannot be opened|are in a store"),
        ({"shards": "http://127.0.0.1:9/set"}, "are in a store"),
        ({"shards": "gone"}, "cannot be opened"),
    ],
)
def test_what_a_result_cannot_be_shown_with_is_said_and_no_network_is_asked(
    named: dict[str, object], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=f"({said}).*; name them with --shards"):
        open_named(about(**named))


def test_the_same_videos_open_also_where_the_set_was_made_again(shards: Path) -> None:
    opened = ShardSet.open(str(shards))
    info = Data.select(opened, ["test", "train"]).info.as_dict()
    for changed in ({}, {"hash": "other"}, {"hash": None, "fingerprints": None}):
        assert open_named(about(**(info | changed))).fingerprint == opened.fingerprint


def test_other_videos_at_the_same_place_are_refused(shards: Path) -> None:
    info = Data.select(ShardSet.open(str(shards)), ["test"]).info.as_dict() | {"hash": "other"}
    for changed in ({"fingerprints": {"test": "other"}}, {"fingerprints": {"val": "x"}}, {"fingerprints": 3}):
        with pytest.raises(UsageError, match="holds other videos than those that the result is about"):
            open_named(about(**(info | changed)))
