"""A training that cannot fit is refused before its first step, with what would fit."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vprep.errors import UsageError
from vprep.memory import memory_with_swap
from vtrain.data.sampling import Video
from vtrain.data.shard_set import ShardSet
from vtrain.overrides import change
from vtrain.recipes import find
from vtrain.training import memory_estimate, shapes
from vtrain.training.memory_estimate import demand_memory
from vtrain.training.run import Place
from vtrain.training.shapes import META, kept_by
from vtrain.training.train import module_of

CPU = Place(torch.device("cpu"), torch.float32, 0)
VIDEO = Video(key="v", frames=300, fps=25.0, height=24, width=32, label=1)
METHODS = ("rspnet", "ascnet", "prp", "pace", "supervised")
SMALL = ("backbone_settings.width=4", "frames=8", "size=16", "batch=4", "workers=0")


def refused(shards: Path, method: str, *words: str) -> str:
    recipe = change(find(method, "tiny"), words)
    if method == "supervised":
        recipe = change(recipe, ["method.classes=5"])
    with pytest.raises(UsageError) as error:
        demand_memory(recipe, ShardSet.open(str(shards)).select(None), CPU, 10, module_of)
    return str(error.value)


@pytest.mark.parametrize(
    ("method", "word"),
    [
        *((method, "batch=100000000") for method in METHODS),
        ("rspnet", "method.queue=10000000000"),
        ("rspnet", "method.dim=1000000000"),
        ("ascnet", "method.queue=10000000000"),
        ("ascnet", "method.hidden=1000000000"),
        ("pace", "backbone_settings.width=100000"),
    ],
)
def test_what_cannot_fit_is_refused_and_the_number_in_the_message_fits(method: str, word: str, shards: Path) -> None:
    name, _, value = word.partition("=")
    said = refused(shards, method, word)
    fitting = re.search(rf"; {re.escape(name)}=(\d+) would fit", said)
    assert fitting, said
    assert 1 <= int(fitting[1]) < int(value)
    recipe = change(find(method, "tiny"), [f"{name}={fitting[1]}"])
    recipe = change(recipe, ["method.classes=5"]) if method == "supervised" else recipe
    demand_memory(recipe, ShardSet.open(str(shards)).select(None), CPU, 10, module_of)


@pytest.mark.parametrize("word", ["method.sampling.looks.size=1000000", "method.sampling.frames=10000000000"])
def test_a_clip_that_is_too_large_for_any_batch_is_refused_with_one_that_fits(word: str, shards: Path) -> None:
    said = refused(shards, "rspnet", word)
    assert said.startswith("even one video with clips of ")
    assert re.search(rf"with batch=1, .*{re.escape(word.partition('=')[0])}=\d+", said), said


def test_absurd_sizes_in_several_settings_are_refused_without_a_number(shards: Path) -> None:
    said = refused(shards, "rspnet", "method.sampling.looks.size=1000000000", "method.sampling.frames=1000000000")
    assert said.endswith("take smaller and shorter clips")


def test_tensors_that_cannot_be_counted_are_refused(shards: Path) -> None:
    said = refused(shards, "rspnet", f"method.queue={2**63 - 1}")
    assert said == f"method.queue={2**63 - 1} needs tensors of more than 2**63 bytes; set it far lower"


def test_the_processes_on_a_machine_share_its_memory(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fitting(said: str) -> int:
        found = re.search(r"; method\.queue=(\d+) would fit", said)
        assert found, said
        return int(found[1])

    alone = refused(shards, "rspnet", "method.queue=10000000000")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    shared = refused(shards, "rspnet", "method.queue=10000000000")
    assert ", and each of the 2 processes on this machine has " in shared
    assert fitting(shared) == pytest.approx(fitting(alone) / 2, rel=0.05)


@pytest.mark.parametrize("method", METHODS)
def test_a_step_keeps_for_backward_what_its_shapes_say(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes that follow from shapes alone are those that autograd holds after a real forward pass."""
    recipe = change(find(method, "tiny"), [*SMALL, *(["method.classes=3"] if method == "supervised" else [])])
    with META:
        module = module_of(recipe)
    kept = kept_by(module.train(), recipe, VIDEO)
    assert kept is not None
    monkeypatch.setattr(shapes, "META", torch.device("cpu"))
    real = shapes._of_step(module_of(recipe).train(), recipe.method.plan(), VIDEO, 4)
    assert kept.fixed + 4 * kept.per_video == pytest.approx(real, rel=0.05)


def test_what_fits_is_not_refused_and_a_training_near_the_limit_is_warned_about(shards: Path) -> None:
    recipe = change(find("pace", "tiny"), SMALL)
    assert demand_memory(recipe, ShardSet.open(str(shards)).select(None), CPU, 10, module_of) == ""
    assert memory_estimate.warning(memory_with_swap() * 2).startswith("this training may need about ")


@pytest.mark.slow
def test_the_command_refuses_before_it_makes_a_folder_and_without_the_memory(shards: Path, tmp_path: Path) -> None:
    """The address space is limited to 6 GB, of which torch itself maps the greater part."""
    words = ["pace", "--recipe", "tiny", "--shards", str(shards), "--out", "run", "batch=100000000"]
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (6 << 30,) * 2); from vtrain.cli import main"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{limited}; main(sys.argv[1:])", *words], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2, done.stderr
    assert re.fullmatch(r"vtrain: batch=100000000 .*, and this machine has .*; batch=\d+ would fit\n", done.stderr)
    assert not (tmp_path / "run").exists()
