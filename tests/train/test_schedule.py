"""The learning rate of every step, compared with numbers computed by hand and with torch's schedulers."""

from dataclasses import replace
from math import cos, inf, nan, pi, sqrt
from random import Random
from typing import Any

import pytest
import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, MultiStepLR, ReduceLROnPlateau, StepLR

from vprep.errors import UsageError
from vtrain.optim.schedule import Kind, Scaling, Schedule, scaled

# Those of the authors' code and texts.
RSPNET = Schedule(kind="cosine", lr=0.4, floor=0.001, per="epoch")
ASCNET = Schedule(kind="cosine", lr=0.3, scaling="linear 128", warmup=10)
PACE = Schedule(kind="step", lr=0.001, milestones=(6, 12))
PRP = Schedule(kind="plateau", lr=0.01)


def optimiser(*lrs: float) -> SGD:
    return SGD([{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in lrs])


def torchs(scheduler: LRScheduler, optim: SGD, count: int) -> list[float]:
    """Return the first `count` learning rates of torch's scheduler."""
    found = []
    for _ in range(count):
        found.append(optim.param_groups[0]["lr"])
        optim.step()
        scheduler.step()
    return found


def test_a_constant_learning_rate_stays() -> None:
    assert {Schedule(kind="constant", lr=0.3).lr_at(step, 7, 70) for step in range(80)} == {0.3}


def test_a_cosine_is_at_half_after_half_of_the_steps_and_at_its_floor_at_the_end() -> None:
    schedule = Schedule(kind="cosine", lr=2.0, floor=0.01)
    # 0.02 + 1.98 * (1 + cos(x)) / 2 at 0, 45, 90, 135 and 180 degrees
    wanted = [2.0, 0.02 + 0.99 * (1 + sqrt(0.5)), 1.01, 0.02 + 0.99 * (1 - sqrt(0.5)), 0.02]
    found = [schedule.lr_at(step, 3, 80) for step in (0, 20, 40, 60, 80)]
    assert found == pytest.approx(wanted, rel=1e-12)


def test_a_cosine_to_0_never_falls_below_it() -> None:
    schedule = Schedule(kind="cosine", lr=2.0)
    assert schedule.lr_at(79, 8, 80) == pytest.approx(2 * 0.5 * (1 + cos(pi * 79 / 80)))
    assert [schedule.lr_at(step, 8, 80) for step in (80, 81, 1000)] == [0, 0, 0]


def test_a_cosine_by_epoch_is_that_of_rspnets_code() -> None:
    optim = optimiser(0.4)
    wanted = torchs(CosineAnnealingLR(optim, T_max=200, eta_min=0.4 / 1000), optim, 200)
    found = [RSPNET.lr_at(step, 5, 1000) for step in range(1000)]
    assert found == pytest.approx([lr for lr in wanted for _ in range(5)], rel=1e-9)
    assert len(set(found)) == 200
    # Its last epoch is one short of the floor: cos(179.1 degrees) = -0.99987663
    assert found[-1] == pytest.approx(0.4 * (0.001 + 0.999 * (1 - 0.9998766324816606) / 2))


def test_a_cosine_by_step_is_torchs_with_a_step_for_an_epoch() -> None:
    optim = optimiser(0.7)
    wanted = torchs(CosineAnnealingLR(optim, T_max=50, eta_min=0.007), optim, 50)
    schedule = Schedule(kind="cosine", lr=0.7, floor=0.01)
    assert [schedule.lr_at(step, 5, 50) for step in range(50)] == pytest.approx(wanted, rel=1e-9)


def test_a_cosine_by_epoch_stays_in_a_training_of_less_than_an_epoch() -> None:
    assert {RSPNET.lr_at(step, 100, 30) for step in range(30)} == {0.4}


def test_the_steps_of_pace_are_those_of_its_code() -> None:
    optim = optimiser(0.001)
    wanted = torchs(StepLR(optim, step_size=6, gamma=0.1), optim, 18)
    assert [PACE.lr_at(epoch * 4 + 3, 4, 72) for epoch in range(18)] == pytest.approx(wanted, rel=1e-12)
    assert [PACE.lr_at(step, 4, 72) for step in (23, 24, 47, 48, 71)] == pytest.approx([1e-3, 1e-4, 1e-4, 1e-5, 1e-5])


@pytest.mark.parametrize(
    ("milestones", "epochs"), [((20, 40), 50), ((50, 70, 90), 100), ((50, 70, 90), 30), ((100,), 160)]
)
def test_milestones_are_torchs(milestones: tuple[int, ...], epochs: int) -> None:
    optim = optimiser(0.01)
    wanted = torchs(MultiStepLR(optim, milestones=list(milestones)), optim, epochs)
    schedule = Schedule(kind="step", lr=0.01, milestones=milestones)
    found = [schedule.lr_at(step, 3, 3 * epochs) for step in range(3 * epochs)]
    assert found == pytest.approx([lr for lr in wanted for _ in range(3)], rel=1e-12)


def test_an_epoch_begins_with_the_step_that_reaches_it_also_when_epochs_are_fractions_of_steps() -> None:
    schedule = Schedule(kind="step", lr=1.0, milestones=(1, 3))
    # 10 videos in batches of 3: step 4 is the first in epoch 1, and step 10 that in epoch 3.
    found = [schedule.lr_at(step, 10 / 3, 20) for step in (3, 4, 9, 10)]
    assert found == pytest.approx([1, 0.1, 0.1, 0.01])
    # 9 videos in batches of 7: 9 steps are 7 epochs, though 9 / (9 / 7) is 6.999999999999999 in floating point.
    later = Schedule(kind="step", lr=1.0, milestones=(7,))
    assert [later.lr_at(step, 9 / 7, 20) for step in (8, 9)] == pytest.approx([1, 0.1])


def test_a_warm_up_rises_linearly_and_ends_at_the_learning_rate() -> None:
    schedule = ASCNET.at_batch(512)
    found = [schedule.lr_at(step, 4, 800) for step in range(41)]
    assert found == pytest.approx([1.2 * (step + 1) / 40 for step in range(40)] + [1.2])
    optim = optimiser(1.2)
    assert found[:40] == pytest.approx(torchs(LinearLR(optim, 1 / 40, total_iters=39), optim, 40))


def test_a_cosine_takes_the_steps_after_the_warm_up() -> None:
    schedule = ASCNET.at_batch(512)
    optim = optimiser(1.2)
    wanted = torchs(CosineAnnealingLR(optim, T_max=760), optim, 760)
    found = [schedule.lr_at(step, 4, 800) for step in range(40, 800)]
    assert found == pytest.approx(wanted, rel=1e-6, abs=1e-12)
    assert schedule.lr_at(40 + 380, 4, 800) == pytest.approx(0.6)
    by_epoch = replace(schedule, per="epoch")
    assert [by_epoch.lr_at(step, 4, 800) for step in (40, 43, 420, 423)] == pytest.approx([1.2, 1.2, 0.6, 0.6])


@pytest.mark.parametrize("kind", ["constant", "cosine", "step", "plateau"])
def test_every_kind_warms_up(kind: Kind) -> None:
    schedule = Schedule(kind=kind, lr=3.0, warmup=0.5)
    assert [schedule.lr_at(step, 6, 60) for step in range(4)] == pytest.approx([1.0, 2.0, 3.0, 3.0])


def test_a_training_may_end_before_its_warm_up() -> None:
    schedule = ASCNET.at_batch(128)
    assert [schedule.lr_at(step, 10, 5) for step in range(5)] == pytest.approx([0.003, 0.006, 0.009, 0.012, 0.015])


def test_a_milestone_within_the_warm_up_counts() -> None:
    schedule = Schedule(kind="step", lr=1.0, warmup=2, milestones=(1,))
    assert [schedule.lr_at(step, 2, 8) for step in range(5)] == pytest.approx([0.25, 0.5, 0.075, 0.1, 0.1])


def test_a_plateau_of_more_than_the_patience_lowers_the_learning_rate() -> None:
    schedule = Schedule(kind="plateau", lr=1.0, patience=2)
    # torch counts a loss as better when it is lower by 1e-4 of the best: after 4.0 that is 3.9995 and not 3.9999.
    losses = [5.0, 4.0, 4.0, 4.1, 3.9999, 9.0, 9.0, 3.9995, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0]
    wanted = [1.0] * 5 + [0.1] * 6 + [0.01] * 3 + [0.001]
    found = [schedule.lr_at(0, 1, 100, losses[:epoch]) for epoch in range(len(losses) + 1)]
    assert found == pytest.approx(wanted)


@pytest.mark.parametrize("seed", range(6))
def test_a_plateau_is_torchs_for_any_losses(seed: int) -> None:
    rng = Random(seed)
    losses = [rng.choice([nan, inf, 0.0, rng.random(), -rng.random(), 1 / (epoch + 1)]) for epoch in range(150)]
    schedule = Schedule(kind="plateau", lr=0.02, patience=rng.randrange(5), gamma=0.3, lowest=rng.choice([0, 1e-7, 1]))
    optim = optimiser(0.02)
    scheduler = ReduceLROnPlateau(optim, factor=0.3, patience=schedule.patience, min_lr=schedule.lowest)
    for epoch, loss in enumerate(losses):
        scheduler.step(loss)
        assert schedule.lr_at(epoch, 1, 150, losses[: epoch + 1]) == optim.param_groups[0]["lr"]


@pytest.mark.parametrize(("falling", "last"), [(0, 1e-7), (120, 1e-5)])
def test_both_learning_rates_of_prps_code_keep_their_ratio_in_all_its_300_epochs(falling: int, last: float) -> None:
    """Its last layer has 0.1 instead of 0.01. Both have the same floor, which 300 epochs are too few to reach."""
    optim = optimiser(0.01, 0.1)
    scheduler = ReduceLROnPlateau(optim, "min", min_lr=1e-7, patience=50, factor=0.1)
    losses: list[float] = []
    for epoch in range(300):
        losses.append(0.99 ** min(epoch, falling))
        scheduler.step(losses[-1])
        lr = PRP.lr_at(0, 1, 300, losses)
        assert [lr, 10 * lr] == pytest.approx([group["lr"] for group in optim.param_groups], rel=1e-12)
    assert lr == pytest.approx(last)


def test_without_losses_there_is_no_plateau() -> None:
    assert PRP.lr_at(500, 1, 1000) == 0.01


@pytest.mark.parametrize(
    ("base", "rule", "batch", "wanted"),
    [
        (0.1, "none", 256, 0.1),
        (0.1, "linear 64", 256, 0.4),  # RSPNet's ResNet-18 on 4 GPUs
        (0.05, "linear 64", 192, 0.15),  # R(2+1)D on 6
        (0.3, "linear 128", 512, 1.2),
        (0.3, "linear 128", 64, 0.15),
    ],
)
def test_the_learning_rate_is_scaled_with_the_batch(base: float, rule: Scaling, batch: int, wanted: float) -> None:
    assert scaled(base, rule, batch) == pytest.approx(wanted)
    schedule = Schedule(kind="constant", lr=base, scaling=rule).at_batch(batch)
    assert schedule.lr == schedule.lr_at(0, 1, 1) == pytest.approx(wanted)
    assert schedule.at_batch(9) == schedule


def test_a_scaled_schedule_needs_its_batch() -> None:
    with pytest.raises(ValueError) as caught:
        ASCNET.lr_at(0, 1, 1)
    assert str(caught.value) == "scaling is 'linear 128', and the batch is not known; call at_batch first"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": -1.0}, "lr is -1.0; it must be at least 0"),
        ({"lr": nan}, "lr is nan; it must be at least 0"),
        ({"lr": 1.0, "floor": 1.5}, "floor is 1.5; it must be from 0 to 1"),
        ({"lr": 1.0, "warmup": -2}, "warmup is -2; it must be at least 0"),
        ({"lr": 1.0, "gamma": 10}, "gamma is 10; it must be from 0 to 1"),
    ],
)
def test_a_value_outside_its_limits_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Schedule(**settings)
    assert str(caught.value) == message
