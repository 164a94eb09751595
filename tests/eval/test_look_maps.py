"""Every map is what its formula says, computed one number at a time, and a network stays as it was."""

from collections import deque
from dataclasses import replace
from itertools import product
from math import sqrt

import numpy as np
import numpy.typing as npt
import pytest
import slow_prp_pace as slow
import torch
from torch import Tensor, nn

from veval.look import maps, roi
from veval.look.clips import Clips, mapped
from veval.look.figure import Tile
from veval.look.reconstruction import reconstruct
from veval.look.shading import at_frames, box_of, enlarged, outlined_area, scaled
from vprep.errors import UsageError
from vtrain.backbones import backbone
from vtrain.methods import prp, rspnet
from vtrain.methods.prp.network import PRP
from vtrain.methods.rspnet.network import RSPNet, head

Array = npt.NDArray[np.float64]
CPU = torch.device("cpu")


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slow_similarity(own: Array, own_head: Array, other_head: Array, other: Array) -> Array:
    """Equation 4 of RSPNet."""
    channels, *positions = own.shape
    x_j = [other[c].sum() / other[c].size for c in range(channels)]
    projected = [sum(other_head[d][c] * x_j[c] for c in range(channels)) for d in range(len(other_head))]
    found = np.zeros(positions)
    for at in product(*map(range, positions)):
        for d, value in enumerate(projected):
            found[at] += value * sum(own_head[d][c] * own[(c, *at)] for c in range(channels))
    return found


def test_a_similarity_map_is_that_of_equation_4() -> None:
    own, other, own_head, other_head = noise(6, 2, 3, 4), noise(6, 1, 2, 2, seed=1), noise(5, 6), noise(5, 6, seed=3)
    found = maps.similarity(own, own_head, other_head, other)
    wanted = slow_similarity(*(one.numpy() for one in (own, own_head, other_head, other)))
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-12)
    first, second = own_head @ own.mean((1, 2, 3)), other_head @ other.mean((1, 2, 3))
    assert float(found.mean()) == pytest.approx(float(first @ second))
    assert maps.cosine(own, own_head, other_head, other) == pytest.approx(
        float(first @ second) / sqrt(float(first @ first) * float(second @ second))
    )


@pytest.mark.parametrize("kind", ["linear", "conv", "convbn"])
def test_the_maps_of_a_pair_explain_the_products_of_heads_that_end_in_a_linear_layer(kind: str) -> None:
    torch.manual_seed(0)
    heads = [head(6, 4, kind).double().eval().requires_grad_(False) for _ in range(2)]
    pair = [noise(6, 2, 3, 3, seed=seed) for seed in (1, 2)]
    both, cosine = roi.pair_maps(pair, [roi.Side.of(each) for each in heads])
    biases = [each[-1].bias for each in heads]
    outputs = [each(one[None])[0] - bias for each, one, bias in zip(heads, pair, biases, strict=True)]
    product_ = float(outputs[0] @ outputs[1])
    assert [float(one.mean()) for one in both] == pytest.approx([product_, product_])
    assert cosine == pytest.approx(float(nn.functional.cosine_similarity(*outputs, dim=0)))


def test_a_head_with_a_layer_after_the_mean_has_no_map() -> None:
    with pytest.raises(UsageError, match="head=mlp, and a similarity map exists only where one linear layer"):
        roi.Side.of(head(6, 4, "mlp"))


def test_attention_is_the_mean_of_squares_and_activation_the_sum_of_the_values() -> None:
    features = noise(5, 2, 3, 4)
    squares, values = np.zeros((2, 3, 4)), np.zeros((2, 3, 4))
    for c, t, y, x in product(range(5), range(2), range(3), range(4)):
        squares[t, y, x] += float(features[c, t, y, x]) ** 2 / 5
        values[t, y, x] += abs(float(features[c, t, y, x]))
    np.testing.assert_allclose(maps.attention(features).numpy(), squares, rtol=1e-12)
    np.testing.assert_allclose(maps.activation(features).numpy(), values, rtol=1e-12)


def test_maps_are_enlarged_bilinearly_in_space_and_linearly_in_time() -> None:
    small = noise(2, 3, 3).numpy().astype(np.float32)
    np.testing.assert_allclose(enlarged(small[0], 14), slow.resized(small[0].astype(np.float64), 14, 14), atol=1e-5)
    wanted = [slow.between(small.astype(np.float64), max((t + 0.5) * 2 / 5 - 0.5, 0)) for t in range(5)]
    np.testing.assert_allclose(at_frames(small, 5), wanted, atol=1e-6)


def slow_area(share: Array, threshold: float) -> tuple[int, int, int, int] | None:
    """The box of the largest area, by walking over neighbours."""
    left = {at for at in product(*map(range, share.shape)) if share[at] >= threshold}
    best: list[tuple[int, int]] = []
    while left:
        area, waiting = [], deque([min(left)])
        left.discard(waiting[0])
        while waiting:
            y, x = waiting.popleft()
            area.append((y, x))
            for near in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if near in left:
                    left.discard(near)
                    waiting.append(near)
        best = max(best, area, key=len)
    if not best:
        return None
    rows, columns = ([place[axis] for place in best] for axis in (0, 1))
    return min(columns), min(rows), max(columns) - min(columns) + 1, max(rows) - min(rows) + 1


@pytest.mark.parametrize("seed", range(20))
def test_the_box_is_around_the_largest_connected_area_above_the_threshold(seed: int) -> None:
    share = np.random.default_rng(seed).random((9, 9)).astype(np.float32)
    assert outlined_area(share, 0.6) == slow_area(share.astype(np.float64), float(np.float32(0.6)))
    assert outlined_area(share * 0.5, 0.6) is None


def test_the_box_of_a_tile_is_found_on_its_own_range_and_a_constant_map_has_none() -> None:
    clip = np.zeros((1, 8, 8, 3), np.uint8)
    high = np.zeros((1, 2, 2), np.float32)
    high[0, 0, 1] = 3
    assert box_of(Tile(clip=clip, map=high - 100, threshold=0.5), 8) == (4, 0, 4, 4)
    assert box_of(Tile(clip=clip, map=high), 8) is None
    assert box_of(Tile(clip=clip, map=0 * high, threshold=0.5), 8) is None
    assert scaled(high[0], (1.0, 1.0)).max() == 0


def state_of(module: nn.Module) -> tuple[dict[str, Tensor], list[bool], int]:
    hooks = sum(len(one._forward_hooks) + len(one._forward_pre_hooks) for one in module.modules())
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    return state, [one.training for one in module.modules()], hooks


def assert_unchanged(module: nn.Module, before: tuple[dict[str, Tensor], list[bool], int]) -> None:
    after = state_of(module)
    assert after[1:] == before[1:]
    assert all(torch.equal(tensor, after[0][name]) for name, tensor in before[0].items())


def clips_of(given: Tensor) -> Clips:
    frames = [list(range(given.shape[2]))] * len(given)
    return Clips(key="a", class_name="", frames=frames, given=given, seen=[])


def test_a_network_in_training_mode_is_left_as_it_was_and_gives_the_maps_of_eval_mode() -> None:
    torch.manual_seed(0)
    config = rspnet.Config(queue=4, dim=8, head="convbn")
    module = RSPNet(backbone("tiny", width=4), config).train()
    before = state_of(module)
    given = torch.rand(2, 3, 4, 16, 16)
    pair = [mapped(module.backbone, given, CPU)[0], mapped(module.key_backbone, given, CPU)[1]]
    sides = [roi.Side.of(heads.motion) for heads in (module.heads, module.key_heads)]
    found, _ = roi.pair_maps(pair, sides)
    assert_unchanged(module, before)
    module.eval()
    with torch.no_grad():
        assert torch.equal(pair[1], module.key_backbone(given[1:].contiguous(memory_format=torch.channels_last_3d))[0])
    assert torch.equal(found[0], roi.pair_maps(pair, sides)[0][0])


@pytest.mark.parametrize("mask", ["released", "paper", "none"])
@pytest.mark.parametrize("speed", [1, 2, 4])
def test_a_reconstruction_has_the_target_the_weights_and_the_error_of_the_loss(mask: str, speed: int) -> None:
    torch.manual_seed(0)
    sampling = prp.Sampling(frames=4, speeds=(1, 2, 4), mask=mask)  # type: ignore[arg-type]
    module = PRP(backbone("tiny", width=4), prp.Config(sampling=sampling)).train()
    for one in module.modules():
        one.eval() if isinstance(one, nn.BatchNorm3d) else None
    before = state_of(module)
    plan = replace(sampling, speeds=(speed,), short="loop")
    given = torch.rand(1, 3, plan.length, 16, 16)
    if speed == 1:
        given[:, :, 4:8] = given[:, :, 3:4]  # slots without a frame repeat the last, as the plan has it
    shown = list(range(plan.length))
    clips = replace(clips_of(given), frames=[shown])
    found = reconstruct(module, clips, speed, CPU)
    assert_unchanged(module, before)
    view = given[0].transpose(0, 1).numpy().astype(np.float64)
    window = view[: 4 if speed == 1 else 8]  # from 2x on, all frames to reconstruct are in the sample
    wanted, counts = slow.target(window, 1 if speed == 1 else 2, 2, 4)
    np.testing.assert_array_equal(found.target[..., ::-1], np.round(255 * wanted.transpose(0, 2, 3, 1)).clip(0, 255))
    assert found.position == [number * min(speed, 2) / 2 for number in range(8)]
    assert [place == int(place) for place in found.position] == counts
    with torch.no_grad():
        targets = {"speed": torch.tensor([[float(speed)]]), "rate": torch.tensor([0])}
        assert found.error == pytest.approx(float(module(given[:, None], targets)["reconstruction"]), rel=1e-5)
    assert (found.weight.min() >= 0.8 - 1e-6, found.weight.max() <= 2 + 1e-6) == (True, True)
    if mask == "none":
        assert np.all(found.weight == 1)


def test_the_weights_of_a_reconstruction_are_those_of_the_released_mask() -> None:
    torch.manual_seed(0)
    sampling = prp.Sampling(frames=4, speeds=(4,), mask="released", short="loop")
    module = PRP(backbone("tiny", width=4), prp.Config(sampling=sampling)).eval()
    window = torch.rand(16, 3, 16, 16)
    numbers = [*range(0, 16, 2), *(4 * segment + number for segment in range(4) for number in (0, 1, 2, 3))]
    clips = replace(clips_of(window[numbers].transpose(0, 1)[None]), frames=[numbers])
    wanted = slow.released_mask(window.numpy().astype(np.float64), 4, 2, 4).mean(1)
    np.testing.assert_allclose(reconstruct(module, clips, 4, CPU).weight, wanted, atol=1e-4)
