"""Convert JSON or text to the values of a dataclass's fields, each of the field's type.

Types are converted by hand. Here text is exact (1e5 is a whole number, 1/3 a fraction), the error for an unknown key
names the nearest key, and an error is one sentence with the full path. pydantic would need a validator for each of
these types and a translation of its errors: more lines than the 75 that it would replace, and a dependency.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import MISSING, dataclass, fields, is_dataclass
from difflib import get_close_matches
from fractions import Fraction
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from vprep.errors import UsageError

UNIONS = (Union, UnionType)
NAME = "name"  # the key in JSON that names the kind of a group
MOST_ZEROS = 400  # more than any float has; writing out those of 1e-999999999 would take hours
MOST_WHOLE = 1 << 63  # a whole number is below it
MOST_SHOWN = 80  # characters of a value in an error
MOST_NAMES = 20  # a sentence does not list more


class SettingError(UsageError):
    """A value that a group of settings refuses. The message begins with the setting's name, as the group has it."""

    def within(self, where: str) -> "SettingError":
        """Return the error with the complete name of the setting, as one types it."""
        return SettingError(f"{where}{self}")


@dataclass(frozen=True, slots=True)
class Choice:
    """Marks a field whose group may be of several kinds: Annotated[Protocol, Choice(kinds)].

    Each kind is a dataclass with its name as NAME. `kinds` returns the known kinds by name.
    """

    kinds: Callable[[], Mapping[str, type]]


def choice_in(kind: Any) -> Choice | None:  # noqa: ANN401
    """Return the Choice in a field's annotation; None when it has none."""
    return next((mark for mark in getattr(kind, "__metadata__", ()) if isinstance(mark, Choice)), None)


def as_text(value: Any) -> str:  # noqa: ANN401
    """Return a value as `key=value` writes it."""
    if isinstance(value, tuple):
        return ",".join(as_text(item) for item in value)
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def shown(value: Any, write: Callable[[Any], str] = as_text) -> str:  # noqa: ANN401
    """Return a value for an error: its text, or the beginning of a long one."""
    try:
        text = write(value)
    except ValueError:  # Python writes out no whole number of more than 4300 digits
        return "a number of thousands of digits"
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}... ({len(text)} characters)"


def alternatives(word: str, choices: Iterable[str], many: str = "") -> str:
    """Return the choices for the error about an unknown `word`, the nearest first.

    `many` replaces a list that is too long for a sentence.
    """
    there = list(choices)
    close = get_close_matches(word[:MOST_SHOWN], there, 1, 0.5)
    listed = many if many and len(there) > MOST_NAMES else f"there are {', '.join(there)}"
    return (f"did you mean '{close[0]}'? " if close else "") + listed


def fit(kind: Any, value: Any, where: str) -> Any:  # noqa: ANN401
    """Return `value`, which comes from JSON or from text, as a `kind`."""
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
        return {str(key): fit(get_args(kind)[1], item, f"{where}.{key}") for key, item in value.items()}
    return _plain(kind, value, where)


def _group(kind: type, value: Any, where: str) -> Any:  # noqa: ANN401
    _demand(isinstance(value, dict), where or kind.__name__.lower(), value, "a group of settings")
    hints, known = get_type_hints(kind, include_extras=True), {field.name: field for field in fields(kind)}
    dot = f"{where}." if where else ""
    for key in value:
        if key not in known:
            close = get_close_matches(key[:MOST_SHOWN], known, 1, 0.5)
            raise UsageError(
                f"no setting '{dot}{shown(key)}'; " + (f"did you mean '{close[0]}'?" if close else "remove it")
            )
    for key, field in known.items():
        if key not in value and field.default is MISSING and field.default_factory is MISSING:
            raise UsageError(f"no value for '{dot}{key}'; write one")
    fitted = {key: fit(hints[key], item, dot + key) for key, item in value.items()}
    try:
        return kind(**fitted)
    except SettingError as error:
        raise error.within(dot) from None


def _word(options: tuple[Any, ...], value: Any, where: str) -> Any:  # noqa: ANN401
    if value in options:
        return value
    word = value if isinstance(value, str) else ""
    raise UsageError(f"{where} is '{shown(value)}'; {alternatives(word, map(str, options))}")


def _chosen(kinds: Mapping[str, type], value: Any, where: str) -> Any:  # noqa: ANN401
    _demand(isinstance(value, dict), where, value, f"a group of settings with '{NAME}' for its kind")
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
        text = value.strip("()[] ").removesuffix(",")  # (1,) as Python writes it
        value = [word.strip() for word in text.split(",")] if text else []
    _demand(isinstance(value, list | tuple), where, value, "several values, such as 1,2")
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        kinds = kinds[:1] * len(value)
    _demand(len(kinds) == len(value), where, shown(tuple(value)), f"{len(kinds)} values with commas")
    return tuple(fit(kind, item, where) for kind, item in zip(kinds, value, strict=True))


def _plain(kind: type, value: Any, where: str) -> Any:  # noqa: ANN401
    if kind in (bool, str):
        read = value == "true" if kind is bool and value in ("true", "false") else value
        if isinstance(read, kind):
            return read
    elif isinstance(value, str | int | float) and not isinstance(value, bool):
        with suppress(ValueError, OverflowError, ZeroDivisionError):
            number = _number(str(value))
            if kind is not int or (number.denominator == 1 and abs(number) < MOST_WHOLE):
                return kind(number)
    if kind not in WORDS:
        wanted = "int, float, str, bool, Fraction, Literal, a tuple of these or a frozen dataclass"
        raise UsageError(
            f"{where} is of type {getattr(kind, '__name__', kind)}; the type of a setting must be {wanted}"
        )
    raise UsageError(f"{where} is '{shown(value)}'; it must be {WORDS[kind]}")


def _number(text: str) -> Fraction:
    """Return the exact number in `text`: 1e5 is a whole number, and 1/3 is not rounded."""
    _, _, power = text.lower().partition("e")
    if power and abs(int(power)) > MOST_ZEROS:
        raise ValueError(text)
    return Fraction(text)


WORDS = {
    int: "a whole number",
    float: "a number",
    str: "a word",
    bool: "true or false",
    Fraction: "a number or a fraction such as 1/3",
}


def _demand(holds: bool, where: str, value: Any, wanted: str) -> None:  # noqa: ANN401
    if not holds:
        raise UsageError(f"{where} is {shown(value, repr)}; it must be {wanted}")
