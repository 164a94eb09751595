"""The values of --shards, and the errors of those that name nothing."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from vprep.errors import UsageError
from vtrain.data.shard_set import ShardSet
from vtrain.data.shard_spec import read_spec, upscaling_note

RunVprep = Callable[..., subprocess.CompletedProcess[str]]


def names(spec: object) -> list[str]:
    return [shard["name"] for part in read_spec(spec) for shard in part.shards]  # type: ignore[arg-type]


ALL = [f"00{number}.tar" for number in range(6)]


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ("{}", ALL),
        ("{}/", ALL),
        ("{}/*.tar", ALL),
        ("{}/<000..999>.tar", ALL),
        ("{}/{{000..999}}.tar", ALL),
        ("{}/<001..003>.tar", ALL[1:4]),
        ("{}/<003..001>.tar", ALL[1:4]),
        ("{}/00[24].tar", ["002.tar", "004.tar"]),
        ("{}/00<2..4>.tar", ALL[2:5]),
        ("{}/004.tar,{}/001.tar", ["001.tar", "004.tar"]),
        ("{}/001.tar,{}/<000..001>.tar", ["000.tar", "001.tar"]),
    ],
)
def test_a_spec_names_shards_in_the_order_of_their_set(shards: Path, spec: str, wanted: list[str]) -> None:
    assert names(spec.format(shards, shards)) == wanted


def test_a_spec_may_be_a_list_of_paths_from_several_sets(shards: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(shards, tmp_path / "other"))
    assert names([shards / "000.tar", other]) == ["000.tar", *ALL]
    named = ShardSet.open([shards / "<000..002>.tar", other / "<003..005>.tar"])
    assert len(named.select()) == 30


def test_a_glob_of_folders_takes_only_sets(shards: Path, tmp_path: Path) -> None:
    shutil.copytree(shards, tmp_path / "a1")
    shutil.copytree(shards, tmp_path / "a2")
    (tmp_path / "a3").mkdir()
    assert names(f"{tmp_path}/a*/<000..000>.tar") == ["000.tar", "000.tar"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("{}/<007..009>.tar", "no shard of the set in {} matches '<007..009>.tar'; it has 6: 000.tar to 005.tar"),
        ("{}/<0..9>.tar", "no shard of the set in {} matches '<0..9>.tar'; it has 6: 000.tar to 005.tar"),
        ("{}/nowhere", "no folder '{}/nowhere'; a set is made with: vprep shard VIDEOS --out {}/nowhere"),
        ("", "no shards are named; --shards takes a folder, a glob, or 'data_shards/<000..999>.tar'"),
        (
            "s3://bucket/*/000.tar",
            "s3://bucket/* has wildcards in the name of a folder; name each set of a store, joined by commas",
        ),
        (
            "{}/x*/000.tar",
            "no folder with a set matches '{}/x*'; make a set with: vprep shard VIDEOS --out DIR",
        ),
    ],
)
def test_a_spec_that_names_nothing_is_refused_with_what_there_is(shards: Path, spec: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        read_spec(spec.format(shards))
    assert str(error.value) == message.format(shards, shards)


def test_tars_without_an_index_are_refused_with_the_command_that_makes_it(shards: Path, tmp_path: Path) -> None:
    shutil.copy(shards / "000.tar", tmp_path / "000.tar")
    with pytest.raises(UsageError) as error:
        read_spec(tmp_path)
    assert str(error.value) == (f"{tmp_path} holds 1 tars and no dataset.json; make it with: vprep index {tmp_path}")


def test_a_note_says_that_clips_are_larger_than_their_frames() -> None:
    assert upscaling_note(24, 24) == upscaling_note(None, 224) == ""
    assert upscaling_note(128, 224) == (
        "clips of 224 pixels are enlarged from frames of 128; make larger frames with: "
        "vprep shard VIDEOS --short-side 256 --out DIR"
    )
