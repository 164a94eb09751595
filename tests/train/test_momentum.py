"""A momentum copy of a network, and a queue of the last entries."""

import pytest
import torch
from torch import Tensor, nn

from vtrain.methods.momentum import Queue, ema_update, momentum_copy, unit_noise


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def test_a_momentum_copy_is_equal_shares_nothing_and_gets_no_gradient() -> None:
    first = net()
    second = momentum_copy(first)
    assert not any(parameter.requires_grad for parameter in second.parameters())
    assert all(parameter.requires_grad for parameter in first.parameters())
    with torch.no_grad():
        first[0].weight.add_(1)
    assert torch.equal(second[0].weight, net()[0].weight)


@pytest.mark.parametrize("keep", [0.0, 0.999, 1.0])
def test_an_update_keeps_its_share_of_the_copy_and_takes_the_rest_from_the_network(keep: float) -> None:
    first, second = net(), momentum_copy(net())
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.add_(torch.randn_like(parameter))
    wanted = [keep * old + (1 - keep) * new for old, new in zip(net().parameters(), first.parameters(), strict=True)]
    ema_update([(second[0], first[0]), (second[1:], first[1:])], keep)
    for found, should in zip(second.parameters(), wanted, strict=True):
        torch.testing.assert_close(found, should.detach(), rtol=0, atol=1e-7)


def test_a_copy_has_its_own_statistics_of_batch_norm() -> None:
    first, second = net(), momentum_copy(net())
    first(torch.randn(8, 3))
    before = second[1].running_mean.clone()
    ema_update([(second, first)], 0.5)
    assert torch.equal(second[1].running_mean, before)
    assert not torch.equal(first[1].running_mean, before)


@pytest.mark.parametrize("size", [5, 6, 7])
def test_a_queue_holds_the_last_entries_of_every_kind_whatever_the_batches(size: int) -> None:
    queue = Queue(keys=torch.full((size, 2), -1.0), row=torch.full((size,), -1))
    shown: list[int] = []
    for count in (3, 1, 4, 2, 20, 3, size, 0, 1):
        new = torch.arange(len(shown), len(shown) + count)
        queue.push(keys=new[:, None].expand(-1, 2).float(), row=new)
        shown += new.tolist()
        last = [*[-1] * size, *shown][-size:]
        assert sorted(queue["row"].tolist()) == sorted(last)
        assert torch.equal(queue["keys"][:, 1], queue["row"].float())
        assert queue.cursor.item() == len(shown) % size
        if count and len(shown) >= size:
            # The next to go is the oldest.
            assert queue["row"][queue.cursor] == len(shown) - size


def test_a_queue_keeps_its_own_types() -> None:
    queue = Queue(clip=torch.zeros(4, 2, dtype=torch.bfloat16))
    queue.push(clip=torch.tensor([[1.0, 1 / 3]]))
    assert queue["clip"].dtype == torch.bfloat16
    assert queue["clip"][0].tolist() == [1.0, torch.tensor(1 / 3).bfloat16().item()]


def test_a_queue_continues_from_a_checkpoint() -> None:
    queue, other = (Queue(keys=torch.zeros(5, 1)) for _ in range(2))
    queue.push(keys=torch.ones(3, 1))
    other.load_state_dict(queue.state_dict())
    for one in (queue, other):
        one.push(keys=torch.full((4, 1), 2.0))
    assert other["keys"].flatten().tolist() == queue["keys"].flatten().tolist() == [2, 2, 1, 2, 2]


def test_entries_that_were_read_before_a_push_keep_their_gradient() -> None:
    queue = Queue(keys=unit_noise(4, 3))
    before = queue["keys"].clone()
    query = torch.randn(2, 3, requires_grad=True)
    score = (query @ queue["keys"].clone().T).sum()
    queue.push(keys=torch.ones(4, 3))
    score.backward()
    torch.testing.assert_close(query.grad, before.sum(0).expand(2, 3))


class Scores(nn.Module):
    """Compares with a queue, into which the compared vectors then go, as RSPNet does."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(4, 3)
        self.queue = Queue(keys=unit_noise(6, 3))

    def forward(self, x: Tensor) -> Tensor:
        made = self.head(x)
        score = (made @ self.queue.before_push("keys").T).logsumexp(1).mean()
        self.queue.push(keys=made.detach())
        return score


@pytest.mark.slow
@pytest.mark.skipif(" " in torch.__file__, reason="torch's compiler fails in an environment whose path has a space")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch itself
def test_a_compiled_network_learns_from_the_entries_before_the_push_too() -> None:
    eager, compiled = Scores(), Scores()
    compiled.compile(dynamic=False)
    for number in range(3):
        x = torch.randn(4, 4, generator=torch.Generator().manual_seed(number))
        for net in (eager, compiled):
            net(x).backward()
    torch.testing.assert_close(compiled.head.weight.grad, eager.head.weight.grad)
    torch.testing.assert_close(compiled.queue["keys"], eager.queue["keys"])


def test_unit_noise_has_length_one_and_is_always_the_same() -> None:
    noise = unit_noise(1000, 128)
    torch.testing.assert_close(noise.norm(dim=1), torch.ones(1000))
    torch.manual_seed(5)
    assert torch.equal(unit_noise(1000, 128), noise)
    assert noise.mean(0).norm() < 0.1
