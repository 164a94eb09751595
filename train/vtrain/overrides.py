"""Frozen dataclasses as text and back: `key=value` changes one, JSON keeps one; every value must be of its type.

A key is a path, as in `method.sampling.speeds`, or the last words of a path, when no other path ends with them. In a
tuple of groups a number chooses one group (`looks.0.blur`), and without it all are changed.

Types are converted by hand. Here text is exact (1e5 is a whole number, 1/3 a fraction), a key is corrected by the
nearest one, and an error is one sentence with the whole path. pydantic would need a validator for each of these types
and a translation of its errors: more lines than the 75 that it would replace, and a dependency.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import MISSING, dataclass, fields, is_dataclass
from difflib import get_close_matches
from fractions import Fraction
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from vprep.errors import UsageError

Config = TypeVar("Config")
Path = tuple[str, ...]
UNIONS = (Union, UnionType)
NAME = "name"  # the key in JSON that tells which of several kinds a group is
MOST_ZEROS = 400  # more than any float has; those of 1e-999999999 would be written out for hours
MOST_NAMES = 20  # a sentence does not list more


@dataclass(frozen=True, slots=True)
class Choice:
    """Marks a field whose group may be of several kinds: Annotated[Protocol, Choice(kinds)].

    Each kind is a dataclass with its name as NAME. `kinds` returns those that are known, by name.
    """

    kinds: Callable[[], Mapping[str, type]]


def as_json(config: Any) -> Any:  # noqa: ANN401  what JSON holds
    """Return the config as lists, dicts and plain values."""
    if is_dataclass(config):
        hints = get_type_hints(type(config), include_extras=True)
        found = {}
        for field in fields(config):
            value = getattr(config, field.name)
            head = {NAME: value.NAME} if choice_in(hints[field.name]) else {}
            found[field.name] = head | as_json(value) if head else as_json(value)
        return found
    if isinstance(config, list | tuple):
        return [as_json(value) for value in config]
    if isinstance(config, dict):
        return {key: as_json(value) for key, value in config.items()}
    if isinstance(config, Fraction):
        return int(config) if config.denominator == 1 else str(config)
    return config


def from_json(kind: type[Config], found: Any, where: str = "") -> Config:  # noqa: ANN401
    """Return a `kind` made of what JSON holds; UsageError names what does not fit."""
    config: Config = fit(kind, found, where)
    return config


def change(config: Config, words: Iterable[str]) -> Config:
    """Return the config with each `key=value` carried out, all at once: settings may need each other."""
    found = as_json(config)
    for word in words:
        key, equals, text = word.partition("=")
        if not key or not equals:
            raise UsageError(f"'{word}' is no setting; settings are written key=value")
        _put(found, path_of(config, key), text)
    return from_json(type(config), found)


def listed(config: Any) -> list[tuple[str, str]]:  # noqa: ANN401
    """Return each setting's path and value, as `change` understands them."""
    return [(".".join(path), as_text(_at(config, path))) for path in paths(config)]


def as_text(value: Any) -> str:  # noqa: ANN401
    """Return a value as `key=value` writes it."""
    if isinstance(value, tuple):
        return ",".join(as_text(one) for one in value)
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def choice_in(kind: Any) -> Choice | None:  # noqa: ANN401
    """Return the Choice that a field's annotation carries, if it does."""
    return next((mark for mark in getattr(kind, "__metadata__", ()) if isinstance(mark, Choice)), None)


def alternatives(word: str, choices: Iterable[str]) -> str:
    """Return what there is instead of a word that is not among `choices`, the nearest first."""
    there = list(choices)
    close = get_close_matches(word, there, 1, 0.5)
    listed = f"there are {', '.join(there)}" if len(there) <= MOST_NAMES else "vtrain recipes lists them all"
    return (f"did you mean '{close[0]}'? " if close else "") + listed


def paths(config: Any, before: Path = ()) -> Iterator[Path]:  # noqa: ANN401
    """Yield the paths of all settings."""
    for field in fields(config):
        value, path = getattr(config, field.name), (*before, field.name)
        if is_dataclass(value):
            yield from paths(value, path)
        elif isinstance(value, tuple) and value and is_dataclass(value[0]):
            for number, one in enumerate(value):
                yield from paths(one, (*path, str(number)))
        elif isinstance(value, dict):
            yield from ((*path, key) for key in value)
        else:
            yield path


def path_of(config: Any, key: str) -> Path:  # noqa: ANN401
    """Return the path that `key` means, without a number where all groups of a tuple are meant."""
    wanted = tuple(key.split("."))
    known = list(paths(config))
    plain = list(dict.fromkeys(tuple(word for word in path if not word.isdigit()) for path in known))
    if wanted in known or wanted in plain or _in_dict(config, wanted):
        return wanted
    for choice in (plain, known):
        ends = [path for path in choice if path[-len(wanted) :] == wanted]
        if len(ends) == 1:
            return ends[0]
        if ends:
            raise UsageError(f"'{key}' may be {' or '.join('.'.join(path) for path in ends)}; write which")
    spoken = [".".join(path) for path in plain]
    close = get_close_matches(key, spoken + [path[-1] for path in plain], 1, 0.5)
    hint = f"did you mean '{close[0]}'?" if close else f"there are {', '.join(spoken)}"
    raise UsageError(f"no setting '{key}'; {hint}")


def _in_dict(config: Any, path: Path) -> bool:  # noqa: ANN401
    """Return whether the path leads into a dict, which takes any name."""
    return len(path) > 1 and isinstance(_at(config, path[:-1]), dict) and path[-1].isidentifier()


def _at(config: Any, path: Path) -> Any:  # noqa: ANN401
    for word in path:
        config = _inside(config).get(word)
    return config


def _inside(config: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return what the next word of a path may choose, by that word."""
    if is_dataclass(config):
        return {field.name: getattr(config, field.name) for field in fields(config)}
    if isinstance(config, tuple):
        return {str(number): one for number, one in enumerate(config)}
    return config if isinstance(config, dict) else {}


def _put(found: Any, path: Path, text: str) -> None:  # noqa: ANN401
    """Write `text` where `path` leads in what `as_json` has returned."""
    word, rest = path[0], path[1:]
    if isinstance(found, list) and not word.isdigit():
        for group in found:
            _put(group, path, text)
    elif rest:
        _put(found[int(word) if isinstance(found, list) else word], rest, text)
    else:
        found[int(word) if isinstance(found, list) else word] = text


def fit(kind: Any, value: Any, where: str) -> Any:  # noqa: ANN401
    """Return `value`, from JSON or as text, as a `kind`."""
    if choice := choice_in(kind):
        return _chosen(choice.kinds(), value, where)
    origin = get_origin(kind)
    if is_dataclass(kind) and isinstance(kind, type):
        return _group(kind, value, where)
    if origin is Literal:
        return _word(get_args(kind), value, where)
    if origin in UNIONS:
        return _either(get_args(kind), value, where)
    if origin is tuple:
        return _tuple(get_args(kind), value, where)
    if origin is dict:
        _demand(isinstance(value, dict), where, value, "a group")
        return {str(key): fit(get_args(kind)[1], one, f"{where}.{key}") for key, one in value.items()}
    return _plain(kind, value, where)


def _group(kind: type, value: Any, where: str) -> Any:  # noqa: ANN401
    _demand(isinstance(value, dict), where or kind.__name__.lower(), value, "a group of settings, each on its own")
    hints, known = get_type_hints(kind, include_extras=True), {field.name: field for field in fields(kind)}
    dot = f"{where}." if where else ""
    for key in value:
        if key not in known:
            close = get_close_matches(key, known, 1, 0.5)
            raise UsageError(f"no setting '{dot}{key}'; " + (f"did you mean '{close[0]}'?" if close else "take it out"))
    for key, field in known.items():
        if key not in value and field.default is MISSING and field.default_factory is MISSING:
            raise UsageError(f"no value for '{dot}{key}'; write one")
    return kind(**{key: fit(hints[key], one, dot + key) for key, one in value.items()})


def _word(options: tuple[Any, ...], value: Any, where: str) -> Any:  # noqa: ANN401
    if value in options:
        return value
    word = value if isinstance(value, str) else ""
    raise UsageError(f"{where} is '{as_text(value)}'; {alternatives(word, map(str, options))}")


def _chosen(kinds: Mapping[str, type], value: Any, where: str) -> Any:  # noqa: ANN401
    _demand(isinstance(value, dict), where, value, f"a group of settings, of which '{NAME}' tells the kind")
    name = _word(tuple(kinds), value.get(NAME), f"{where}.{NAME}")
    return fit(kinds[name], {key: item for key, item in value.items() if key != NAME}, where)


def _either(kinds: tuple[Any, ...], value: Any, where: str) -> Any:  # noqa: ANN401
    if NoneType in kinds and value in (None, "none", ""):
        return None
    refused = []
    for kind in kinds:
        if kind is NoneType:
            continue
        try:
            return fit(kind, value, where)
        except UsageError as error:
            refused.append(error)
    raise refused[0]


def _tuple(kinds: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:  # noqa: ANN401
    if isinstance(value, str):
        text = value.strip("()[] ").removesuffix(",")  # (1,) as Python has it
        value = [word.strip() for word in text.split(",")] if text else []
    _demand(isinstance(value, list | tuple), where, value, "several values, as in 1,2")
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        kinds = kinds[:1] * len(value)
    _demand(len(kinds) == len(value), where, as_text(tuple(value)), f"{len(kinds)} values with commas")
    return tuple(fit(kind, one, where) for kind, one in zip(kinds, value, strict=True))


def _plain(kind: type, value: Any, where: str) -> Any:  # noqa: ANN401
    if kind in (bool, str):
        read = value == "true" if kind is bool and value in ("true", "false") else value
        if isinstance(read, kind):
            return read
    elif isinstance(value, str | int | float) and not isinstance(value, bool):
        with suppress(ValueError, OverflowError, ZeroDivisionError):
            number = _number(str(value))
            if kind is not int or number.denominator == 1:
                return kind(number)
    if kind not in WORDS:
        wanted = "int, float, str, bool, Fraction, Literal, a tuple of these or a frozen dataclass"
        raise UsageError(
            f"{where} is of type {getattr(kind, '__name__', kind)}; the type of a setting must be {wanted}"
        )
    raise UsageError(f"{where} is '{as_text(value)}'; it is {WORDS[kind]}: write one")


def _number(text: str) -> Fraction:
    """Return exactly the number that was written: 1e5 is a whole number, and 1/3 is not rounded."""
    _, _, power = text.lower().partition("e")
    if power and abs(int(power)) > MOST_ZEROS:
        raise ValueError(text)
    return Fraction(text)


WORDS = {
    int: "a whole number",
    float: "a number",
    str: "a word",
    bool: "true or false",
    Fraction: "a number or a fraction as 1/3",
}


def _demand(holds: bool, where: str, value: Any, wanted: str) -> None:  # noqa: ANN401
    if not holds:
        raise UsageError(f"{where} is {value!r}; it is {wanted}")
