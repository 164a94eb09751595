"""What is known of the machine and the software: environment, devices, memory."""

import json
import os
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch

from vprep.errors import UsageError
from vprep.memory import memory
from vtrain.machine import command, device_named, environment


def test_the_environment_can_be_written_as_json_and_read_back() -> None:
    found = environment()
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_the_environment_explains_a_difference_and_says_nothing_else() -> None:
    found = environment()
    assert list(found) == [
        *("command", "python", "platform", "processors", "instructions", "threads", "OMP_WAIT_POLICY"),
        *("memory", "versions", "cuda", "cudnn", "gpus"),
    ]
    assert list(found["versions"]) == ["playspeed", "torch", "cv2", "numpy", "webdataset", "pyarrow"]
    assert found["versions"]["playspeed"] == metadata.version("playspeed")
    assert found["versions"]["torch"] == torch.__version__
    assert found["versions"]["numpy"] == np.__version__
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["threads"] == 1
    assert found["memory"] > 2**28
    assert len(found["gpus"]) == torch.cuda.device_count()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processors cannot be chosen on this system")
def test_only_processors_that_may_be_used_count() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert environment()["processors"] == 1
    finally:
        os.sched_setaffinity(0, before)


def test_the_environment_says_how_threads_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert environment()["OMP_WAIT_POLICY"] == "ACTIVE"
    monkeypatch.delenv("OMP_WAIT_POLICY")
    assert environment()["OMP_WAIT_POLICY"] is None


def test_the_command_is_what_was_typed_without_where_the_program_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/home/someone/venv/bin/vtrain", "pace", "--shards", "a b"])
    assert environment()["command"] == ["vtrain", "pace", "--shards", "a b"]


def test_python_m_vtrain_is_the_same_program() -> None:
    assert command(["/home/someone/vtrain/__main__.py", "pace"]) == ["vtrain", "pace"]


def test_a_word_that_is_not_utf_8_can_still_be_written() -> None:
    word = os.fsdecode(b"caf\xe9")
    assert [each.encode() for each in command(["vtrain", word, "café"])] == [b"vtrain", b"caf\\udce9", "café".encode()]


@pytest.mark.parametrize("name", ["memory.max", "memory/memory.limit_in_bytes"])
def test_a_containers_limit_of_memory_counts(name: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("1048576\n")
    assert memory(tmp_path) == 2**20
    (tmp_path / name).write_text("max\n")
    assert memory(tmp_path) == memory(tmp_path / "none") > 2**28


def test_without_a_name_the_device_is_this_processs_gpu_or_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert device_named("cpu") == torch.device("cpu")
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert device_named() == torch.device("cuda:0" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("word", ["tpu9", "cuda:99"])
def test_a_device_that_is_not_there_is_refused_in_one_sentence(word: str) -> None:
    with pytest.raises(UsageError) as error:
        device_named(word)
    assert str(error.value).startswith(f"there is no device '{word}' (")
    assert str(error.value).endswith("); write cpu or cuda")
    assert "\n" not in str(error.value)
