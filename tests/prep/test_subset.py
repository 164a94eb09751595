"""Parts of a set, chosen by rules."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from vprep.errors import UsageError
from vprep.format import read_dataset
from vprep.subset import subset

MakeSet = Callable[..., Path]
IDS = ["-abcdefghij", "_bcdefghijk", "cdefghijklm"]


@pytest.fixture(scope="module")
def many(make_set: MakeSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Classes c000 to c204: the first has no training video, the next four have one, the others two.

    Those of class n take 300 - n bytes in all. Each class has a test video of 9 MB.
    """
    videos = []
    for number in range(205):
        name, count = f"c{number:03d}", 0 if number == 0 else 1 if number < 5 else 2
        each = {"class_name": name, "frames": 1}
        videos.append(each | {"key": f"{name}-test", "split1": "test", "source_bytes": 9_000_000})
        sizes = [300 - number] if count == 1 else [299 - number, 1][:count]
        videos += [
            each | {"key": f"{name}-{clip}", "split1": "train", "source_bytes": size} for clip, size in enumerate(sizes)
        ]
    return make_set(tmp_path_factory.mktemp("many") / "set", videos)


@pytest.fixture(scope="module")
def tube(make_set: MakeSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three videos named as those of Kinetics, in two classes."""
    names = [f"{IDS[0]}_000001_000011", IDS[1], f"{IDS[2]}_000004_000014"]
    videos = [
        {"key": f"k{place}", "source": f"train/{name}.mp4", "class_name": class_name, "label": label}
        for place, (name, class_name, label) in enumerate(
            zip(names, ("yoga", "yoga", "abseiling"), (7, 7, 0), strict=True)
        )
    ]
    return make_set(tmp_path_factory.mktemp("tube") / "set", videos)


def rows(path: Path) -> list[dict[str, Any]]:
    return list(pq.read_table(path).to_pylist())


def classes(path: Path) -> set[str]:
    return {row["class_name"] for row in rows(path)}


def listed(path: Path, lines: Iterable[str]) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def refusal(folder: Path, rule: str, out: Path, ids: Path | None = None) -> str:
    with pytest.raises(UsageError) as error:
        subset(folder, rule, out, ids=ids)
    return str(error.value)


def test_kinetics100_takes_the_classes_with_the_fewest_bytes_of_training_videos(many: Path, tmp_path: Path) -> None:
    info = subset(many, "kinetics100", tmp_path / "k.parquet")
    assert classes(tmp_path / "k.parquet") == {f"c{number:03d}" for number in range(105, 205)}
    assert (info["classes"], info["videos"]) == (100, 300)


def test_a_tie_goes_to_the_name_that_comes_first(make_set: MakeSet, tmp_path: Path) -> None:
    videos = [{"key": f"v{number}", "class_name": f"c{number:03d}", "frames": 1} for number in range(102)]
    folder = make_set(tmp_path / "set", videos[::-1])
    subset(folder, "kinetics100", tmp_path / "k.parquet")
    assert classes(tmp_path / "k.parquet") == {f"c{number:03d}" for number in range(100)}


def test_mini_kinetics200_takes_the_classes_with_the_most_training_videos(many: Path, tmp_path: Path) -> None:
    info = subset(many, "mini-kinetics200", tmp_path / "m.parquet")
    assert classes(tmp_path / "m.parquet") == {f"c{number:03d}" for number in range(5, 205)}
    assert info["classes"] == 200


def test_labels_are_new_and_follow_the_class_names_and_the_old_ones_are_kept(tube: Path, tmp_path: Path) -> None:
    wanted = listed(tmp_path / "keys.txt", ["k1", "k2"])
    subset(tube, f"keys:{wanted}", tmp_path / "s.parquet")
    assert rows(tmp_path / "s.parquet") == [
        {"key": "k1", "shard": "000.tar", "label": 1, "class_name": "yoga", "source_label": 7},
        {"key": "k2", "shard": "000.tar", "label": 0, "class_name": "abseiling", "source_label": 0},
    ]


def test_a_class_list_keeps_all_videos_of_its_classes_under_either_spelling(small_set: Path, tmp_path: Path) -> None:
    info = subset(small_set, f"classes:{listed(tmp_path / 'c.txt', ['walk'])}", tmp_path / "s.parquet")
    assert rows(tmp_path / "s.parquet") == [
        {"key": "v_Walk_g01_c01", "shard": "000.tar", "label": 0, "class_name": "Walk", "source_label": 1}
    ]
    assert (info["classes"], info["videos"]) == (1, 1)


def test_a_video_without_a_class_stays_without_a_label(small_set: Path, tmp_path: Path) -> None:
    subset(small_set, f"keys:{listed(tmp_path / 'k.txt', ['nameless'])}", tmp_path / "s.parquet")
    assert rows(tmp_path / "s.parquet") == [
        {"key": "nameless", "shard": "000.tar", "label": None, "class_name": None, "source_label": None}
    ]


def test_id_lists_choose_exactly_the_videos_whose_names_begin_with_an_id(tube: Path, tmp_path: Path) -> None:
    ids = listed(tmp_path / "ids.txt", [IDS[0], IDS[1], "not-here-01"])
    info = subset(tube, "mini-kinetics200", tmp_path / "s.parquet", ids=ids)
    assert [row["key"] for row in rows(tmp_path / "s.parquet")] == ["k0", "k1"]
    assert (info["videos"], info["ids"], info["ids_absent"]) == (2, 3, 1)


def test_a_folder_of_the_authors_two_lists_is_read_as_one(tube: Path, tmp_path: Path) -> None:
    listed(tmp_path / "train_ytid_list.txt", [IDS[0]])
    listed(tmp_path / "val_ytid_list.txt", [IDS[2]])
    info = subset(tube, "mini-kinetics200", tmp_path / "s.parquet", ids=tmp_path)
    assert [row["key"] for row in rows(tmp_path / "s.parquet")] == ["k0", "k2"]
    assert (info["ids"], info["ids_absent"]) == (2, 0)


def test_the_same_inputs_give_the_same_bytes(many: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        subset(many, "kinetics100", tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_file_records_its_rule_and_its_set(many: Path, tmp_path: Path) -> None:
    info = subset(many, "kinetics100", tmp_path / "new" / "k.parquet")
    assert pq.read_schema(tmp_path / "new" / "k.parquet").metadata == {
        b"rule": b"kinetics100",
        b"set": read_dataset(many)["hash"].encode(),
    }
    assert info == {
        "rule": "kinetics100",
        "out": str(tmp_path / "new" / "k.parquet"),
        "set": read_dataset(many)["hash"],
        "videos": 300,
        "classes": 100,
    }


@pytest.mark.parametrize("rule", ["kinetics400", "classes", "keys:", "kinetics100:x", ""])
def test_an_unknown_rule_is_an_error_with_the_known_ones(small_set: Path, tmp_path: Path, rule: str) -> None:
    expected = f"no rule '{rule}'; there are kinetics100, mini-kinetics200, classes:FILE, keys:FILE"
    assert refusal(small_set, rule, tmp_path / "s") == expected
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(("rule", "least"), [("kinetics100", 100), ("mini-kinetics200", 200)])
def test_too_few_classes_are_an_error_with_their_number(small_set: Path, tmp_path: Path, rule: str, least: int) -> None:
    assert refusal(small_set, rule, tmp_path / "s") == (
        f"{small_set} has 1 classes with training videos, and rule {rule} needs {least} or more; "
        "use another set, or classes:FILE"
    )


def test_kinetics100_refuses_a_set_without_the_sizes_of_its_sources(make_set: MakeSet, tmp_path: Path) -> None:
    folder = make_set(tmp_path / "set", [{"key": "a", "class_name": "x", "source_bytes": None}])
    assert refusal(folder, "kinetics100", tmp_path / "s") == (
        f"the index of {folder} lacks the size of 1 source files, which rule kinetics100 needs; use a set made by "
        "vprep shard"
    )


def test_an_unknown_class_is_an_error_with_the_classes_close_to_it(small_set: Path, tmp_path: Path) -> None:
    file = listed(tmp_path / "c.txt", ["Wal", "Run"])
    assert refusal(small_set, f"classes:{file}", tmp_path / "s") == (
        f"1 classes of {file} are not in {small_set}: 'Wal'; close to it: 'Walk'"
    )


def test_unknown_keys_are_an_error_with_their_number_and_the_first_keys(small_set: Path, tmp_path: Path) -> None:
    file = listed(tmp_path / "k.txt", ["v_Run_g01", "x1", "x2", "x3", "nameless"])
    assert refusal(small_set, f"keys:{file}", tmp_path / "s") == (
        f"4 keys of {file} are not in {small_set}: 'v_Run_g01', 'x1', 'x2', ...; close to it: 'v_Run_g01_c01'"
    )


def test_a_list_that_does_not_exist_is_an_error(small_set: Path, tmp_path: Path) -> None:
    said = refusal(small_set, f"keys:{tmp_path / 'no'}", tmp_path / "s")
    assert said.startswith(f"{tmp_path / 'no'} cannot be read (no such file or directory); ")


def test_an_id_of_another_length_is_an_error_with_its_line(tube: Path, tmp_path: Path) -> None:
    ids = listed(tmp_path / "ids.txt", [IDS[0], "short"])
    assert refusal(tube, "mini-kinetics200", tmp_path / "s", ids=ids) == (
        f"{ids}, line 2: 'short' where a YouTube id of 11 characters is needed"
    )


def test_ids_without_any_video_are_refused(small_set: Path, tmp_path: Path) -> None:
    ids = listed(tmp_path / "ids.txt", IDS)
    assert refusal(small_set, "mini-kinetics200", tmp_path / "s", ids=ids) == (
        f"none of the 3 ids is in {small_set}; its files must be named by their YouTube ids"
    )


def test_ids_are_refused_for_other_rules(small_set: Path, tmp_path: Path) -> None:
    assert refusal(small_set, "kinetics100", tmp_path / "s", ids=tmp_path) == (
        "--ids is only for --rule mini-kinetics200, and the rule is 'kinetics100'; leave --ids out"
    )


def test_an_out_file_that_cannot_be_written_is_an_error(small_set: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    rule = f"keys:{listed(tmp_path / 'k.txt', ['nameless'])}"
    out = tmp_path / "file" / "s"
    assert refusal(small_set, rule, out) == f"cannot write to {out}: file exists; choose another --out"
