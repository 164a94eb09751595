"""The networks that are trained: they turn clips into feature maps. Heads belong to the methods.

Users name a backbone by its name here, by `module:name` when it comes from outside, or by the name under which an
installed package offers it (entry points of the group `playspeed.backbones`).
"""

import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from vprep import plugins
from vprep.errors import UsageError
from vtrain.backbones.adapter import CALLERS, adapted
from vtrain.backbones.backbone import Backbone as Backbone
from vtrain.backbones.c3d import c3d
from vtrain.backbones.r2plus1d import r2plus1d, r2plus1d18
from vtrain.backbones.r3d import r3d, r3d18, tiny
from vtrain.backbones.resnet3d import resnet3d18, resnet3d34
from vtrain.backbones.s3dg import s3d, s3dg, s3dg_pace
from vtrain.backbones.tsm import tsm18

BACKBONES: dict[str, Callable[..., Backbone]] = {
    "c3d": c3d,
    "r3d": r3d,
    "r2plus1d": r2plus1d,
    "resnet3d18": resnet3d18,
    "resnet3d34": resnet3d34,
    "r3d18": r3d18,
    "r2plus1d18": r2plus1d18,
    "s3dg": s3dg,
    "s3dg_pace": s3dg_pace,
    "s3d": s3d,
    "tsm18": tsm18,
    "tiny": tiny,
}
_allowed: set[str] = set()


def backbone(name: str, **settings: Any) -> Backbone:  # noqa: ANN401 - each backbone has settings of its own
    """Return a new network with random weights."""
    build = _builder(name)
    _check_settings(name, build, settings)
    return adapted(name, build(**settings) if name in BACKBONES else _built(name, build, settings))


def settings_of(name: str) -> dict[str, Any]:
    """Return the settings of a backbone of this package with their defaults; none for one from outside."""
    build = BACKBONES.get(name)
    return {} if build is None else {word: one.default for word, one in inspect.signature(build).parameters.items()}


def known(name: str) -> bool:
    """Return whether `name` names a backbone; a name of the form `module:name` may still need to be allowed."""
    return name in BACKBONES or plugins.named(name) or name in plugins.installed("backbone")


def allow(word: str) -> None:
    """Let `backbone` import the module of `word`, if that is `module:name`.

    Call it with words that a user typed, never with a name from a file: importing a module runs its code.
    """
    if plugins.named(word):
        _allowed.add(word)


def _builder(name: str) -> Callable[..., object]:
    """Return the function that builds the backbone `name`."""
    if name in BACKBONES:
        return BACKBONES[name]
    if plugins.named(name):
        if name not in _allowed:
            raise UsageError(
                f"backbone '{name}' is code from outside vtrain, which a name in a file does not import; "
                f"if you trust it, allow it: on a command line by --backbone {name}, in Python by "
                f"vtrain.backbones.allow('{name}')"
            )
        return _callable(name, plugins.load("backbone", name))
    if name in plugins.installed("backbone"):
        return _callable(name, plugins.load_installed("backbone", name))
    raise plugins.unknown("backbone", name, BACKBONES)


def _built(name: str, build: Callable[..., object], settings: dict[str, Any]) -> object:
    """Return what a function from outside builds; any error in it is one sentence with its file and line."""
    try:
        return build(**settings)
    except UsageError:
        raise
    except Exception as error:  # whatever the user's code does
        raise UsageError(
            f"backbone '{name}' cannot be made with backbone_settings {settings}: {plugins.raised(error, CALLERS)}; "
            "correct it there, or change the settings"
        ) from error


def _callable(name: str, build: object) -> Callable[..., object]:
    if isinstance(build, nn.Module):
        raise UsageError(f"backbone '{name}' is a module; name a function that returns one")
    if not callable(build):
        raise UsageError(f"backbone '{name}' is a {type(build).__name__}; it must be a function that builds a module")
    return build


def _check_settings(name: str, build: Callable[..., object], settings: dict[str, Any]) -> None:
    """Refuse settings that `build` does not take, and demand those that have no default."""
    try:
        parameters = inspect.signature(build).parameters
    except ValueError:  # some functions written in C have no signature
        return
    kinds = [parameter.kind for parameter in parameters.values()]
    for word in [] if inspect.Parameter.VAR_KEYWORD in kinds else settings:
        if word not in parameters:
            there = f"it has {', '.join(parameters)}" if parameters else "it has none"
            raise UsageError(f"backbone '{name}' has no setting '{word}'; {there}")
    for word, parameter in parameters.items():
        by_name = parameter.kind in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        if by_name and parameter.default is inspect.Parameter.empty and word not in settings:
            raise UsageError(
                f"backbone '{name}' needs a value for `{word}`; write backbone_settings.{word}=VALUE, or give `{word}` "
                "a default"
            )
