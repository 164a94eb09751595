"""The checks of `vprep doctor`, on this machine and on machines that lack something."""

import errno
import fcntl
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from rich.console import Console

from vprep.checks import Check, as_info, as_table
from vprep.doctor import run_checks
from vprep.video.ffmpeg import bundled, find


@pytest.fixture(autouse=True)
def _fresh_ffmpeg() -> Iterator[None]:
    yield
    find.cache_clear()


@pytest.fixture
def wrapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path that VPREP_FFMPEG names; the test writes a program there."""
    program = tmp_path / "ffmpeg"
    monkeypatch.setenv("VPREP_FFMPEG", str(program))
    return program


def altered(program: Path, change: str) -> None:
    script = program.with_suffix(".py")
    lines = [
        "import os, sys",
        f"real = {bundled()!r}",
        "words = sys.argv[1:]",
        change,
        "os.execv(real, [real, *words])",
    ]
    script.write_text("\n".join(lines))
    # A first line of `#!python` would fail where the path of Python has a space.
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" "$@"\n')
    program.chmod(0o755)


def of(name: str, checks: list[Check]) -> Check:
    return next(check for check in checks if check.name == name)


def test_nothing_fails_on_a_machine_where_the_tests_run(tmp_path: Path) -> None:
    checks = run_checks(tmp_path)
    assert [check for check in checks if check.ok is False] == []
    names = [check.name for check in checks]
    wanted = ["python", "torch", "ffmpeg", "ffmpeg decoders", "round trip", "memory", "disk", "lock"]
    assert [name for name in wanted if name not in names] == []


def test_every_required_package_is_checked() -> None:
    names = {check.name for check in run_checks()}
    assert {"numpy", "pyarrow", "webdataset", "ffmpeg-python", "imageio-ffmpeg", "opencv-python-headless"} < names
    assert "pytest" not in names


def test_torch_is_not_imported() -> None:
    program = "import sys; from vprep.doctor import run_checks; run_checks(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_the_doctor_leaves_nothing_in_the_folder(tmp_path: Path) -> None:
    run_checks(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_does_not_exist_is_checked_by_its_parent_and_not_made(tmp_path: Path) -> None:
    found = of("disk", run_checks(tmp_path / "a" / "b")).found
    assert found.endswith(f" free at {tmp_path}")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_ffmpeg_is_a_failed_check_with_advice(wrapped: Path) -> None:
    found = f"VPREP_FFMPEG={wrapped} cannot be run (no such file or directory)"
    assert of("ffmpeg", run_checks()) == Check("ffmpeg", False, found, "name a working ffmpeg in VPREP_FFMPEG")


def test_an_ffmpeg_that_is_no_program_is_a_failed_check_with_advice(wrapped: Path) -> None:
    wrapped.write_text("not a program")
    found = f"VPREP_FFMPEG={wrapped} cannot be run (permission denied)"
    assert of("ffmpeg", run_checks()) == Check("ffmpeg", False, found, "name a working ffmpeg in VPREP_FFMPEG")


def test_a_program_that_is_no_ffmpeg_is_a_failed_check_with_advice(wrapped: Path) -> None:
    wrapped.write_text("#!/bin/sh\necho hello\n")
    wrapped.chmod(0o755)
    found = f"VPREP_FFMPEG={wrapped} is no ffmpeg: it reports no version"
    assert of("ffmpeg", run_checks()) == Check("ffmpeg", False, found, "name another in VPREP_FFMPEG")


def test_a_wrong_range_of_grey_fails_the_round_trip(wrapped: Path) -> None:
    altered(
        wrapped,
        "words = [word.replace('out_range=full', 'out_range=limited') for word in words]\n"
        "words = [word.replace('setsar=', 'setparams=range=full,setsar=') for word in words]",
    )
    check = of("round trip", run_checks())
    assert check.ok is False
    assert check.advice == "name another ffmpeg in VPREP_FFMPEG, or unset it to use that of imageio-ffmpeg"


def test_a_wrong_colour_matrix_fails_the_round_trip(wrapped: Path) -> None:
    altered(wrapped, "words = [word.replace('bt601', 'bt2020') for word in words]")
    assert of("round trip", run_checks()).ok is False


def test_lost_frames_fail_the_round_trip(wrapped: Path) -> None:
    altered(wrapped, "words = [word.replace('fps=fps=25', 'fps=fps=20') for word in words]")
    check = of("round trip", run_checks())
    assert (check.ok, check.found) == (False, "20 frames of 25 came back")


def test_ffmpeg_without_a_needed_encoder_fails_and_without_a_useful_one_gets_a_note(wrapped: Path) -> None:
    altered(wrapped, "words = ['-version'] if words[-1] in ('-encoders', '-decoders') else words")
    checks = run_checks()
    assert (of("ffmpeg encoders", checks).ok, of("ffmpeg encoders", checks).found) == (False, "no mjpeg")
    decoders = of("ffmpeg decoders", checks)
    assert (decoders.ok, decoders.found) == (None, "no h264, hevc, vp8, vp9, av1, mpeg4")


def test_torch_2_9_gets_a_note_for_its_slow_convolutions(monkeypatch: pytest.MonkeyPatch) -> None:
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "2.9.1+cu128" if name == "torch" else real(name))
    advice = "torch 2.9 turns cuDNN off for half-precision conv3d, and training is slow: install 2.10 or later"
    assert of("torch", run_checks()) == Check("torch", None, "2.9.1+cu128", advice)


def test_an_old_or_missing_package_fails_but_torch_gets_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "numpy":
            return "1.9.3"
        raise metadata.PackageNotFoundError

    monkeypatch.setattr(metadata, "version", version)
    checks = run_checks()
    assert of("numpy", checks) == Check("numpy", False, "1.9.3", "pip install 'numpy>=1.26'")
    assert of("rich", checks) == Check("rich", False, "not installed", "pip install 'rich>=13.7'")
    assert of("torch", checks) == Check("torch", None, "not installed", "pip install 'torch>=2.10'")


def test_a_disk_without_locks_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    advice = "a set is not safe on such a disk; choose another --out"
    assert of("lock", run_checks(tmp_path)) == Check("lock", False, f"fails at {tmp_path}: no locks available", advice)


def test_a_note_is_no_failure() -> None:
    note, failure = Check("a", None, "odd"), Check("b", False, "bad", "mend it")
    assert as_info([note])["ok"] is True
    assert as_info([note, failure])["ok"] is False
    assert as_info([failure])["checks"] == [{"name": "b", "ok": False, "found": "bad", "advice": "mend it"}]


def test_the_table_shows_findings_and_advice() -> None:
    console = Console(width=60)
    with console.capture() as seen:
        console.print(as_table([Check("ffmpeg", False, "[no] file", "name one"), Check("disk", True, "9 GB free")]))
    lines = [line.split() for line in seen.get().splitlines()]
    assert lines == [["fails", "ffmpeg", "[no]", "file"], ["name", "one"], ["ok", "disk", "9", "GB", "free"]]
