"""A training says how it computes, and once in its first minute whether it waits for data and what to change."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_recipes import small
from torch import nn

from vtrain.machine import processors
from vtrain.training.advice import Waiting, computing, waiting
from vtrain.training.run import Place
from vtrain.training.train import train

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
HERE = Place(CPU, torch.float32, 2)


@pytest.mark.parametrize(
    ("share", "workers", "most", "device", "said"),
    [
        (0.011, 4, 16, GPU, "1% of the time: the loader keeps up"),
        (0.5, 4, 16, GPU, "50% of the time: set workers=8 (now 4, of 16 processors)"),
        (0.06, 4, 16, GPU, "6% of the time: set workers=5 (now 4, of 16 processors)"),
        (0.75, 0, 16, GPU, "75% of the time: set workers=4 (now 0, of 16 processors)"),
        (0.99, 8, 16, GPU, "99% of the time: set workers=15 (now 8, of 16 processors)"),
        (
            0.4, 15, 16, GPU,
            "40% of the time, and all 16 processors read: use smaller frames (vprep shard --size) or more processors",
        ),
        (0.4, 1, 2, CPU, "40% of the time; network and workers share 2 processors: use a GPU, or a smaller network"),
    ],
)  # fmt: skip
def test_a_sentence_says_how_long_a_training_waits_and_what_to_change(
    share: float, workers: int, most: int, device: torch.device, said: str
) -> None:
    assert waiting(share, workers, most, device) == f"the training waits for data {said}"


def test_the_sentence_comes_once_and_the_first_steps_do_not_count() -> None:
    now, waited = [0.0], [0.0]
    watch, said = Waiting(HERE, lambda: waited[0], lambda: now[0]), []
    for step in range(1, 61):
        now[0] += 1
        waited[0] += 1.0 if step <= 10 else 0.02
        said.append((step, watch.after_step()))
    assert [found for found in said if found[1]] == [
        (30, "the training waits for data 2% of the time: the loader keeps up")
    ]


def test_layout_and_kernels_are_those_of_the_network() -> None:
    net = nn.Sequential(nn.Conv3d(4, 4, 3))
    read = f"2 workers read the clips, with {processors()} processors"
    assert computing(net, HERE, False) == f"computing on cpu: float32, contiguous weights, 3D kernels; {read}"
    assert "; 1 worker reads the clips" in computing(net, replace(HERE, workers=1), False)
    net.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    assert computing(net, HERE, True) == f"computing on cpu: float32, channels_last_3d, 3D kernels, compiled; {read}"


def test_a_training_says_in_one_line_how_it_computes(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(small("pace", shards, "steps=1"), tmp_path / "run")
    said = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("step ")]
    assert len(said) == 1
    assert said[0].startswith("computing on ")
    assert said[0].endswith(f"; this process reads the clips, with {processors()} processors")
