"""What --shards can say, and what is said when it leads nowhere."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from vprep.errors import UsageError
from vprep.format import write_dataset
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
    assert len(ShardSet.open([shards, other]).select()) == 60


def test_a_glob_of_folders_takes_those_that_are_sets(shards: Path, tmp_path: Path) -> None:
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
        ("s3://bucket/000.tar", "'s3://bucket/000.tar' is remote; shards are read from folders: copy them here first"),
        (
            "{}/x*/000.tar",
            "no folder with a set matches '{}/x*'; make a set with: vprep shard VIDEOS --out DIR",
        ),
    ],
)
def test_a_spec_that_leads_nowhere_says_what_is_there(shards: Path, spec: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        read_spec(spec.format(shards))
    assert str(error.value) == message.format(shards, shards)


def test_tars_without_an_index_are_told_how_to_get_one(shards: Path, tmp_path: Path) -> None:
    shutil.copy(shards / "000.tar", tmp_path / "000.tar")
    with pytest.raises(UsageError) as error:
        read_spec(tmp_path)
    assert str(error.value) == (f"{tmp_path} holds 1 tars and no dataset.json; make it with: vprep index {tmp_path}")


def test_a_split_takes_the_videos_of_its_fold(shards: Path) -> None:
    facts = json.loads((shards / "dataset.json").read_bytes())
    for fold in (1, 2, 3):
        for split in ("train", "test"):
            assert len(ShardSet.open(shards).select(split=split, fold=fold)) == facts["splits"][f"split{fold}"][split]


def test_a_split_that_is_not_there_says_which_are(shards: Path) -> None:
    with pytest.raises(UsageError) as error:
        ShardSet.open(shards).select(split="val")
    splits = json.loads((shards / "dataset.json").read_bytes())["splits"]["split1"]
    there = ", ".join(f"{count} {name}" for name, count in splits.items())
    assert str(error.value) == (
        f"{shards} has no video of split 'val' in fold 1 in the 6 shards that were named; "
        f"fold 1 of dataset.json has {there}"
    )


def test_a_subset_brings_its_own_labels(shards: Path, tmp_path: Path, run_vprep: RunVprep) -> None:
    everything = ShardSet.open(shards).select()
    assert everything.classes is not None
    last_two = everything.classes[-2:]
    (tmp_path / "classes.txt").write_text("\n".join(last_two))
    done = run_vprep("subset", shards, "--rule", f"classes:{tmp_path}/classes.txt", "--out", tmp_path / "s.parquet")
    assert done.returncode == 0, done.stderr
    videos = ShardSet.open(shards).select(subset=tmp_path / "s.parquet")
    assert len(videos) == 12
    assert videos.classes == last_two
    for row in range(12):
        assert last_two[videos.label[row]] in videos[row].key


def test_a_subset_file_that_is_something_else_is_refused(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        ShardSet.open(shards).select(subset=tmp_path / "none.parquet")
    assert str(error.value) == (
        f"no file '{tmp_path}/none.parquet'; make a subset with: "
        f"vprep subset SET --rule RULE --out {tmp_path}/none.parquet"
    )
    (tmp_path / "text.parquet").write_text("not parquet")
    with pytest.raises(UsageError, match=r"text.parquet is not a subset .*vprep subset SET --rule RULE"):
        ShardSet.open(shards).select(subset=tmp_path / "text.parquet")


def test_labels_of_sets_that_name_other_classes_are_left_out(shards: Path, small_shards: Path) -> None:
    both = ShardSet.open([shards, small_shards]).select()
    assert both.classes is None
    assert set(both.label.tolist()) == {-1}
    assert both[0].label is None


def test_clips_larger_than_their_frames_are_told_of(shards: Path, small_shards: Path) -> None:
    assert ShardSet.open(f"{shards},{small_shards}").smallest_side == 24
    assert upscaling_note(24, 24) == upscaling_note(None, 224) == ""
    assert upscaling_note(128, 224) == (
        "clips of 224 pixels are enlarged from frames of 128; make larger frames with: "
        "vprep shard VIDEOS --short-side 256 --out DIR"
    )


def test_an_index_of_an_older_version_is_refused(shards: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(shards, tmp_path / "set"))
    index = folder / "index.parquet"
    pq.write_table(pq.read_table(index).drop_columns(["frame_checks"]), index)
    facts = json.loads((folder / "dataset.json").read_bytes())
    for file in facts["files"]:
        file["bytes"] = (folder / file["name"]).stat().st_size
    (folder / "dataset.json").write_bytes(write_dataset(facts))
    with pytest.raises(UsageError) as error:
        ShardSet.open(folder).select()
    assert str(error.value) == (
        f"{index} has no column 'frame_checks', which this version needs; make the set anew with vprep shard, "
        "or for tars of others: vprep index"
    )
