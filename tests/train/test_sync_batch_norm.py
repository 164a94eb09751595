"""Two real processes over gloo, each with a part of a batch: their batch norm is that of the full batch.

Run as a program, this file is one of the two.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from two_ranks import Found, as_rank, of_two_ranks

from vprep.errors import UsageError
from vtrain.backbones import backbone
from vtrain.distributed import own, world
from vtrain.methods import rspnet
from vtrain.methods.rspnet.network import RSPNet
from vtrain.training.sync_batch_norm import synced

CPU = torch.device("cpu")
PASSES = 2  # of a norm, each with numbers of its own
STEPS = 3  # of a training

# Each with the shape of a batch.
NORMS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "3d": (lambda: nn.BatchNorm3d(5), (4, 5, 2, 3, 4)),
    "1d": (lambda: nn.BatchNorm1d(5), (6, 5)),
    "1d with places": (lambda: nn.BatchNorm1d(5), (4, 5, 7)),
    "other numbers": (lambda: nn.BatchNorm3d(5, eps=1e-3, momentum=1e-3), (4, 5, 2, 3, 4)),
    "mean of all": (lambda: nn.BatchNorm3d(5, momentum=None), (4, 5, 2, 3, 4)),
    "nothing learned": (lambda: nn.BatchNorm3d(5, affine=False), (4, 5, 2, 3, 4)),
    "nothing remembered": (lambda: nn.BatchNorm3d(5, track_running_stats=False), (4, 5, 2, 3, 4)),
    "unequal parts": (lambda: nn.BatchNorm3d(5), (5, 5, 2, 3, 4)),
    "many positions": (lambda: nn.BatchNorm3d(2), (4, 2, 8, 40, 56)),
    "one video each": (lambda: nn.BatchNorm1d(5), (2, 5)),
}


def noise(shape: tuple[int, ...], seed: int) -> Tensor:
    """Return values with another mean and deviation in each channel."""
    channels = torch.arange(shape[1]).view(-1, *[1] * (len(shape) - 2)) + 1.0
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * channels + 3 * channels


def made(kind: Callable[[], nn.Module]) -> nn.Module:
    norm = kind()
    for number, parameter in enumerate(norm.parameters()):
        nn.init.normal_(parameter, 1.0, generator=torch.Generator().manual_seed(number))
    return norm


def passes(norm: nn.Module, shape: tuple[int, ...]) -> Found:
    """Return outputs and gradients of this rank's part of each batch; the loss is a sum over values and ranks."""
    found: Found = {"outputs": [], "gradients": []}
    for number in range(PASSES):
        values = own(noise(shape, number)).requires_grad_()
        outputs = norm(values)
        (outputs.square() * own(noise(shape, 100 + number))).sum().backward()
        found["outputs"].append(outputs.detach())
        found["gradients"].append(values.grad)
    found["learned"] = [parameter.grad for parameter in norm.parameters()]
    found["state"] = norm.state_dict()
    norm.eval()
    found["in evaluation"] = norm(own(noise(shape, 7))).detach()
    return found


def network() -> nn.Module:
    torch.manual_seed(3)
    stem = nn.Sequential(nn.Conv3d(3, 8, 3, stride=2, padding=1), nn.BatchNorm3d(8), nn.ReLU())
    return nn.Sequential(stem, nn.Flatten(), nn.Linear(256, 6), nn.BatchNorm1d(6))


def steps(net: nn.Module) -> Tensor:
    """Return the mean loss of each rank in some steps of SGD."""
    sgd = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    losses = []
    for number in range(STEPS):
        generator = torch.Generator().manual_seed(number)
        clips, wanted = torch.randn(16, 3, 4, 8, 8, generator=generator), torch.randn(16, 6, generator=generator)
        sgd.zero_grad()
        loss = (net(own(clips)) - own(wanted)).square().mean()
        loss.backward()
        sgd.step()
        losses.append(loss.detach())
    return torch.stack(losses)


def identity(device: torch.device) -> Found:
    """Return what conversion keeps of a network with frozen parts."""
    net = network()
    net[0].eval()
    net[2].requires_grad_(False)
    tensors = [*net.parameters(), *net.buffers()]
    after = synced(net, device)
    return {
        "kinds": [type(module).__name__ for module in after.modules() if "Norm" in type(module).__name__],
        "same": all(one is other for one, other in zip(tensors, [*after.parameters(), *after.buffers()], strict=True)),
        "names": list(after.state_dict()),
        "training": [module.training for module in after.modules()],
        "learning": [parameter.requires_grad for parameter in after.parameters()],
    }


def main() -> Found:
    assert world() == 2
    found: Found = {name: passes(synced(made(kind), CPU), shape) for name, (kind, shape) in NORMS.items()}
    found["far from 0"] = synced(nn.BatchNorm1d(1, affine=False), CPU)(own(torch.tensor([[1e4], [1e4 + 1]])))
    net = synced(network(), CPU)
    found["losses"] = steps(DistributedDataParallel(net))
    found["trained"] = net.state_dict()
    found["own"] = steps(DistributedDataParallel(network()))
    found["cpu"], found["cuda"] = identity(CPU), identity(torch.device("cuda"))
    return found


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[Found]:
    return of_two_ranks(__file__, tmp_path_factory.mktemp("two"))


@pytest.fixture(scope="module")
def alone() -> dict[str, Found]:
    """torch's own batch norm on the full batches."""
    return {name: passes(made(kind), shape) for name, (kind, shape) in NORMS.items()}


def assert_close(found: Tensor, wanted: Tensor, within: float = 1e-4) -> None:
    torch.testing.assert_close(found, wanted, rtol=within, atol=within)


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("kind", ["outputs", "gradients"])
def test_the_outputs_of_two_ranks_are_those_of_the_full_batch(
    kind: str, name: str, two: list[Found], alone: dict[str, Found]
) -> None:
    for first, second, whole in zip(two[0][name][kind], two[1][name][kind], alone[name][kind], strict=True):
        assert_close(torch.cat([first, second]), whole)


@pytest.mark.parametrize("name", NORMS)
def test_the_gradients_of_parameters_add_up_to_those_of_a_single_process(
    name: str, two: list[Found], alone: dict[str, Found]
) -> None:
    pairs = zip(two[0][name]["learned"], two[1][name]["learned"], alone[name]["learned"], strict=True)
    for first, second, whole in pairs:
        torch.testing.assert_close(first + second, whole, rtol=1e-4, atol=1e-3)
    assert len(alone[name]["learned"]) == (0 if name == "nothing learned" else 2)


@pytest.mark.parametrize("name", NORMS)
def test_the_running_statistics_are_those_of_one_process_on_each_rank(
    name: str, two: list[Found], alone: dict[str, Found]
) -> None:
    wanted = alone[name]["state"]
    for one in two:
        assert list(one[name]["state"]) == list(wanted)
        for kind, tensor in one[name]["state"].items():
            assert tensor.dtype == wanted[kind].dtype
            assert_close(tensor, wanted[kind])
    for kind, tensor in two[0][name]["state"].items():
        assert torch.equal(tensor, two[1][name]["state"][kind])


def test_the_running_variance_is_the_unbiased_one_of_the_whole_batch(two: list[Found]) -> None:
    """Computed in double precision; each pass has a weight of 1 in 2."""
    batches = [noise((4, 5, 2, 3, 4), number).double().transpose(0, 1).flatten(1) for number in range(PASSES)]
    state = two[0]["mean of all"]["state"]
    assert_close(state["running_mean"].double(), sum(batch.mean(1) for batch in batches) / 2)
    assert_close(state["running_var"].double(), sum(batch.var(1) for batch in batches) / 2)
    assert state["num_batches_tracked"] == 2


@pytest.mark.parametrize("name", NORMS)
def test_in_evaluation_it_is_torchs_own(name: str, two: list[Found]) -> None:
    """Exactly; without running statistics, each rank uses its own batch."""
    kind, shape = NORMS[name]
    norm = kind().eval()
    norm.load_state_dict(two[0][name]["state"])
    for one, part in zip(two, noise(shape, 7).tensor_split(2), strict=True):
        norm.load_state_dict(one[name]["state"])
        assert torch.equal(one[name]["in evaluation"], norm(part))


def test_a_mean_that_is_large_costs_no_precision(two: list[Found]) -> None:
    """The mean square of these, 100 010 000.5, has no digits left for a variance of 1/4."""
    assert_close(torch.cat([one["far from 0"] for one in two]), torch.tensor([[-1.0], [1.0]]))


def test_a_training_of_two_ranks_is_that_of_one_process_with_full_batches(two: list[Found]) -> None:
    """With torch's own DDP around it."""
    net = network()
    losses = steps(net)
    assert_close((two[0]["losses"] + two[1]["losses"]) / 2, losses, 1e-5)
    for one in two:
        assert one["trained"].keys() == net.state_dict().keys()
        for name, tensor in net.state_dict().items():
            assert_close(one["trained"][name], tensor, 1e-5)
    each_its_own = (two[0]["own"] + two[1]["own"]) / 2
    assert (each_its_own - losses).abs().min() > 1e-3


@pytest.mark.parametrize(("device", "kind"), [("cpu", "SyncNorm"), ("cuda", "SyncBatchNorm")])
def test_tensors_names_and_modes_stay_as_they_were(device: str, kind: str, two: list[Found]) -> None:
    """On a GPU, torch's own class takes its place."""
    net = network()
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm3d)]
    net[0].eval()
    for one in two:
        found = one[device]
        assert found["same"]
        assert found["kinds"] == [kind] * len(norms)
        assert found["names"] == list(net.state_dict())
        assert found["training"] == [module.training for module in net.modules()]
        assert found["learning"] == [not name.startswith("2.") for name, _ in net.named_parameters()]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_single_process_changes_nothing(device: str) -> None:
    net = network()
    kinds = [type(module) for module in net.modules()]
    assert synced(net, torch.device(device)) is net
    assert [type(module) for module in net.modules()] == kinds


def test_rspnet_is_refused() -> None:
    config = rspnet.Config(sampling=rspnet.Sampling(frames=4), queue=4, dim=4)
    with pytest.raises(UsageError) as error:
        synced(RSPNet(backbone("tiny", width=4), config), CPU)
    assert str(error.value) == (
        "batch_norm is sync with rspnet, which shuffles its keys over the processes and lets each process normalise "
        "on its own: set batch_norm=own"
    )


if __name__ == "__main__":
    as_rank(main)
