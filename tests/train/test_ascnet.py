"""ASCNet: which clips its networks see, whose neighbour is whose, where the gradient goes, and what is saved."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from random import Random
from typing import Literal

import pytest
import torch
from devices import needs_gpu, waiting_is_an_error
from host_waits import HostWaits
from table_fetch import TableFetch
from torch import Tensor, nn

from vtrain.backbones import Backbone, backbone
from vtrain.data.augment.config import AugmentConfig
from vtrain.data.sampling import Video
from vtrain.methods.ascnet import ONLINE, TARGET, Config, Sampling
from vtrain.methods.ascnet.memory import fitting, nearest, next_fitting
from vtrain.methods.ascnet.network import ASCNet

SMALL = Config(sampling=Sampling(frames=4, looks=(AugmentConfig(size=8),)), pool=16, queue=16, dim=8, hidden=16)
CLIP = replace(SMALL, memory="clip")
FEATURE = replace(SMALL, memory="feature")
DIFFERENT = replace(SMALL, instances="different")
SAME = replace(SMALL, instances="same")
ACP, SCP, SP = (replace(SMALL, tasks=tasks) for tasks in ("acp", "scp", "acp+sp"))
ALL = {
    "bank": SMALL,
    "clip": CLIP,
    "feature": FEATURE,
    "different": DIFFERENT,
    "same": SAME,
    "acp": ACP,
    "scp": SCP,
    "acp+sp": SP,
    "both": replace(SMALL, direction="both"),
    "both with clips": replace(CLIP, direction="both"),
}
every = pytest.mark.parametrize("config", ALL.values(), ids=ALL.keys())


def plain() -> Backbone:
    torch.manual_seed(1)
    return Backbone(8, conv1=nn.Sequential(nn.Conv3d(3, 8, 3, stride=2, padding=1), nn.ReLU()))


def tiny() -> Backbone:
    torch.manual_seed(1)
    return backbone("tiny", width=4)


def made(config: Config = SMALL, net: Callable[[], Backbone] = plain) -> ASCNet:
    torch.manual_seed(2)
    return with_table(ASCNet(net(), config))


def with_table(method: ASCNet) -> ASCNet:
    """Give a method that fetches clips a table of them."""
    if method.fetched:
        method.fetch = TableFetch(torch.randn(700, 3, 4, 8, 8, generator=torch.Generator().manual_seed(9)))
    return method


def batch(count: int, config: Config = SMALL, seed: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
    """Return clips of videos that no other batch has; the order of the speeds alternates."""
    views = config.plan().views
    clips = torch.randn(count, views, 3, 4, 8, 8, generator=torch.Generator().manual_seed(seed))
    first = torch.arange(count) % 2
    speed = torch.stack([first, 1 - first] * 2, 1)[:, :views] * 4.0 + 4
    return clips, {"row": torch.arange(count) + 100 * seed, "speed": speed}


def run(method: ASCNet, steps: range, optimiser: torch.optim.Optimizer) -> list[float]:
    losses = []
    for step in steps:
        loss = method(*batch(5, method.config, step))["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        method.after_step(step / 10)
        losses.append(loss.item())
    return losses


def test_a_neighbour_is_another_video_at_the_wanted_speed() -> None:
    fits = fitting(
        torch.tensor([4.0, 8.0]), torch.tensor([0, 1]), torch.tensor([4.0, 8.0, 4.0, 8.0]), torch.tensor([0, 1, 2, -1])
    )
    assert fits.tolist() == [[False, False, True, False], [False, False, False, False]]


def test_the_nearest_fitting_entry_is_chosen() -> None:
    asked, known = torch.eye(2), torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    fits = torch.tensor([[False, True, True], [True, True, True]])
    assert nearest(asked, known, fits).tolist() == [1, 2]


def test_the_next_fitting_sample_is_found_and_after_the_last_comes_the_first() -> None:
    generator = torch.Generator().manual_seed(0)
    for count in (1, 2, 5, 8):
        fits = torch.rand(count, count, generator=generator) > 0.5
        found = next_fitting(fits).tolist()
        for n in range(count):
            behind = [(n + step) % count for step in range(count)]
            wanted = next((other for other in behind if fits[n, other]), None)
            assert wanted is None or found[n] == wanted


def test_both_memories_give_the_same_motion_while_the_target_does_not_change() -> None:
    methods = [made(CLIP), made(FEATURE)]
    for seed in range(4):
        clips, targets = batch(5, seed=seed)
        one, other = (method(clips.bfloat16().float(), targets) for method in methods)
        torch.testing.assert_close(one, other)


def test_the_neighbours_clip_is_encoded_again_by_the_present_target() -> None:
    method, (clips, targets) = made(CLIP), batch(6)
    method(clips, targets)
    with torch.no_grad():
        for parameter in method.target_heads["scp"].parameters():
            parameter.add_(torch.randn_like(parameter))
    now, _ = method._other(clips, targets, *method._target(clips[:, 1]), 0, 1)()
    wanted = method._target(clips[:, 1].bfloat16().float())[1]
    assert all((wanted - motion).abs().amax(1).min() < 1e-5 for motion in now)


def test_the_memory_holds_the_last_clips_that_the_target_saw() -> None:
    method = made(CLIP)
    for seed in range(4):
        clips, targets = batch(5, seed=seed)
        method(clips, targets)
    memory = method.memory
    assert sorted(memory["row"].tolist()) == [4, *range(100, 105), *range(200, 205), *range(300, 305)]
    place = memory["row"].tolist().index(303)
    assert memory["speed"][place] == targets["speed"][3, 1]
    assert torch.equal(memory["clip"][place].movedim(-1, 0), clips[3, 1].bfloat16())
    torch.testing.assert_close(memory["appearance"][place], method._target(clips[:, 1])[0][3])


def test_a_batch_may_be_larger_than_the_memory() -> None:
    method = made(replace(CLIP, pool=3))
    assert torch.isfinite(method(*batch(8))["loss"])
    assert sorted(method.memory["row"].tolist()) == [5, 6, 7]


@pytest.mark.parametrize("config", [SMALL, CLIP, FEATURE, DIFFERENT], ids=["bank", "clip", "feature", "different"])
def test_a_single_video_has_no_neighbour_and_its_loss_is_that_of_appearance(config: Config) -> None:
    method = made(config)
    clips, targets = batch(6, config)
    targets["row"] = torch.zeros(6, dtype=torch.long)
    for _ in range(2):
        numbers = method(clips, targets)
        assert numbers["neighbours"] == 0
        assert numbers["scp"] == 0
        assert numbers["loss"] == 0.5 * numbers["acp"]


def test_a_different_instance_is_the_next_video_of_the_batch_at_the_same_speed() -> None:
    method, (clips, targets) = made(DIFFERENT), batch(5)
    motion, found = method._other(clips, targets, *(target := method._target(clips[:, 1])), 0, 1)()
    assert not hasattr(method, "memory")
    assert found.all()
    # The first clips' speeds are 4 8 4 8 4, the second ones' 8 4 8 4 8.
    torch.testing.assert_close(motion, target[1][[1, 2, 3, 4, 1]])


def test_the_same_instance_is_a_third_clip_at_the_first_ones_speed() -> None:
    plan = replace(SAME, sampling=Sampling()).plan()
    assert plan.views == 3
    assert plan.looks == (ONLINE, TARGET, TARGET)
    for seed in range(9):
        sample = plan(Video("v", 500, 25, 128, 171), Random(seed))
        first, second, third = sample.views
        assert first.speed == third.speed != second.speed
        assert sample.targets["speed"] == [first.speed, second.speed, third.speed]
        assert [view.group for view in sample.views] == [0, 1, 2]
    method, (clips, targets) = made(SAME), batch(4, SAME)
    motion, found = method._other(clips, targets, *method._target(clips[:, 1]), 0, 1)()
    torch.testing.assert_close(motion, method._target(clips[:, 2])[1])
    assert found.all()
    assert replace(SAME, direction="both", sampling=Sampling()).plan().looks == (ONLINE, TARGET, TARGET, TARGET)


def test_all_other_settings_need_two_clips() -> None:
    for config in (SMALL, CLIP, FEATURE, DIFFERENT, ACP, SCP, SP, replace(SAME, tasks="acp")):
        assert config.plan() == config.sampling
        assert config.plan().views == 2


def test_two_equal_speeds_are_both_in_the_pair() -> None:
    sample = Sampling(speeds=(1, 1))(Video("v", 500, 25, 128, 171), Random(0))
    assert [view.speed for view in sample.views] == [1, 1]
    config = replace(SP, sampling=replace(SMALL.sampling, speeds=(1, 1)))
    assert made(config).speed.out_features == 1


@every
def test_the_gradient_reaches_what_learns_and_nothing_else(config: Config) -> None:
    method = made(config, tiny)
    numbers = method(*batch(6, config))
    assert all(number.shape == () for number in numbers.values())
    assert all(number.requires_grad == (name == "loss") for name, number in numbers.items())
    numbers["loss"].backward()
    idle = {"acp": "heads.scp", "scp": "heads.acp", "acp+sp": "heads.scp"}.get(config.tasks, "none")
    for name, parameter in method.named_parameters():
        learns = not name.startswith(("target", idle))
        assert parameter.requires_grad == learns, name
        assert (parameter.grad is not None) == learns, name


@pytest.mark.parametrize(
    ("tasks", "gamma", "shares"),
    [
        ("acp+scp", 0.5, {"acp": 0.5, "scp": 0.5}),
        ("acp+scp", 0.2, {"acp": 0.8, "scp": 0.2}),
        ("acp", 0.5, {"acp": 1.0}),
        ("scp", 0.5, {"scp": 1.0}),
        ("acp+sp", 0.3, {"acp": 0.7, "sp": 0.3}),
    ],
)
def test_gamma_is_the_share_of_the_second_task(
    tasks: Literal["acp+scp", "acp", "scp", "acp+sp"], gamma: float, shares: dict[str, float]
) -> None:
    config = replace(SMALL, tasks=tasks, gamma=gamma)
    assert config.shares == shares
    numbers = made(config)(*batch(6))
    torch.testing.assert_close(numbers["loss"].detach(), sum(numbers[task] * share for task, share in shares.items()))


def test_the_loss_of_a_new_network_is_that_of_random_directions() -> None:
    """2 - 2 cos of vectors that have nothing in common is 2."""
    method = made(replace(SMALL, dim=256, hidden=512), tiny)
    numbers = method(*batch(8))
    assert numbers["acp"].item() == pytest.approx(2.0, abs=0.4)
    assert numbers["scp"].item() == pytest.approx(2.0, abs=0.4)


def test_sp_predicts_the_speed() -> None:
    config = replace(SP, sampling=replace(SMALL.sampling, speeds=(8, 1, 4)))
    method, (clips, targets) = made(config), batch(4)
    targets["speed"] = torch.tensor([[1, 4], [8, 4], [4, 1], [1, 8]])  # as whole numbers too
    logits = method.speed(method.backbone(clips[:, 0]).mean((2, 3, 4)))
    label = [0, 2, 1, 0]
    wanted = sum(-logits[n].log_softmax(0)[label[n]] for n in range(4)) / 4
    numbers = method(clips, targets)
    torch.testing.assert_close(numbers["sp"], wanted.detach())
    assert numbers["sp_accuracy"].item() == sum(logits[n].argmax() == label[n] for n in range(4)) / 4


def test_both_directions_are_the_mean_of_the_two() -> None:
    clips, targets = batch(6)
    turned = {"row": targets["row"], "speed": targets["speed"].flip(1)}
    for config in (ACP, DIFFERENT):
        one, other = made(config)(clips, targets), made(config)(clips.flip(1), turned)
        both = made(replace(config, direction="both"))(clips, targets)
        torch.testing.assert_close(both["loss"], (one["loss"] + other["loss"]) / 2)


def test_the_accuracy_is_how_often_a_clip_finds_its_own_video() -> None:
    method, (clips, targets) = made(ACP), batch(4)
    a = method._target(clips[:, 1])[0]
    method.predictors["acp"] = nn.Identity()
    method.heads["acp"].forward = lambda _: a[[0, 1, 3, 2]]  # type: ignore[method-assign]
    assert method(clips, targets)["acp_accuracy"] == 0.5


@pytest.mark.parametrize(("progress", "keep"), [(0.0, 0.99), (0.5, 0.995), (1.0, 1.0)])
def test_the_momentum_of_the_target_rises_to_1(progress: float, keep: float) -> None:
    method = made(SMALL, tiny)
    pairs = [(method.target_backbone, method.backbone), (method.target_heads, method.heads)]
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(torch.randn_like(parameter))
    wanted = [
        keep * old + (1 - keep) * new
        for target, online in pairs
        for old, new in zip(target.parameters(), online.parameters(), strict=True)
    ]
    method.after_step(progress)
    found = [parameter for target, _ in pairs for parameter in target.parameters()]
    for parameter, should in zip(found, wanted, strict=True):
        torch.testing.assert_close(parameter, should.detach(), rtol=0, atol=1e-6)
    assert not any("predictors" in name for name, _ in method.target_heads.named_parameters())


@every
def test_a_resumed_run_continues_bit_for_bit(config: Config) -> None:
    method, other = made(config, tiny), with_table(ASCNet(tiny(), config))
    optimiser = torch.optim.SGD(method.parameters(), 0.1, momentum=0.9)
    run(method, range(3), optimiser)
    other.load_state_dict(deepcopy(method.state_dict()))
    resumed = torch.optim.SGD(other.parameters(), 0.1, momentum=0.9)
    resumed.load_state_dict(deepcopy(optimiser.state_dict()))
    assert run(other, range(3, 6), resumed) == run(method, range(3, 6), optimiser)
    for name, tensor in other.state_dict().items():
        assert torch.equal(tensor, method.state_dict()[name]), name


@pytest.mark.parametrize("config", [SMALL, CLIP, FEATURE], ids=["bank", "clip", "feature"])
def test_the_memory_takes_nothing_of_held_out_videos(config: Config) -> None:
    method = made(config, tiny)
    method(*batch(5, seed=1))
    method.eval()
    before = {name: tensor.clone() for name, tensor in method.state_dict().items()}
    assert method(*batch(4, seed=2))["neighbours"] == 1
    assert all(torch.equal(tensor, before[name]) for name, tensor in method.state_dict().items())


@every
def test_a_step_makes_the_host_wait_for_nothing(config: Config) -> None:
    method, (clips, targets) = made(config, tiny), batch(5, config)
    with HostWaits() as waits:
        method(clips, targets)["loss"].backward()
        method.after_step(0.5)
    assert waits.found == []


@needs_gpu
@every
def test_a_step_on_a_gpu_makes_the_host_wait_for_nothing(config: Config, device: torch.device) -> None:
    clips, targets = batch(5, config)
    method, clips = made(config, tiny).to(device), clips.to(device)
    targets = {name: target.to(device) for name, target in targets.items()}
    method(clips, targets)
    with waiting_is_an_error():
        with torch.autocast("cuda", torch.bfloat16):
            loss = method(clips, targets)["loss"]
        loss.backward()
        method.after_step(0.5)


@every
def test_features_and_losses_are_float32_under_autocast(config: Config) -> None:
    method, (clips, targets) = made(config), batch(4, config)
    full = method(clips, targets)
    method.eval()
    maps: list[torch.dtype] = []
    method.backbone.register_forward_hook(lambda net, args, output: maps.append(output.dtype))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        half = method(clips, targets)
        targets = method._target(clips[:, 1])
    assert set(maps) == {torch.bfloat16}
    assert {*(target.dtype for target in targets), *(number.dtype for number in half.values())} == {torch.float32}
    assert half.keys() == full.keys()


def test_clips_keep_their_layout() -> None:
    clips, targets = batch(4)
    clips = clips.flatten(0, 1).contiguous(memory_format=torch.channels_last_3d).unflatten(0, (4, 2))
    method, found = made(CLIP, tiny), []
    for net in (method.backbone, method.target_backbone):
        net.conv1.register_forward_pre_hook(
            lambda net, args: found.append(args[0].stride(1) == 1 and args[0].stride(4) == 3)
        )
    method(clips, targets)
    assert found == [True] * 3
