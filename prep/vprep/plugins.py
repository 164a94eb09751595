"""Layouts, methods and backbones from outside this package.

A user names an object as `module:name` on the command line, or an installed package offers it as an entry point.
Nothing else is imported: a name that was read from a file must never come here.
"""

import importlib
import re
import sys
import traceback
from collections.abc import Iterable
from difflib import get_close_matches
from functools import cache, reduce
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from vprep.errors import UsageError

_NAMED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


def named(word: str) -> bool:
    """Return whether `word` has the form `module:name`, as in `my_package.layouts:read`."""
    return _NAMED.fullmatch(word) is not None


def load(kind: str, word: str) -> Any:  # noqa: ANN401 - what a user's module holds
    """Import the module of `word`, which is `module:name`, and return the object of that name.

    Messages call the object a `kind`: layout, method or backbone. Modules in the current folder are found, too, as by
    `python -m`.
    """
    if not named(word):
        raise UsageError(f"'{word}' is no {kind} from a module; write module:name, as in my_package.my_{kind}s:name")
    module, _, attribute = word.partition(":")
    _search_current_folder()
    if_absent = "run the command in the folder that holds it, or add that folder to PYTHONPATH"
    return _attribute(f"{kind} '{word}'", _imported(f"{kind} '{word}'", module, if_absent), attribute)


def installed(kind: str) -> dict[str, EntryPoint]:
    """Return the entry points of the group `playspeed.<kind>s` by name; none of them is imported."""
    return dict(_offered(f"playspeed.{kind}s", tuple(sys.path)))


@cache
def _offered(group: str, path: tuple[str, ...]) -> dict[str, EntryPoint]:  # path: where they are looked for
    """Return the entry points of a group; they are read once, because there may be hundreds of packages."""
    return {point.name: point for point in entry_points(group=group)}


def unknown(kind: str, name: str, built_in: Iterable[str]) -> UsageError:
    """Return the error for a name that is neither built in nor offered by an installed package."""
    known = list(built_in)
    close = get_close_matches(name, [*known, *installed(kind)], 1)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return UsageError(f"no {kind} '{name}'; {hint}there are {choices(kind, known)}")


def choices(kind: str, built_in: Iterable[str]) -> str:
    """Return the names that a user may write, for an error. A built-in name wins over an installed one of that name."""
    known, offered = list(built_in), sorted(installed(kind))
    others = ", ".join(name for name in offered if name not in known)
    hidden = ", ".join(name for name in offered if name in known)
    from_packages = f", from installed packages {others}" if others else ""
    note = f"; a package offers {hidden} too, and the built-in {kind} of that name wins" if hidden else ""
    return f"{', '.join(known)}{from_packages}, or module:name for one of your own{note}"


def load_installed(kind: str, name: str) -> Any:  # noqa: ANN401 - what a user's module holds
    """Import the entry point `name` of the group `playspeed.<kind>s` and return its object."""
    points = list(entry_points(group=f"playspeed.{kind}s", name=name))
    if not points:
        raise UsageError(f"no installed package offers the {kind} '{name}'; install one, or write module:name")
    if len(points) > 1:
        packages = ", ".join(sorted(package_of(point) for point in points))
        values = " or ".join(sorted(point.value for point in points))
        raise UsageError(
            f"several packages offer the {kind} '{name}' ({packages}); uninstall all but one of them, or, where you "
            f"type the name, write {values} instead"
        )
    point = points[0]
    what = f"{kind} '{name}' of the package {package_of(point)}"
    return _attribute(what, _imported(what, point.module, "install the package again"), point.attr)


def _imported(what: str, name: str, if_absent: str) -> ModuleType:
    """Import the module `name`. `what` begins an error's sentence, `if_absent` is the advice for a missing module."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise UsageError(f"{what}: there is no module '{error.name}'; {if_absent}") from None
        raise _failed_import(what, name, error) from error
    except (Exception, SystemExit) as error:  # the user's module may raise any error
        raise _failed_import(what, name, error) from error


def _failed_import(what: str, name: str, error: BaseException) -> UsageError:
    return UsageError(f"{what}: importing {name} raised {raised(error)}; correct it there")


def raised(error: BaseException, but: Iterable[str] = ()) -> str:
    """Return `TypeError (its message) at FILE, line N` for an error of a user's code."""
    message = str(error.msg if isinstance(error, SyntaxError) else error)
    return f"{type(error).__name__} ({next(iter(message.splitlines()), 'no message')}){raised_at(error, but)}"


def raised_at(error: BaseException, but: Iterable[str] = ()) -> str:
    """Return ` at FILE, line N` for the innermost line of Python that raised `error`; empty when there is none.

    Lines of files whose paths begin with a word of `but` do not count: the user's code has called them.
    """
    if isinstance(error, SyntaxError) and error.filename:
        return f" at {error.filename}, line {error.lineno}"
    others = ("<frozen ", __file__, str(importlib.__file__), *but)
    lines = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(others)]
    return f" at {lines[-1].filename}, line {lines[-1].lineno}" if lines else ""


def _attribute(what: str, module: ModuleType, name: str) -> Any:  # noqa: ANN401 - what a user's module holds
    """Return the attribute `name` of `module`, as in `Class.method`; the module itself when `name` is empty."""
    try:
        return reduce(getattr, filter(None, name.split(".")), module)
    except AttributeError:
        where = f"{module.__name__} ({module.__file__})" if module.__file__ else module.__name__
        raise UsageError(f"{what}: there is no '{name}' in {where}; name something that is defined there") from None


def _search_current_folder() -> None:
    """Put the current folder first on sys.path and leave it there: the module may import others from it later."""
    here = str(Path.cwd())
    if not sys.flags.safe_path and here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)


def package_of(point: EntryPoint) -> str:
    """Return the name of the package that offers an entry point."""
    return point.dist.name if point.dist is not None else point.module
