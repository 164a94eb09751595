"""The networks that are trained: they turn clips into feature maps. Heads belong to the methods.

Users name a backbone by its name here, by `module:name` when it comes from outside, or by the name under which an
installed package offers it (entry points of the group `playspeed.backbones`).
"""

import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from vprep import plugins
from vprep.errors import UsageError
from vtrain.conversion import shown
from vtrain.lazy import Lazy, exports

if TYPE_CHECKING:
    from vtrain.backbones.stages import Backbone as Backbone

FILES = {
    "c3d": "c3d",
    "r3d": "r3d",
    "r2plus1d": "r2plus1d",
    "resnet3d18": "resnet3d",
    "resnet3d34": "resnet3d",
    "r3d18": "r3d",
    "r2plus1d18": "r2plus1d",
    "s3dg": "s3dg",
    "s3dg_pace": "s3dg",
    "s3d": "s3dg",
    "tsm18": "tsm",
    "tiny": "r3d",
}  # the function of each built-in backbone, and its file here, which is imported when the backbone is built


def _built_in(name: str) -> "Callable[..., Backbone]":
    build: Callable[..., Backbone] = getattr(import_module(f"{__name__}.{FILES[name]}"), name)
    return build


BACKBONES: "Mapping[str, Callable[..., Backbone]]" = Lazy(FILES, _built_in)
__getattr__ = exports(__name__, {"Backbone": "stages"})
MOST_BLOCKS = 1000  # of a network
_allowed: set[str] = set()


def backbone(name: str, **settings: Any) -> "Backbone":  # noqa: ANN401 - each backbone has settings of its own
    """Return a new network with random weights."""
    from vtrain.backbones.adapter import adapted

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
    from vtrain.backbones.adapter import CALLERS

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
    from torch import nn

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
    for word, value in settings.items() if name in BACKBONES else ():
        _check_numbers(word, value)
    for word, parameter in parameters.items():
        by_name = parameter.kind in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        if by_name and parameter.default is inspect.Parameter.empty and word not in settings:
            raise UsageError(
                f"backbone '{name}' needs a value for `{word}`; write backbone_settings.{word}=VALUE, or give `{word}` "
                "a default"
            )


def _check_numbers(word: str, value: object) -> None:
    """Refuse a width below 1, and blocks whose number is below 1 or that are absurdly many."""
    numbers = [number for number in (value if isinstance(value, tuple) else (value,)) if isinstance(number, int)]
    most = MOST_BLOCKS if isinstance(value, tuple) else 1 << 63
    if numbers and not (min(numbers) >= 1 and sum(numbers) <= most):
        end = f" each, and at most {most} together" if isinstance(value, tuple) else ""
        raise UsageError(f"backbone_settings.{word} is '{shown(value)}'; it must be at least 1{end}")
