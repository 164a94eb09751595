"""What is told of the machine and the software that a run was made with."""

import json
import os
import sys
from importlib import metadata

import numpy as np
import pytest
import torch

from vtrain.machine import command, environment


def test_it_can_be_written_as_json_and_read_back() -> None:
    facts = environment()
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts


def test_it_tells_what_explains_a_difference_and_nothing_else() -> None:
    facts = environment()
    assert list(facts) == [
        *("command", "python", "platform", "processors", "instructions", "threads", "OMP_WAIT_POLICY"),
        *("memory", "versions", "cuda", "cudnn", "gpus"),
    ]
    assert list(facts["versions"]) == ["playspeed", "torch", "cv2", "numpy", "webdataset", "pyarrow"]
    assert facts["versions"]["playspeed"] == metadata.version("playspeed")
    assert facts["versions"]["torch"] == torch.__version__
    assert facts["versions"]["numpy"] == np.__version__
    assert facts["python"] == ".".join(map(str, sys.version_info[:3]))
    assert facts["threads"] == 1
    assert facts["memory"] > 2**28
    assert len(facts["gpus"]) == torch.cuda.device_count()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processors cannot be chosen on this system")
def test_only_processors_that_may_be_used_count() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert environment()["processors"] == 1
    finally:
        os.sched_setaffinity(0, before)


def test_how_threads_wait_is_told_as_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert [one.encode() for one in command(["vtrain", word, "café"])] == [b"vtrain", b"caf\\udce9", "café".encode()]
