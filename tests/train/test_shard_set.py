"""A set of shards is opened once, says what it is, and gives any selection of its videos."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rehash import believed

from vprep.errors import UsageError
from vprep.format import write_dataset
from vtrain.data import ShardSet, Videos
from vtrain.data.shard_spec import absolute

RunVprep = Callable[..., subprocess.CompletedProcess[str]]
OPENED: list[str] = []  # files that Python opened, while a test counts them
counting = False


def note(event: str, args: tuple[object, ...]) -> None:
    if counting and event == "open":
        OPENED.append(str(args[0]))


sys.addaudithook(note)  # a hook cannot be removed; it does nothing unless a test counts


def keys(videos: Videos) -> list[str]:
    return [str(key) for key in videos.keys.to_pylist()]


def rows(folder: Path) -> list[dict[str, object]]:
    return pq.read_table(folder / "index.parquet").to_pylist()


def rewrite(folder: Path, **changes: object) -> None:
    """Change entries of dataset.json, and give it the sizes that the files have now."""
    info = json.loads((folder / "dataset.json").read_bytes()) | changes
    for file in info["files"]:
        file["bytes"] = (folder / file["name"]).stat().st_size
    (folder / "dataset.json").write_bytes(write_dataset(info))


def rename(folder: Path) -> None:
    """Give each video of a set another key."""
    table = pq.read_table(folder / "index.parquet")
    keys = pa.array([f"{key}_again" for key in table["key"].to_pylist()])
    pq.write_table(table.set_column(table.schema.get_field_index("key"), "key", keys), folder / "index.parquet")
    rewrite(folder)


def test_dataset_json_is_read_once_for_any_number_of_questions(shards: Path) -> None:
    """And it is looked at once more when the index is opened: both must be of the same time."""
    global counting
    OPENED.clear()
    counting = True
    try:
        opened = ShardSet.open(shards)
        for split in (None, "train", "test"):
            opened.select(split)
        assert (opened.name, opened.smallest_side, opened.has_split("train", 1)) == ("synth", 24, True)
        assert len(opened.content_hashes()) == 30
        assert len(opened.fingerprint) > 10
    finally:
        counting = False
    assert [Path(path).name for path in OPENED].count("dataset.json") == 2


def test_the_index_is_opened_once_for_any_number_of_selections(copy: Path) -> None:
    """After the first selection the file can even be gone."""
    opened = ShardSet.open(copy)
    train = opened.select("train")
    (copy / "index.parquet").unlink()
    (copy / "dataset.json").unlink()
    assert keys(opened.select("train")) == keys(train)
    assert len(train) + len(opened.select("test")) == len(opened.select()) == 30
    assert len(opened.content_hashes()) == 30


def test_an_index_is_closed_together_with_its_set(copy: Path) -> None:
    def open_indexes() -> int:
        links = [os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]
        return links.count(str((copy / "index.parquet").resolve()))

    opened = ShardSet.open(copy)
    assert open_indexes() == 0
    opened.select()
    opened.select("train")
    assert open_indexes() == 1
    del opened
    assert open_indexes() == 0


@pytest.mark.parametrize("fold", [1, 2, 3])
@pytest.mark.parametrize("split", ["train", "test", None])
def test_a_selection_has_the_videos_that_the_index_has(shards: Path, split: str | None, fold: int) -> None:
    wanted = [row["key"] for row in rows(shards) if split in (None, row[f"split{fold}"])]
    assert keys(ShardSet.open(shards).select(split, fold=fold)) == wanted
    assert 0 < len(wanted) <= 30


def test_a_selection_from_some_shards_has_their_videos_and_names_these_shards(shards: Path) -> None:
    named = ["001.tar", "004.tar"]
    videos = ShardSet.open([shards / name for name in named]).select()
    wanted = [row for row in rows(shards) if row["shard"] in named]
    assert keys(videos) == [row["key"] for row in wanted]
    assert [videos.paths[number].name for number in videos.shard] == [row["shard"] for row in wanted]
    assert videos.offset.tolist() == [row["offset"] for row in wanted]


def test_several_sets_are_one_after_another(shards: Path, small_shards: Path) -> None:
    both = ShardSet.open([shards, small_shards])
    videos = both.select()
    assert keys(videos) == [row["key"] for folder in (shards, small_shards) for row in rows(folder)]
    where = [videos.paths[number] for number in videos.shard]
    assert where == [folder / str(row["shard"]) for folder in (shards, small_shards) for row in rows(folder)]
    assert both.spec == f"{shards},{small_shards}"
    assert both.name == "synth+small"
    assert both.fingerprint not in (ShardSet.open(shards).fingerprint, ShardSet.open(small_shards).fingerprint)


def test_a_set_under_two_paths_is_one_set(shards: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(shards)
    both = ShardSet.open([shards, tmp_path / "link"])
    assert [part.folder for part in both.parts] == [shards]
    assert len(both.select()) == 30


def test_a_copy_with_other_keys_has_the_same_name_and_classes(shards: Path, copy: Path) -> None:
    rename(copy)
    both = ShardSet.open([shards, copy, "+duplicates"])
    assert both.name == "synth"
    assert both.classes == ShardSet.open(shards).classes
    assert both.select().classes == both.classes


def test_classes_are_none_where_the_sets_have_different_ones(shards: Path, small_shards: Path) -> None:
    assert ShardSet.open(shards).classes == json.loads((shards / "dataset.json").read_bytes())["classes"]
    assert ShardSet.open([shards, small_shards]).classes is None


@pytest.mark.parametrize(
    ("settings", "side"),
    [
        ({"short_side": 128}, 128),
        ({"height": 128, "width": 171}, 128),
        ({"height": 171, "width": 96}, 96),
        ({"height": None, "width": None, "short_side": 256}, 256),
        ({}, None),
    ],
)
def test_the_smallest_side_is_that_of_the_settings(copy: Path, settings: dict[str, object], side: int | None) -> None:
    rewrite(copy, settings=settings)
    assert ShardSet.open(copy).smallest_side == side


def test_the_smallest_side_is_that_of_the_set_with_the_smallest_frames(shards: Path, copy: Path) -> None:
    rewrite(copy, settings={"short_side": 20})
    assert ShardSet.open([shards, copy]).smallest_side == 20
    rewrite(copy, settings={})
    assert ShardSet.open([shards, copy]).smallest_side == 24


def test_a_split_is_there_if_any_set_has_it(shards: Path, small_shards: Path) -> None:
    assert ShardSet.open(shards).has_split("train", 1)
    assert not ShardSet.open(shards).has_split("validation", 1)
    assert not ShardSet.open(small_shards).has_split("train", 1)
    assert ShardSet.open([small_shards, shards]).has_split("train", 3)


def test_content_hashes_are_those_of_the_named_shards(shards: Path) -> None:
    named = ShardSet.open(shards / "002.tar").content_hashes()
    assert named == {row["key"]: row["hash"] for row in rows(shards) if row["shard"] == "002.tar"}
    assert len(named) == 5
    assert named.items() < ShardSet.open(shards).content_hashes().items()


def test_the_fingerprint_is_that_of_the_set_whichever_shards_are_named(shards: Path, copy: Path) -> None:
    assert ShardSet.open(shards).fingerprint == json.loads((shards / "dataset.json").read_bytes())["hash"]
    assert ShardSet.open(copy / "003.tar").fingerprint == ShardSet.open(shards).fingerprint
    rewrite(copy, classes=["another"])
    assert ShardSet.open(copy).fingerprint != ShardSet.open(shards).fingerprint


def test_where_frames_are_is_kept_in_memory_for_the_tars_of_other_tools_only(shards: Path, copy: Path) -> None:
    assert ShardSet.open(shards).select().frame_index is None
    index = copy / "index.parquet"
    table = pq.read_table(index)
    at = table.schema.get_field_index("codec")
    unknown = pa.nulls(len(table), pa.string())
    pq.write_table(table.set_column(at, "codec", unknown), index)  # as `vprep index` makes it for them
    rename(copy)
    videos = ShardSet.open([shards, copy, "+duplicates"]).select("test")
    assert videos.frame_index is not None
    known = {row["key"]: row for row in (*rows(shards), *rows(copy))}
    half = len(videos) // 2
    for number, key in enumerate(keys(videos)):
        offsets, checks = videos.frame_index.of(number)
        wanted = known[key]
        assert (offsets, checks) == (([], "") if number < half else (wanted["frame_offsets"], wanted["frame_checks"]))


def test_videos_without_frames_are_left_out(copy: Path) -> None:
    index = copy / "index.parquet"
    table = pq.read_table(index)
    frames = np.array(table["frames"].to_pylist())
    frames[[0, 29]] = 0
    pq.write_table(table.set_column(table.schema.get_field_index("frames"), "frames", [frames.astype(np.int32)]), index)
    rewrite(copy)
    assert keys(ShardSet.open(copy).select()) == [row["key"] for row in rows(copy)][1:29]


def test_a_fold_that_does_not_exist_is_refused(shards: Path) -> None:
    with pytest.raises(UsageError) as error:
        ShardSet.open(shards).select("train", fold=4)
    assert str(error.value) == "--fold is 4; there are 1, 2 and 3"


def test_a_split_of_several_sets_that_have_none_is_refused(shards: Path, small_shards: Path) -> None:
    with pytest.raises(UsageError) as error:
        ShardSet.open([small_shards, shards / "000.tar"]).select("val", fold=2)
    assert str(error.value) == (
        f"{small_shards}, {shards} has no video of split 'val' in fold 2 in the 4 shards that were named; "
        "fold 2 of dataset.json has no split at all"
    )


def test_an_index_that_is_not_parquet_is_refused_by_name(copy: Path) -> None:
    (copy / "index.parquet").write_bytes(b"no parquet")
    rewrite(copy)
    with pytest.raises(UsageError, match=rf"^{copy}/index.parquet cannot be read \(.*\); .*: vprep index {copy}$"):
        ShardSet.open(copy).select()


def test_a_missing_index_is_refused_when_the_set_is_opened(copy: Path) -> None:
    (copy / "index.parquet").unlink()
    with pytest.raises(UsageError) as error:
        ShardSet.open(copy)
    assert str(error.value) == f"{copy}/index.parquet is missing; make it again: vprep index {copy}"


def test_a_missing_split_is_refused_with_the_splits_that_there_are(shards: Path) -> None:
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


def test_a_file_that_is_not_a_subset_is_refused(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        ShardSet.open(shards).select(subset=tmp_path / "none.parquet")
    assert str(error.value) == (
        f"no file '{tmp_path}/none.parquet'; make a subset with: "
        f"vprep subset SET --rule RULE --out {tmp_path}/none.parquet"
    )
    (tmp_path / "text.parquet").write_text("not parquet")
    with pytest.raises(
        UsageError,
        match=r"text.parquet cannot be read .*it is not a subset; make one with: vprep subset SET --rule RULE",
    ):
        ShardSet.open(shards).select(subset=tmp_path / "text.parquet")


def test_videos_of_sets_with_different_classes_have_no_label(shards: Path, small_shards: Path) -> None:
    both = ShardSet.open([shards, small_shards]).select()
    assert both.classes is None
    assert set(both.label.tolist()) == {-1}
    assert both[0].label is None


def test_an_index_of_an_older_version_is_refused(copy: Path) -> None:
    index = copy / "index.parquet"
    pq.write_table(pq.read_table(index).drop_columns(["frame_checks"]), index)
    rewrite(copy)
    with pytest.raises(UsageError) as error:
        ShardSet.open(copy).select()
    assert str(error.value) == (
        f"{index} has no column 'frame_checks', which this version needs; make the set again with vprep shard, "
        "or for tars of other tools: vprep index"
    )


def refusal(*specs: object) -> str:
    with pytest.raises(UsageError) as error:
        ShardSet.open([str(spec) for spec in specs]).select()
    return str(error.value)


@pytest.mark.parametrize(
    ("columns", "what"),
    [
        ({"key": None}, "has key null, which must be a name"),
        ({"height": 2**31 - 1}, "has height 2147483647 and width 32, which cannot be"),
        ({"width": None}, "has height 24 and width null, which cannot be"),
        ({"height": 16_384, "width": 16_384}, "has height 16384 and width 16384, which cannot be"),
        ({"frames": 10**9}, "has frames 1000000000 and size "),
        ({"frames": None}, "has frames null, which must be from 0 on"),
        ({"fps": float("nan")}, "has fps nan, which must be above 0"),
        ({"fps": -1.0}, "has fps -1.0, which must be above 0"),
        ({"label": -5}, "has label -5, which must be from 0 to 999999"),
        ({"label": 5}, "has label 5, and there are 5 classes"),
        ({"offset": -5}, "has offset -5, which must be from 0 on"),
        ({"offset": 2**40}, "it would end after its shard"),
        ({"size": -5}, "has size -5, which must be from 0 to "),
    ],
)
def test_values_that_no_video_has_are_refused_before_anything_is_read(
    columns: dict[str, object], what: str, copy: Path
) -> None:
    believed(copy, **columns)
    said = refusal(copy)
    assert said.startswith(f"{copy}/index.parquet, video '")
    assert f"': {what}" in said
    assert said.endswith(f"; find what is wrong with: vprep verify {copy}")


@pytest.mark.parametrize(
    "columns",
    [
        {"frame_offsets": [0, 5]},
        {"frame_offsets": []},
        {"frame_offsets": None},
        {"frame_offsets": list(range(21))},
        {"frame_offsets": [0] * 21},
        {"frame_checks": "00"},
        {"frame_checks": None},
    ],
)
def test_offsets_of_other_tools_that_do_not_fit_are_refused(
    columns: dict[str, object], foreign: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(foreign, tmp_path / "set"))
    ShardSet.open(folder).select()
    believed(folder, **columns)
    assert "its frame offsets do not fit its frames" in refusal(folder)


def test_a_key_that_is_there_twice_is_refused(copy: Path) -> None:
    believed(copy, key="same")
    assert refusal(copy) == (
        f"{copy}/index.parquet has the key 'same' twice; find what is wrong with: vprep verify {copy}"
    )


def test_one_video_in_two_sets_is_refused_by_its_key_and_by_its_content(shards: Path, copy: Path) -> None:
    first = rows(shards)[0]["key"]
    by_key = (
        f"{shards} and {copy} both have a video '{first}'; results go by key, so name one of the two sets, or make one "
        "again from files with other names"
    )
    assert refusal(shards, copy) == by_key
    assert refusal(f"{copy.parent}/s*t", shards).startswith(f"{copy} and {shards} both have a video '")
    assert refusal(shards, copy, "+duplicates") == by_key
    rename(copy)
    said = refusal(shards, copy)
    assert said.startswith(f"30 videos of {shards} are in {copy}, too, with the same content ('v_")
    assert said.endswith(f"or allow it with the word +duplicates: --shards '{shards},{copy},+duplicates'")
    both = ShardSet.open(f"{shards},{copy},+duplicates")
    assert len(both.select()) == 60
    assert len(both.content_hashes()) == 60


def test_the_word_stays_when_paths_are_made_absolute(shards: Path) -> None:
    assert absolute(f"{shards},+duplicates") == f"{shards},+duplicates"
    assert len(ShardSet.open(absolute(f"{shards},+duplicates")).select()) == 30


def test_only_the_named_shards_are_compared(shards: Path, copy: Path) -> None:
    assert len(ShardSet.open([shards / "<000..002>.tar", copy / "<003..005>.tar"]).select()) == 30
    assert "both have a video" in refusal(shards / "000.tar", copy / "000.tar")


def test_a_set_that_is_written_while_it_is_opened_is_never_of_two_times(copy: Path) -> None:
    """`vprep index` and `vprep retry` write the index first and dataset.json last; a reader may come in between."""
    said = (
        f"the set in {copy} changed while it was opened, or index.parquet is not the file that it was finished with; "
        f"wait until nobody writes to it, then find out with: vprep verify {copy}"
    )
    opened = ShardSet.open(copy)
    index = copy / "index.parquet"
    data = index.read_bytes()
    index.write_bytes(data[:-30] + bytes([data[-30] ^ 1]) + data[-29:])  # new, and as long as the old one
    with pytest.raises(UsageError) as error:
        opened.select()
    assert str(error.value).startswith((said[:60], f"{index} cannot be read"))
    index.write_bytes(data)
    assert len(ShardSet.open(copy).select()) == 30
    opened = ShardSet.open(copy)
    (copy / "dataset.json").unlink()  # what a retry does first
    with pytest.raises(UsageError) as error:
        opened.select()
    assert str(error.value) == said
    opened = ShardSet(opened.spec, opened.parts)
    (copy / "dataset.json").write_bytes(write_dataset(opened.parts[0].info | {"classes": ["x"]}))
    with pytest.raises(UsageError) as error:
        opened.select()
    assert str(error.value) == said


def test_a_reader_beside_a_writer_gets_the_old_set_or_the_new_one_or_a_sentence(copy: Path) -> None:
    words = [sys.executable, "-m", "vprep.cli", "index", str(copy)]
    (copy / "index.parquet").touch()
    seen, said = [], []
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as writer:
        while writer.poll() is None:
            try:
                seen.append(len(ShardSet.open(copy).select()))
            except UsageError as error:
                said.append(str(error))
    assert all(str(copy) in text for text in said)
    assert writer.returncode == 0
    assert set(seen) <= {30}
    assert len(ShardSet.open(copy).select()) == 30


def test_a_set_that_is_being_written_says_so(copy: Path) -> None:
    (copy / "dataset.json").unlink()  # what a retry does first
    (copy / ".lock").touch()
    assert refusal(copy) == (
        f"the set in {copy} is being written, or its writer was killed: wait, or run vprep shard again"
    )
