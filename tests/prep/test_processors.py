"""The processors that a process may use."""

import os
from pathlib import Path

import pytest

from vprep.processors import processors, quota


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


@pytest.mark.parametrize(
    ("text", "found"), [("200000 100000\n", 2.0), ("50000 100000\n", 0.5), ("max 100000\n", None), ("\n", None)]
)
def test_version_2_of_control_groups_writes_quota_and_period_in_one_file(
    text: str, found: float | None, tmp_path: Path
) -> None:
    write(tmp_path / "groups", cpu__max=text)
    (tmp_path / "membership").write_text("0::/\n")
    assert quota(tmp_path / "groups", tmp_path / "membership") == found


@pytest.mark.parametrize(("microseconds", "found"), [("350000\n", 3.5), ("-1\n", None)])
@pytest.mark.parametrize("mount", ["cpu", "cpu,cpuacct"])
def test_version_1_of_control_groups_writes_them_in_two_files(
    microseconds: str, found: float | None, mount: str, tmp_path: Path
) -> None:
    write(tmp_path / mount, cpu__cfs_quota_us=microseconds, cpu__cfs_period_us="100000\n")
    # In a container the path is often the host's, and its folder is not there.
    (tmp_path / "membership").write_text("12:pids:/other\n4:cpu,cpuacct:/docker/0123\n1:name=systemd:/docker/0123\n")
    assert quota(tmp_path, tmp_path / "membership") == found


def test_the_smallest_limit_of_a_group_and_its_parents_counts(tmp_path: Path) -> None:
    write(tmp_path / "a", cpu__max="150000 100000\n")
    write(tmp_path / "a" / "b", cpu__max="max 100000\n")
    write(tmp_path / "a" / "b" / "c", cpu__max="400000 100000\n")
    write(tmp_path / "other", cpu__max="100000 100000\n")
    (tmp_path / "membership").write_text("0::/a/b/c\n")
    assert quota(tmp_path, tmp_path / "membership") == 1.5


def test_a_system_without_control_groups_has_no_quota(tmp_path: Path) -> None:
    assert quota(tmp_path / "absent", tmp_path / "absent") is None


def test_a_quota_limits_the_number_of_usable_processors(tmp_path: Path) -> None:
    write(tmp_path, cpu__max="100000 100000\n")
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    granted = quota()
    assert processors() == (allowed if granted is None else allowed[: max(1, int(granted))])
    assert processors(tmp_path, tmp_path / "absent") == allowed[:1]


def test_all_processors_are_usable_on_a_system_without_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert processors(Path("/absent"), Path("/absent")) == list(range(os.cpu_count() or 1))
