"""Two real processes over gloo: what they gather, and that two halves of a batch fill a queue as the full batch does.

Run as a program, this file is one of the two.
"""

from dataclasses import replace
from typing import Any

import pytest
import torch
from table_fetch import TableFetch
from torch import Tensor, nn
from two_ranks import Found, as_rank, of_two_ranks

from vtrain.backbones import Backbone, backbone
from vtrain.data.augment.config import AugmentConfig
from vtrain.distributed import gather, own, rank, world
from vtrain.methods import ascnet, rspnet
from vtrain.methods.ascnet.network import ASCNet
from vtrain.methods.rspnet.network import RSPNet

STEPS = 3
RSPNET = rspnet.Config(sampling=rspnet.Sampling(frames=4), queue=21, dim=16)
ASCNET = ascnet.Config(
    sampling=ascnet.Sampling(frames=4, looks=(AugmentConfig(size=8),)), pool=21, queue=21, dim=8, hidden=16, tasks="scp"
)
NAMES = ["rspnet", "rspnet with odd batches", "rspnet with bn", "rspnet with more bn", "bank", "all", "clip", "feature"]


def plain() -> Backbone:
    torch.manual_seed(1)
    return Backbone(8, conv1=nn.Sequential(nn.Conv3d(3, 8, 3, stride=2, padding=1), nn.ReLU()))


def tiny() -> Backbone:
    torch.manual_seed(1)
    return backbone("tiny", width=4)


def steps(method: nn.Module, frames: int, batch: int = 8, apart: int = 100) -> Found:
    """Return the outputs of some steps on this rank's part of each batch, and the method's state after them."""
    numbers = []
    for step in range(STEPS):
        clips = torch.randn(batch, 2, 3, frames, 8, 8, generator=torch.Generator().manual_seed(step))
        first = (torch.arange(batch) // 3) % 2
        speed = torch.stack([first, 1 - first], 1) * 4.0 + 4
        targets = {"row": torch.arange(batch) + apart * step, "speed": speed}
        numbers.append(method(own(clips), {name: own(target) for name, target in targets.items()}))
    return {
        "state": method.state_dict(),
        **{name: torch.stack([one[name].detach() for one in numbers]) for name in numbers[0]},
    }


def everything() -> dict[str, Found]:
    def made(kind: Any, net: Backbone, config: Any) -> nn.Module:  # noqa: ANN401  either method
        torch.manual_seed(2)
        return kind(net, config)

    found = {
        "rspnet": steps(made(RSPNet, plain(), RSPNET), 8),
        "rspnet with odd batches": steps(made(RSPNet, plain(), RSPNET), 8, 6),
        "rspnet with bn": steps(made(RSPNet, tiny(), RSPNET), 8),
        "rspnet with more bn": steps(made(RSPNet, tiny(), replace(RSPNET, bn_groups=4)), 8),
    }
    for memory in ("clip", "feature"):
        found[memory] = steps(made(ASCNet, plain(), replace(ASCNET, memory=memory)), 4)
    for name, videos in (("bank", 208), ("all", 21)):
        method = made(ASCNet, plain(), ASCNET)
        method.fetch = TableFetch(torch.randn(videos, 3, 4, 8, 8, generator=torch.Generator().manual_seed(9)))
        found[name] = steps(method, 4, apart=6 if name == "all" else 100)
    return found


def kinds() -> list[Tensor]:
    """Return this rank's tensors to gather, of several types and layouts."""
    number = torch.arange(6).view(3, 2) + 10 * rank()
    return [number, number[:, 0], number % 2 == 0, number.bfloat16(), number.float().T, number[:0]]


def main() -> Found:
    learned = torch.ones(2, requires_grad=True)
    return {
        "world": world(),
        "rank": rank(),
        "gathered": [gather(kind) for kind in kinds()],
        "own": [own(gather(kind)) for kind in kinds()],
        "given": kinds(),
        "has a gradient": gather(learned * 2).requires_grad,
        **everything(),
    }


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[Found]:
    return of_two_ranks(__file__, tmp_path_factory.mktemp("two"))


@pytest.fixture(scope="module")
def alone() -> dict[str, Found]:
    return everything()


def test_a_single_process_gathers_its_own_tensors() -> None:
    part = torch.arange(3.0, requires_grad=True)
    assert (world(), rank()) == (1, 0)
    assert torch.equal(gather(part), part)
    assert not gather(part * 2).requires_grad
    assert torch.equal(own(part), part)


def test_each_rank_knows_its_number(two: list[Found]) -> None:
    assert [(one["world"], one["rank"]) for one in two] == [(2, 0), (2, 1)]


def test_parts_of_any_type_are_gathered_in_the_order_of_the_ranks(two: list[Found]) -> None:
    for first, second, *gathered in zip(
        two[0]["given"], two[1]["given"], *(one["gathered"] for one in two), strict=True
    ):
        for whole in gathered:
            assert whole.dtype == first.dtype
            assert torch.equal(whole, torch.cat([first, second]))


def test_a_rank_finds_its_part_again(two: list[Found]) -> None:
    for one in two:
        assert all(torch.equal(part, given) for part, given in zip(one["own"], one["given"], strict=True))
        assert not one["has a gradient"]


def memories(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if name.startswith(("queue.", "memory."))}


@pytest.mark.parametrize("name", NAMES)
def test_two_ranks_fill_queue_and_memory_as_a_single_process_with_both_halves(
    name: str, two: list[Found], alone: dict[str, Found]
) -> None:
    """With batch norm, too: over all ranks there are the same groups of clips."""
    wanted = memories(alone[name]["state"])
    assert wanted
    for one in two:
        found = memories(one[name]["state"])
        assert found.keys() == wanted.keys()
        for kind, tensor in found.items():
            torch.testing.assert_close(tensor, wanted[kind], rtol=0, atol=1e-5)
    for kind, tensor in memories(two[0][name]["state"]).items():
        assert torch.equal(tensor, two[1][name]["state"][kind])


@pytest.mark.parametrize("name", NAMES)
def test_the_outputs_of_two_ranks_have_the_mean_of_a_single_process(
    name: str, two: list[Found], alone: dict[str, Found]
) -> None:
    if name in ("bank", "all", "clip", "feature"):
        # The predictor's batch norm sees its own rank; who is whose neighbour is the same.
        kinds = ["neighbours"]
    else:
        kinds = [kind for kind in alone[name] if kind != "state"]
        assert "rsp_accuracy" in kinds
    for kind in kinds:
        mean = (two[0][name][kind] + two[1][name][kind]) / 2
        torch.testing.assert_close(mean, alone[name][kind], rtol=1e-4, atol=1e-5)
    assert (two[0][name]["loss"] - two[1][name]["loss"]).abs().min() > 1e-4


if __name__ == "__main__":
    as_rank(main)
