"""RSPNet's losses as the paper and the authors' code have them, term by term."""

from math import exp, log

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from vtrain.methods.rspnet.network import absolute_speed, contrast, relative_speed

TAU = 0.07


def units(count: int, dim: int, seed: int) -> Tensor:
    return normalize(torch.randn(count, dim, generator=torch.Generator().manual_seed(seed)), dim=1)


def dot(one: Tensor, other: Tensor) -> float:
    return sum(a * b for a, b in zip(one.tolist(), other.tolist(), strict=True))


def info_nce(queries: Tensor, keys: Tensor, queue: Tensor) -> float:
    total = 0.0
    for query, key in zip(queries, keys, strict=True):
        positive = exp(dot(query, key) / TAU)
        negatives = sum(exp(dot(query, other) / TAU) for other in queue)
        total += -log(positive / (positive + negatives))
    return total / len(queries)


def triplet(queries: Tensor, near: Tensor, far: Tensor, margin: float, gain: float) -> float:
    total = 0.0
    for query, same, other in zip(queries, near, far, strict=True):
        total += max(0.0, margin - gain * (dot(query, same) - dot(query, other)))
    return total / len(queries)


def test_a_vid_is_one_info_nce_or_the_sum_of_two() -> None:
    q, near, far, queue = units(5, 8, 1), units(5, 8, 2), units(5, 8, 3), units(30, 8, 4)
    one, _ = contrast(q, [near], queue, TAU)
    both, _ = contrast(q, [near, far], queue, TAU)
    assert one.item() == pytest.approx(info_nce(q, near, queue), rel=1e-5)
    assert both.item() == pytest.approx(info_nce(q, near, queue) + info_nce(q, far, queue), rel=1e-5)


def test_a_query_counts_as_found_if_no_key_of_the_queue_is_nearer_than_its_own() -> None:
    q, queue = units(7, 8, 1), units(30, 8, 4)
    near = q.clone()
    near[:3] = -q[:3]
    assert contrast(q, [near], queue, TAU)[1].item() == pytest.approx(4 / 7)


@pytest.mark.parametrize(("margin", "gain"), [(2.0, 1 / TAU), (0.15, 1.0)], ids=["released", "paper"])
def test_rsp_is_a_triplet_loss_on_cosines(margin: float, gain: float) -> None:
    q, near, far = units(50, 8, 1), units(50, 8, 2), units(50, 8, 3)
    loss, right = relative_speed(q, near, far, margin, gain)
    assert loss.item() == pytest.approx(triplet(q, near, far, margin, gain), rel=1e-5)
    nearer = sum(dot(a, b) > dot(a, c) for a, b, c in zip(q, near, far, strict=True))
    assert right.item() == pytest.approx(nearer / 50)


def test_sp_is_the_cross_entropy_of_a_sigmoid() -> None:
    logits, fast = [-1.5, 0.2, 3.0, -0.1], [False, True, True, True]
    fast_chance = [1 / (1 + exp(-logit)) for logit in logits]
    wanted = -sum(log(p if is_fast else 1 - p) for p, is_fast in zip(fast_chance, fast, strict=True)) / 4
    loss, right = absolute_speed(torch.tensor(logits), torch.tensor(fast))
    assert loss.item() == pytest.approx(wanted, rel=1e-5)
    assert right.item() == 0.75


def test_random_features_of_the_published_size_give_the_known_losses() -> None:
    """ln(16384) + 1 / (2 * 128 * tau^2) = 10.50 for each term; 2.0, the margin, for RSP."""
    q, near, far, queue = units(512, 128, 1), units(512, 128, 2), units(512, 128, 3), units(16384, 128, 4)
    one, found = contrast(q, [near], queue, TAU)
    assert one.item() == pytest.approx(10.50, abs=0.15)
    assert contrast(q, [near, far], queue, TAU)[0].item() == pytest.approx(21.0, abs=0.3)
    assert found.item() == 0
    # A positive that agrees: log(1 + e^(10.50 - 1 / tau)).
    assert contrast(q, [q], queue, TAU)[0].item() == pytest.approx(0.022, abs=0.005)
    nearly = normalize(q + 0.02 * near, dim=1)
    assert relative_speed(q, nearly, nearly, 2.0, 1 / TAU)[0].item() == 2.0
    assert relative_speed(q, near, far, 2.0, 1 / TAU)[0].item() == pytest.approx(2.0, abs=0.2)


def test_a_contrast_won_by_far_is_near_nothing_and_finite() -> None:
    queue = torch.tensor([[-1.0, 0.0], [-1.0, 0.0]])
    q = torch.tensor([[1.0, 0.0]], requires_grad=True)
    loss, _ = contrast(q, [q.detach()], queue, 0.01)
    loss.backward()
    assert loss.item() == 0
    assert torch.isfinite(q.grad).all()
