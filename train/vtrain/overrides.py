"""Change frozen dataclasses by `key=value`, and convert them to JSON and back; every value must be of its type.

A key is a path, as in `method.sampling.speeds`, or the last words of a path, when no other path ends with them. In a
tuple of groups a number chooses one group (`looks.0.blur`); without a number, all groups are changed.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from fractions import Fraction
from typing import Any, TypeVar, get_type_hints

from vprep.errors import UsageError
from vtrain.conversion import MOST_SHOWN, NAME, as_text, choice_in, fit, shown

Config = TypeVar("Config")
Path = tuple[str, ...]
MOST_LISTED = 20  # settings in a message


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


def flat(value: object, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield the settings in a config that is JSON, as in recipe.schedule.lr, with their values as text."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from flat(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        for index, item in enumerate(value):
            yield from flat(item, f"{name}.{index}")
    else:
        yield name, str(value)


def from_json(kind: type[Config], found: Any, where: str = "") -> Config:  # noqa: ANN401
    """Return a `kind` from the content of a JSON file; a UsageError names the value that does not fit."""
    config: Config = fit(kind, found, where)
    return config


def change(config: Config, words: Iterable[str]) -> Config:
    """Return the config changed by each `key=value`, all at once, because settings may depend on each other."""
    found = as_json(config)
    for word in words:
        key, equals, text = word.partition("=")
        if not key or not equals:
            raise UsageError(f"'{shown(word)}' is no setting; settings are written key=value")
        _put(found, path_of(config, key), text)
    return from_json(type(config), found)


def listed(config: Any) -> list[tuple[str, str]]:  # noqa: ANN401
    """Return each setting's path and value, as `change` understands them."""
    return [(".".join(path), as_text(_at(config, path))) for path in paths(config)]


def paths(config: Any, before: Path = ()) -> Iterator[Path]:  # noqa: ANN401
    """Yield the paths of all settings."""
    for field in fields(config):
        value, path = getattr(config, field.name), (*before, field.name)
        if is_dataclass(value):
            yield from paths(value, path)
        elif isinstance(value, tuple) and value and is_dataclass(value[0]):
            for number, group in enumerate(value):
                yield from paths(group, (*path, str(number)))
        elif isinstance(value, dict):
            yield from ((*path, key) for key in value)
        else:
            yield path


def path_of(config: Any, key: str) -> Path:  # noqa: ANN401
    """Return the path that `key` stands for; it has no number where it stands for all groups of a tuple."""
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
            raise UsageError(f"'{key}' may be {' or '.join('.'.join(path) for path in ends)}; write one of them")
    keys = [".".join(path) for path in plain]
    close = get_close_matches(key[:MOST_SHOWN], keys + [path[-1] for path in plain], 1, 0.5)
    hint = f"did you mean '{close[0]}'?" if close else f"there are {_listed(plain)}"
    raise UsageError(f"no setting '{shown(key)}'; {hint}")


def _listed(known: list[Path]) -> str:
    """Return the names of the settings; of many, those of the groups alone, so that the sentence stays short."""
    if len(known) <= MOST_LISTED:
        return ", ".join(map(".".join, known))
    return ", ".join(dict.fromkeys(path[0] if len(path) == 1 else f"{path[0]}.*" for path in known))


def _in_dict(config: Any, path: Path) -> bool:  # noqa: ANN401
    """Return whether the path leads into a dict, which takes any name."""
    return len(path) > 1 and isinstance(_at(config, path[:-1]), dict) and path[-1].isidentifier()


def _at(config: Any, path: Path) -> Any:  # noqa: ANN401
    for word in path:
        config = _inside(config).get(word)
    return config


def _inside(config: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return the values that the next word of a path may choose, by that word."""
    if is_dataclass(config):
        return {field.name: getattr(config, field.name) for field in fields(config)}
    if isinstance(config, tuple):
        return {str(number): group for number, group in enumerate(config)}
    return config if isinstance(config, dict) else {}


def _put(found: Any, path: Path, text: str) -> None:  # noqa: ANN401
    """Write `text` at `path` into the result of `as_json`."""
    word, rest = path[0], path[1:]
    if isinstance(found, list) and not word.isdigit():
        for group in found:
            _put(group, path, text)
    elif rest:
        _put(found[int(word) if isinstance(found, list) else word], rest, text)
    else:
        found[int(word) if isinstance(found, list) else word] = text
