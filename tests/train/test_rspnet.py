"""RSPNet: which clips its networks see, what its keys are, where the gradient goes, and what a checkpoint holds."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Literal

import pytest
import torch
from devices import needs_gpu, waiting_is_an_error
from host_waits import HostWaits
from torch import Tensor, nn

from vprep.errors import UsageError
from vtrain.backbones import Backbone, backbone
from vtrain.methods import rspnet
from vtrain.methods.rspnet import Config, Sampling
from vtrain.methods.rspnet.network import RSPNet, paced, shuffle_bn_order

SMALL = Config(sampling=Sampling(frames=4), queue=32, dim=16)
SPEEDS = replace(SMALL, sampling=Sampling(frames=4, speeds=(4, 2, 1)))
PAPER = replace(SMALL, positives="same", margin=0.15, margin_on="cosine")


def plain() -> Backbone:
    """One convolution without batch norm: a clip's features do not depend on the rest of the batch."""
    torch.manual_seed(1)
    return Backbone(8, conv1=nn.Sequential(nn.Conv3d(3, 8, 3, stride=2, padding=1), nn.ReLU()))


def tiny() -> Backbone:
    torch.manual_seed(1)
    return backbone("tiny", width=4)


def made(config: Config = SMALL, net: Callable[[], Backbone] = plain) -> RSPNet:
    torch.manual_seed(2)
    return RSPNet(net(), config)


def windows(batch: int, frames: int = 8, size: int = 8, seed: int = 0) -> Tensor:
    return torch.randn(batch, 2, 3, frames, size, size, generator=torch.Generator().manual_seed(seed))


def numbered(batch: int, frames: int = 8) -> Tensor:
    """Windows whose pixels are 100 x video + frame, and half more in the window of the keys."""
    video, window, frame = torch.arange(batch) * 100.0, torch.arange(2) * 0.5, torch.arange(float(frames))
    pixels = video[:, None, None] + window[:, None] + frame
    return pixels[:, :, None, :, None, None].expand(batch, 2, 3, frames, 2, 2).clone()


def seen(method: RSPNet, clips: Tensor) -> tuple[list[list[float]], list[list[float]], list[list[float]]]:
    """Return the frames of q, k- and k+ that the networks get, in the order of the batch."""
    inputs: dict[nn.Module, list[Tensor]] = {method.backbone: [], method.key_backbone: []}
    hooks = [
        net.register_forward_pre_hook(lambda net, args: inputs[net].append(args[0][:, 0, :, 0, 0])) for net in inputs
    ]
    method(clips, {})
    for hook in hooks:
        hook.remove()
    keys = torch.cat(inputs[method.key_backbone])
    far, near = keys.split(len(clips))
    return tuple(
        sorted(part.tolist(), key=lambda shown: shown[0]) for part in (torch.cat(inputs[method.backbone]), far, near)
    )  # type: ignore[return-value]


def run(method: RSPNet, steps: range, optimiser: torch.optim.Optimizer | None = None) -> list[float]:
    optimiser = optimiser or torch.optim.SGD(method.parameters(), 0.1, momentum=0.9)
    losses = []
    for step in steps:
        loss = method(windows(5, seed=step), {})["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        method.after_step(step / 10)
        losses.append(loss.item())
    return losses


SLOW, FAST = [0.0, 1, 2, 3], [0.0, 2, 4, 6]


def at(shown: list[float], video: int, window: float) -> list[float]:
    return [video * 100 + window + frame for frame in shown]


@pytest.mark.parametrize("batch", [1, 4, 5])
@pytest.mark.parametrize("groups", [1, 2, 3])
def test_every_other_query_is_at_1x_its_positive_too_and_its_negative_at_the_other_speed(
    batch: int, groups: int
) -> None:
    q, far, near = seen(made(replace(SMALL, bn_groups=groups)), numbered(batch))
    paces = [(SLOW, FAST), (FAST, SLOW)] * batch
    assert q == [at(paces[video][0], video, 0) for video in range(batch)]
    assert near == [at(paces[video][0], video, 0.5) for video in range(batch)]
    assert far == [at(paces[video][1], video, 0.5) for video in range(batch)]


def test_both_keys_begin_with_the_first_frame_of_their_window() -> None:
    _, far, near = seen(made(), numbered(6))
    assert [shown[0] for shown in far] == [shown[0] for shown in near] == [100.0 * video + 0.5 for video in range(6)]


def test_vid_shows_queries_and_their_positives_at_1x_alone() -> None:
    q, far, near = seen(made(replace(SMALL, appearance="vid")), numbered(4))
    assert q == [at(SLOW, video, 0) for video in range(4)]
    assert near == [at(SLOW, video, 0.5) for video in range(4)]
    assert far == [at(FAST, video, 0.5) for video in range(4)]


def test_a_speed_of_three_takes_every_third_frame() -> None:
    window = torch.arange(12.0)[None, None, :, None, None].expand(2, 1, 12, 1, 1)
    clips = paced(window, torch.tensor([False, True]), 3)
    assert clips[:, 0, :, 0, 0].tolist() == [[0, 1, 2, 3], [0, 3, 6, 9]]


def test_one_of_several_speeds_is_drawn_for_each_step_and_decides_how_long_the_clips_are() -> None:
    method, drawn = made(SPEEDS), []
    assert method.config.plan().length == 16  # the first of the speeds times 4 frames
    for _ in range(12):
        q, far, near = seen(method, numbered(2, 16))
        frames = len(q[0])
        drawn.append(16 // frames)
        slow, fast = [float(frame) for frame in range(frames)], [float(frame * drawn[-1]) for frame in range(frames)]
        assert q == [at(slow, 0, 0), at(fast, 1, 0)]
        assert near == [at(slow, 0, 0.5), at(fast, 1, 0.5)]
        assert far == [at(fast, 0, 0.5), at(slow, 1, 0.5)]
        method.after_step(0.0)
    assert set(drawn) == {4, 2, 1}


def test_sp_tells_one_speed_from_1x() -> None:
    with pytest.raises(UsageError, match=r"leave sampling\.speeds out, and set sampling\.speed"):
        replace(SPEEDS, motion="sp")


def test_clips_keep_their_layout() -> None:
    """As the loader returns them: with batch and windows in a single dimension they are channels_last_3d."""
    clips = windows(4).flatten(0, 1).contiguous(memory_format=torch.channels_last_3d).unflatten(0, (4, 2))
    found = []
    method = made(net=tiny)
    for net in (method.backbone, method.key_backbone):
        net.register_forward_pre_hook(
            lambda net, args: found.append(args[0].is_contiguous(memory_format=torch.channels_last_3d))
        )
    method(clips, {})
    assert found == [True] * 6


@pytest.mark.parametrize(("groups", "query_keeps", "copy_keeps"), [(1, 0.9, 0.9**2), (2, 0.9**2, 0.9**4)])
def test_each_group_updates_the_running_statistics(groups: int, query_keeps: float, copy_keeps: float) -> None:
    """So two groups of one device replace 0.19 of them in a step, and in the copy, which sees two speeds, 0.34."""
    method = made(replace(SMALL, bn_groups=groups), tiny)
    for net, keeps in ((method.backbone, query_keeps), (method.key_backbone, copy_keeps)):
        norm = net.conv1.bn
        norm.running_mean.fill_(1e6)
        method(windows(4), {})
        torch.testing.assert_close(
            norm.running_mean, torch.full_like(norm.running_mean, keeps * 1e6), rtol=1e-4, atol=0
        )


@pytest.mark.parametrize(("count", "groups"), [(8, 2), (16, 2), (32, 4), (64, 4)])
def test_a_group_of_keys_has_an_equal_share_of_each_group_of_queries_and_of_both_speeds(
    count: int, groups: int
) -> None:
    size = count // groups
    order = shuffle_bn_order(count, groups, torch.device("cpu")).tolist()
    assert sorted(order) == list(range(count))
    for keys in range(groups):
        group = order[keys * size : (keys + 1) * size]
        if size >= 2 * groups:
            assert {sum(member // size == queries for member in group) for queries in range(groups)} == {size // groups}
        assert sum(member % 2 for member in group) == size // 2


def test_queries_are_normalised_in_groups_and_keys_in_others() -> None:
    """In a batch of eight, 0 to 3 and 4 to 7 are groups of queries; 0, 3, 4, 7 and 1, 2, 5, 6 are groups of keys."""
    clips, method, fresh = windows(8, size=16), made(net=tiny), made(net=tiny)
    fast = torch.arange(8) % 2 == 1
    maps: dict[nn.Module, list[Tensor]] = {method.backbone: [], method.key_backbone: []}
    for net in maps:
        net.register_forward_hook(lambda net, args, output: maps[net].append(output))
    method(clips, {})
    q, far = paced(clips[:, 0], fast, 2), paced(clips[:, 1], ~fast, 2)
    for net, shown, groups in (
        (method.backbone, q, ([0, 1, 2, 3], [4, 5, 6, 7])),
        (method.key_backbone, far, ([0, 3, 4, 7], [1, 2, 5, 6])),
    ):
        for found, group in zip(maps[net], groups, strict=False):
            torch.testing.assert_close(found, fresh.backbone(shown[group]), rtol=0, atol=1e-4)
        assert (maps[net][0] - fresh.backbone(shown)[groups[0]]).abs().max() > 0.1  # the company does matter


def test_keys_come_back_in_the_order_of_the_batch() -> None:
    method, clips = made(replace(SMALL, bn_groups=3)), windows(7)
    appearance, motion = method._keys(clips[:, 1])
    wanted = method.key_heads(method.key_backbone(clips[:, 1]))
    torch.testing.assert_close(appearance, wanted[0])
    torch.testing.assert_close(motion, wanted[1])


@pytest.mark.parametrize(("appearance", "whose"), [("a-vid", "k-"), ("vid", "k+")])
def test_the_queue_takes_the_keys_of_the_released_code(appearance: Literal["a-vid", "vid"], whose: str) -> None:
    method, clips = made(replace(SMALL, appearance=appearance)), windows(5)
    fast = torch.arange(5) % 2 == 1
    keys = paced(clips[:, 1], ~fast if whose == "k-" else torch.zeros(5, dtype=torch.bool), 2)
    wanted = method.key_heads(method.key_backbone(keys))[0]
    before = method.queue["keys"].clone()
    method(clips, {})
    torch.testing.assert_close(method.queue["keys"][:5], wanted)
    assert torch.equal(method.queue["keys"][5:], before[5:])


def test_the_queue_takes_no_key_of_held_out_videos() -> None:
    method = made().eval()
    before = {name: tensor.clone() for name, tensor in method.state_dict().items()}
    method(windows(4), {})
    assert all(torch.equal(tensor, before[name]) for name, tensor in method.state_dict().items())


@pytest.mark.parametrize("config", [SMALL, PAPER], ids=["released", "paper"])
def test_the_loss_is_made_of_the_features_of_both_networks(config: Config) -> None:
    method, clips, fast = made(config), windows(6), torch.arange(6) % 2 == 1
    queue = method.queue["keys"].clone()
    a, m = method.heads(method.backbone(paced(clips[:, 0], fast, 2)))
    near_a, near_m = method.key_heads(method.key_backbone(paced(clips[:, 1], fast, 2)))
    far_a, far_m = method.key_heads(method.key_backbone(paced(clips[:, 1], ~fast, 2)))
    appearance = motion = 0.0
    for n in range(6):
        negatives = sum(torch.exp(a[n] @ key / 0.07) for key in queue)
        for key in [near_a[n], far_a[n]] if config is SMALL else [near_a[n]]:
            positive = torch.exp(a[n] @ key / 0.07)
            appearance -= torch.log(positive / (positive + negatives)).item() / 6
        ahead = (m[n] @ near_m[n] - m[n] @ far_m[n]).item()
        motion += max(0.0, 2.0 - ahead / 0.07 if config is SMALL else 0.15 - ahead) / 6
    numbers = method(clips, {})
    assert numbers["appearance"].item() == pytest.approx(appearance, rel=1e-4)
    assert numbers["motion"].item() == pytest.approx(motion, rel=1e-4)
    assert numbers["loss"].item() == pytest.approx(appearance + motion, rel=1e-4)
    assert all(number.shape == () for number in numbers.values())


def test_a_new_network_of_the_published_size_begins_near_the_known_losses() -> None:
    """With k+ and k- nearly equal, L_M is its margin; each cross-entropy is 10.5 less what the clips have in common."""
    method = made(Config(sampling=Sampling(frames=4)), tiny)
    numbers = method(windows(8, size=16), {})
    assert numbers["motion"].item() == pytest.approx(2.0, abs=0.5)
    assert 0 < numbers["appearance"].item() < 21.5


@pytest.mark.parametrize("head", ["linear", "mlp", "conv", "convbn"])
def test_the_gradient_reaches_the_online_network_and_nothing_else(
    head: Literal["linear", "mlp", "conv", "convbn"],
) -> None:
    method = made(replace(SMALL, head=head), tiny)
    method(windows(4, size=16), {})["loss"].backward()
    for name, parameter in method.named_parameters():
        learns = name.startswith(("backbone.", "heads."))
        assert parameter.requires_grad == learns, name
        assert (parameter.grad is not None) == learns, name


@pytest.mark.parametrize(
    ("weights", "still"),
    [({"appearance_weight": 0.0}, "heads.appearance"), ({"motion_weight": 0.0}, "heads.motion")],
    ids=["RSP only", "A-VID only"],
)
def test_a_task_of_weight_0_changes_no_gradient(weights: dict[str, float], still: str) -> None:
    method = made(replace(SMALL, **weights))
    method(windows(4), {})["loss"].backward()
    for name, parameter in method.heads.named_parameters(prefix="heads"):
        assert parameter.grad is not None
        assert (parameter.grad.abs().max() == 0) == name.startswith(still)
    assert all(
        parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in method.backbone.parameters()
    )


def test_sp_predicts_the_speed_of_the_query() -> None:
    method, clips = made(replace(SMALL, motion="sp")), windows(4)
    assert method.heads.motion[-1].out_features == 1
    logits = method.heads(method.backbone(paced(clips[:, 0], torch.arange(4) % 2 == 1, 2)))[1].flatten()
    fast = torch.sigmoid(logits)
    wanted = -torch.stack([(1 - fast[0]).log(), fast[1].log(), (1 - fast[2]).log(), fast[3].log()]).mean()
    numbers = method(clips, {})
    torch.testing.assert_close(numbers["motion"], wanted.detach())
    assert numbers["sp_accuracy"].item() == ((logits > 0) == (torch.arange(4) % 2 == 1)).float().mean().item()


def test_sp_and_vid_together_are_refused() -> None:
    with pytest.raises(UsageError) as refused:
        replace(SMALL, motion="sp", appearance="vid")
    assert str(refused.value) == ("motion is 'sp', but appearance=vid shows one speed only: change one of them")


def test_the_key_network_is_a_momentum_copy_with_its_own_statistics() -> None:
    method = made(replace(SMALL, momentum=0.9), tiny)
    old = {name: tensor.clone() for name, tensor in method.key_backbone.named_parameters()}
    run(method, range(1))
    for name, parameter in method.backbone.named_parameters():
        wanted = 0.9 * old[name] + 0.1 * parameter
        torch.testing.assert_close(method.key_backbone.get_parameter(name), wanted, rtol=0, atol=1e-6)
    # Two keys of two groups each, and two groups of queries.
    assert method.key_backbone.conv1.bn.num_batches_tracked == 4
    assert method.backbone.conv1.bn.num_batches_tracked == 2


@pytest.mark.parametrize(
    "config", [SMALL, replace(SMALL, motion="sp", head="convbn"), SPEEDS], ids=["rsp", "sp", "speeds"]
)
def test_a_resumed_run_continues_bit_for_bit(config: Config) -> None:
    method, other = made(config, tiny), RSPNet(tiny(), config)
    optimiser = torch.optim.SGD(method.parameters(), 0.1, momentum=0.9)
    run(method, range(3), optimiser)
    saved = {name: tensor.clone() for name, tensor in method.state_dict().items()}
    moments = deepcopy(optimiser.state_dict())
    other.load_state_dict(saved)
    resumed = torch.optim.SGD(other.parameters(), 0.1, momentum=0.9)
    resumed.load_state_dict(moments)
    assert run(other, range(3, 6), resumed) == run(method, range(3, 6), optimiser)
    for name, tensor in other.state_dict().items():
        assert torch.equal(tensor, method.state_dict()[name]), name


@pytest.mark.parametrize(
    "config", [SMALL, PAPER, replace(SMALL, motion="sp"), replace(SMALL, appearance="vid"), SPEEDS]
)
def test_a_step_makes_the_host_wait_for_nothing(config: Config) -> None:
    method, clips = made(config, tiny), windows(5, size=16)
    with HostWaits() as waits:
        method(clips, {})["loss"].backward()
        method.after_step(0.5)
    assert waits.found == []


def test_a_wait_would_be_found() -> None:
    with HostWaits() as waits:
        rows = torch.arange(4.0)
        rows[rows > 2].sum().item()
    assert waits.found == ["index", "_local_scalar_dense"]


@needs_gpu
def test_a_step_on_a_gpu_makes_the_host_wait_for_nothing(device: torch.device) -> None:
    method, clips = made(SMALL, tiny).to(device), windows(5, size=16).to(device)
    method(clips, {})
    with waiting_is_an_error():
        with torch.autocast("cuda", torch.bfloat16):
            loss = method(clips, {})["loss"]
        loss.backward()
        method.after_step(0.5)


def test_features_and_losses_are_float32_under_autocast() -> None:
    method, clips = made(), windows(4)
    full = method.eval()(clips, {})
    maps = []
    method.backbone.register_forward_hook(lambda net, args, output: maps.append(output.dtype))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        half = method(clips, {})
        a, m = method._keys(clips[:, 1])
    assert set(maps) == {torch.bfloat16}
    assert {a.dtype, m.dtype, *(number.dtype for number in half.values())} == {torch.float32}
    assert half["appearance"].item() == pytest.approx(full["appearance"].item(), rel=0.02)


def test_the_plan_is_two_windows() -> None:
    assert Config().plan() == Sampling()
    assert (rspnet.Config().plan().views, rspnet.Config().plan().length) == (2, 32)
