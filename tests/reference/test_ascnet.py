"""ASCNet's Algorithm 1 with each memory, step by step and video by video, against the method that does it in batch."""

from collections.abc import Iterator
from typing import Any, Literal

import pytest
import torch
from table_fetch import TableFetch
from torch import Tensor, nn

from vtrain.backbones import Backbone
from vtrain.data.augment.config import AugmentConfig
from vtrain.methods.ascnet import Config, Sampling
from vtrain.methods.ascnet.network import ASCNet

VIDEOS = 8
HELD = 12  # entries, two batches and a half
FEW = 6  # fewer than there are videos
Kind = Literal["bank", "clip", "feature"]


def made(memory: Kind, held: int) -> ASCNet:
    torch.manual_seed(2)
    net = Backbone(6, conv1=nn.Sequential(nn.Conv3d(3, 6, 3, stride=2, padding=1), nn.ReLU()))
    sampling = Sampling(frames=4, looks=(AugmentConfig(size=8),))
    method = ASCNet(net, Config(sampling=sampling, memory=memory, pool=held, queue=held, dim=5, hidden=7))
    clips = torch.randint(-100, 100, (VIDEOS, 3, 4, 8, 8), generator=torch.Generator().manual_seed(1)) / 64
    method.fetch = TableFetch(clips) if method.fetched else None
    return method


def batches() -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """Five of every video's two clips; a video comes again after seven others, and once twice in a batch."""
    generator = torch.Generator().manual_seed(0)
    for step in range(6):
        # Whole numbers of which bfloat16 holds each.
        clips = torch.randint(-100, 100, (5, 2, 3, 4, 8, 8), generator=generator) / 64
        row = (torch.arange(5) + 5 * step) % VIDEOS
        if step == 3:
            row[4] = row[0]
        first = torch.randint(2, (5,), generator=generator)
        speed = torch.stack([first, 1 - first], 1) * 4.0 + 4
        yield clips, {"row": row, "speed": speed}


def unit(vector: Tensor) -> Tensor:
    return vector / sum(number * number for number in vector) ** 0.5


def feature(backbone: nn.Module, heads: nn.Module, task: str, clip: Tensor) -> Tensor:
    head = heads.get_submodule(task)
    pooled = torch.stack([channel.mean() for channel in backbone(clip[None])[0]])
    return unit(head.weight @ pooled + head.bias)


def predicted(method: ASCNet, task: str, clips: Tensor) -> Tensor:
    """Predictors see the batch together: they have a batch norm."""
    return torch.stack(
        [
            unit(prediction)
            for prediction in method.predictors[task](
                torch.stack([feature(method.backbone, method.heads, task, clip) for clip in clips])
            )
        ]
    )


def squared(one: Tensor, other: Tensor) -> float:
    return sum((a - b) ** 2 for a, b in zip(one.tolist(), other.tolist(), strict=True))


def slow_step(
    method: ASCNet, known: list[dict[str, Any]], held: int, clips: Tensor, targets: dict[str, Tensor]
) -> tuple[float, float, int]:
    """The two losses, and for how many clips there was a neighbour."""
    kind = method.config.memory
    target = (method.target_backbone, method.target_heads)
    second = [feature(*target, "acp", pair[1]) for pair in clips]
    acp = [
        squared(predicted_a, a) for predicted_a, a in zip(predicted(method, "acp", clips[:, 0]), second, strict=True)
    ]
    for n, (_, clip) in enumerate(clips):
        motion = feature(*target, "scp", clip)
        seen = {"row": targets["row"][n], "speed": targets["speed"][n, 1], "a": second[n], "m": motion, "clip": clip}
        if kind == "bank" and held >= VIDEOS:
            known[:] = [other for other in known if other["row"] != seen["row"]]
        known.append(seen)
    del known[:-held]
    scp = []
    for n, predicted_m in enumerate(predicted(method, "scp", clips[:, 0])):
        best: dict[str, Any] = {}
        for other in known:
            if other["row"] == targets["row"][n]:
                continue
            if kind != "bank" and other["speed"] != targets["speed"][n, 0]:
                continue
            if not best or other["a"] @ second[n] > best["a"] @ second[n]:
                best = other
        if best:
            clip = method.fetch.table[best["row"]] if isinstance(method.fetch, TableFetch) else best["clip"]
            scp.append(squared(predicted_m, best["m"] if kind == "feature" else feature(*target, "scp", clip)))
    return sum(acp) / len(acp), sum(scp) / max(1, len(scp)), len(scp)


@pytest.mark.parametrize(("memory", "held"), [("bank", HELD), ("bank", FEW), ("clip", HELD), ("feature", HELD)])
def test_the_losses_of_some_steps_are_those_of_algorithm_1(memory: Kind, held: int) -> None:
    method = made(memory, held)
    optimiser = torch.optim.SGD(method.parameters(), 0.5)
    known: list[dict[str, Any]] = []
    found = 0
    for step, (clips, targets) in enumerate(batches()):
        with torch.no_grad():
            acp, scp, count = slow_step(method, known, held, clips, targets)
        numbers = method(clips, targets)
        assert numbers["acp"].item() == pytest.approx(acp, rel=1e-4)
        assert numbers["scp"].item() == pytest.approx(scp, rel=1e-4)
        assert numbers["neighbours"].item() == pytest.approx(count / 5)
        assert numbers["loss"].item() == pytest.approx(0.5 * acp + 0.5 * scp, rel=1e-4)
        optimiser.zero_grad()
        numbers["loss"].backward()
        optimiser.step()
        method.after_step(step / 6)
        found += count
    assert found >= 26
