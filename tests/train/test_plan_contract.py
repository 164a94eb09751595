"""A plan that breaks its promises is refused in one sentence, before its frames reach a network."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any, ClassVar

import numpy as np
import pytest
from torch import nn

from vprep.errors import UsageError
from vtrain.data import EvenClips, OneClip, Plan, open_shards
from vtrain.data.augment.config import AugmentConfig
from vtrain.data.sampler import check
from vtrain.data.sampling import Sample, Video, View
from vtrain.methods import registry
from vtrain.methods.method import MethodEntry

VIDEO = Video(key="swim", frames=75, fps=25.0, height=24, width=32)
TWO_LOOKS = (AugmentConfig(), AugmentConfig())


def clip(first: int = 0, count: int = 16) -> View:
    return View(frames=range(first, first + count))


def refused(sample: Any, plan: Plan) -> str:  # noqa: ANN401  whatever a plan may return
    with pytest.raises(UsageError) as error:
        check(sample, plan, VIDEO)
    return str(error.value)


@pytest.mark.parametrize(
    ("views", "message"),
    [
        ([clip(), clip(0, 14)], "the plan gave view 1 of video 'swim' 14 frames where its `length` is 16; "),
        ([clip(), clip(0, 18)], "the plan gave view 1 of video 'swim' 18 frames where its `length` is 16; "),
        ([clip()], "the plan returned 1 views of video 'swim' where its `views` is 2; "),
        ([clip()] * 3, "the plan returned 3 views of video 'swim' where its `views` is 2; "),
        ([clip(), clip(60)], "the plan asks for frame 75 of video 'swim', which has frames 0 to 74"),
        ([clip(-1), clip()], "the plan asks for frame -1 of video 'swim', which has frames 0 to 74"),
        ([clip(), View(frames=[0.5] * 16)], "the plan gave view 1 of video 'swim' the frame 0.5; "),
        ([clip(), View(frames=[*range(15), 15.0])], "the plan gave view 1 of video 'swim' the frame 15.0; "),  # type: ignore[list-item]
        ([clip(), View(frames=["1"] * 16)], "the plan gave view 1 of video 'swim' the frame '1'; "),  # type: ignore[list-item]
        ([clip(), View(frames=None)], "the plan gave view 1 of video 'swim' a NoneType as frames; "),  # type: ignore[arg-type]
        ([clip(), list(range(16))], "the plan gave a list as view 1 of video 'swim'; it must be a View"),
    ],
)
def test_views_that_are_not_as_the_plan_promises_are_refused(views: list[Any], message: str) -> None:
    assert refused(Sample(views=views), EvenClips(clips=2)).startswith(message)


def test_a_plan_that_returns_no_sample_is_refused() -> None:
    for found in (None, [clip()]):
        kind = type(found).__name__
        assert refused(found, OneClip()) == f"the plan returned a {kind} for video 'swim'; it must return a Sample"


def test_a_group_without_an_augmentation_is_refused() -> None:
    views = [clip(), replace(clip(), group=2)]
    assert refused(Sample(views=views), EvenClips(clips=2, looks=TWO_LOOKS)).startswith(
        "the plan gave view 1 of video 'swim' the group 2, but its `looks` are for groups 0 to 1; "
    )
    check(Sample(views=views), EvenClips(clips=2), VIDEO)  # one augmentation is for all groups


def test_frames_may_be_any_sequence_of_whole_numbers() -> None:
    for frames in (range(16), tuple(range(16)), np.arange(16), [74] * 16):
        check(Sample(views=[View(frames=frames)]), OneClip(), VIDEO)  # type: ignore[arg-type]
    check(OneClip(frames=8)(VIDEO, Random(0)), OneClip(frames=8), VIDEO)


class Short(OneClip):
    """Shows one frame less than it promises."""

    def __call__(self, video: Video, rng: Random) -> Sample:
        return Sample(views=[View(frames=range(self.length - 1))])


@pytest.mark.parametrize("workers", [0, 1])
def test_the_loader_refuses_clips_of_another_length(shards: Path, workers: int) -> None:
    with pytest.raises(UsageError, match=r"^the plan gave view 0 of video '.*' 3 frames where its `length` is 4; "):
        next(iter(open_shards(shards, Short(frames=4), batch=2, workers=workers)))


class Unlimited:
    views, looks = 1, TWO_LOOKS

    def __call__(self, video: Video, rng: Random) -> Sample:
        return Sample(views=[clip()])


class Uncallable:
    views, length, looks = 1, 16, TWO_LOOKS


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    NAME: ClassVar[str] = "mine"
    sampling: OneClip = field(default_factory=OneClip)

    def plan(self) -> Any:  # noqa: ANN401
        return None


class OfUnlimited(Config):
    def plan(self) -> Any:  # noqa: ANN401
        return Unlimited()


class OfUncallable(Config):
    def plan(self) -> Any:  # noqa: ANN401
        return Uncallable()


class Raising(Config):
    def plan(self) -> Any:  # noqa: ANN401
        raise ValueError("no plan today")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (Config, "plan() returns a NoneType, which has no `views`, no `length`, no `looks`; "),
        (OfUnlimited, "plan() returns a Unlimited, which has no `length`; "),
        (OfUncallable, "plan() returns a Uncallable, which cannot be called with a video and a random generator; "),
        (Raising, f"plan() raised ValueError (no plan today) at {__file__}, line "),
    ],
)
def test_a_method_whose_config_makes_no_plan_is_refused(config: type[Any], message: str) -> None:
    entry = MethodEntry(summary="Mine.", module=lambda net, config: nn.Identity(), config=config)
    with pytest.raises(UsageError) as error:
        registry.add(entry, "my_module:METHOD")
    assert str(error.value).startswith(f"method 'my_module:METHOD': its config's {message}")
