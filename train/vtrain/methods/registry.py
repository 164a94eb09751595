"""Methods by name: built-in methods, those of installed packages, and those that the user names as `module:name`.

`named` takes a word that the user has written, and may import it. All other functions take names that may come from a
file. They import only methods that the user has named before, or that an installed package offers by an entry point.
"""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass

from vprep import plugins
from vprep.errors import UsageError
from vtrain.conversion import NAME, alternatives
from vtrain.lazy import Lazy
from vtrain.methods import METHODS
from vtrain.methods.method import MethodConfig, MethodEntry

KIND = "method"
# Commands, and the first word of recipes.
RESERVED = ("finetune", "recipes", "doctor", "import", "export", "bench", "look", "follow")
_ADDED: dict[str, tuple[MethodEntry, str]] = {}  # by name; with the word for the method on the command line


def named(word: str) -> MethodEntry:
    """Return the method that the user names: by a built-in or installed name, or as `module:name`."""
    if ":" in word:
        return add(plugins.load(KIND, word), word)
    return entry(word)


def add(found: object, word: str = "") -> MethodEntry:
    """Register a method from outside in this process. A program calls this before it trains by the method.

    `word` names the method on a command line.
    """
    entry = _checked(found, word or repr(found))
    _ADDED[entry.name] = (entry, word or entry.name)
    return entry


def names() -> list[str]:
    """Return the names of all methods that are known; nothing is imported."""
    return list(dict.fromkeys([*METHODS, *_ADDED, *plugins.installed(KIND)]))


def entry(name: str) -> MethodEntry:
    """Return the method of this name."""
    if name in METHODS:
        return METHODS[name]
    if name not in _ADDED:
        if name not in plugins.installed(KIND):
            raise UsageError(f"no {KIND} '{name}'; {alternatives(name, names())}")
        found = _checked(plugins.load_installed(KIND, name), name)
        if found.name != name:
            raise UsageError(
                f"the entry point '{name}' holds the {KIND} '{found.name}'; give both the same name, or write "
                f"{plugins.installed(KIND)[name].value}"
            )
        add(found, name)
    return _ADDED[name][0]


def word_of(name: str) -> str:
    """Return the word that names a method on the command line."""
    return _ADDED[name][1] if name in _ADDED else name


def configs() -> Mapping[str, type[MethodConfig]]:
    """Return the config class of each known method; its module is imported when it is looked up."""
    return Lazy(names(), lambda name: entry(name).config)


def demand_known(name: object, file: object, command: str) -> None:
    """Refuse a file's method that is not known here. `command` is what follows `vtrain`, with MODULE:NAME in it."""
    if isinstance(name, str) and name not in names():
        raise UsageError(
            f"{file} is of {KIND} '{name}', which is not known here; {alternatives(name, names())}; if it is from "
            f"outside the package, name it on the command line: vtrain {command}"
        )


def _checked(found: object, word: str) -> MethodEntry:
    if not isinstance(found, MethodEntry):
        raise UsageError(
            f"{KIND} '{word}' is of type {type(found).__name__}; it must be a MethodEntry, as in "
            "METHOD = MethodEntry(...)"
        )
    for problem in _problems(found):
        raise UsageError(f"{KIND} '{word}': {problem}")
    return found


def _problems(entry: MethodEntry) -> Iterator[str]:
    """Yield the problems of an entry, of which the caller reports the first: later checks rely on earlier ones."""
    config = entry.config
    if not (isinstance(config, type) and is_dataclass(config) and config.__dataclass_params__.frozen):
        yield "its config must be a frozen dataclass; write @dataclass(frozen=True) above a class and name that"
    name = getattr(config, "NAME", None)
    if name is None:
        yield "its config has no NAME; add one, such as NAME: ClassVar[str] = 'rotation'"
    if not (isinstance(name, str) and name.isidentifier()):
        yield f"its config's NAME is {name!r}; it must be a word of letters, digits and _, such as 'rotation'"
    if name in METHODS:
        yield f"its config's NAME is '{name}', which is a built-in {KIND}; choose another name"
    if name in RESERVED:
        yield f"its config's NAME is '{name}', which has a meaning of its own in commands; choose another name"
    if NAME in {field.name for field in fields(config)}:  # type: ignore[arg-type]  # it is a dataclass
        yield f"its config has a setting '{NAME}', where recipes have the {KIND}'s name; rename the setting"
    if not callable(entry.module):
        yield f"its module is of type {type(entry.module).__name__}; it must be called as module(backbone, config)"
    yield from _problems_of_config(config)


def _problems_of_config(config: type[MethodConfig]) -> Iterator[str]:
    try:
        default = config()
    except TypeError as error:
        yield f"its config cannot be made without arguments ({error}); give every setting a default"
        return
    sampling = getattr(default, "sampling", None)
    if not (hasattr(sampling, "frames") and hasattr(sampling, "looks")):
        yield "its config has no `sampling` with `frames` and `looks`; add one, such as sampling: OneClip = OneClip()"
    if not callable(getattr(default, "plan", None)):
        yield "its config has no method plan(); add one that returns the sampling"
    yield from _problems_of_plan(default)


def _problems_of_plan(config: MethodConfig) -> Iterator[str]:
    try:
        plan = config.plan()
    except Exception as error:  # whatever the user's code does
        yield f"its config's plan() raised {type(error).__name__} ({error}){plugins.raised_at(error)}; correct it there"
        return
    missing = [f"`{name}`" for name in ("views", "length", "looks") if not hasattr(plan, name)]
    if missing or not callable(plan):
        lacks = f"has no {', no '.join(missing)}" if missing else "cannot be called with a video and a random generator"
        yield f"its config's plan() returns a {type(plan).__name__}, which {lacks}; return a Plan, such as the sampling"
