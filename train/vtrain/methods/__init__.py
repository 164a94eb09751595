"""The built-in methods. Each file holds one paper's method, from its sampling to its loss, and ends with its `METHOD`.

A new built-in method is a file here and its name in `NAMES`; without a file in `vtrain.recipes` its recipes are derived
from its config. Methods from outside come through `registry`.
"""

import ast
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from vtrain.methods.method import MethodEntry

__all__ = ["METHODS", "MethodEntry"]

NAMES = ("rspnet", "ascnet", "prp", "pace", "supervised")
Value = TypeVar("Value")


class Lazy(Mapping[str, Value]):
    """Values by name, each loaded when it is looked up, because a method's file imports torch."""

    def __init__(self, names: Iterable[str], load: Callable[[str], Value]) -> None:
        self._names, self._load = dict.fromkeys(names), load

    def __getitem__(self, name: str) -> Value:
        if name not in self._names:
            raise KeyError(name)
        return self._load(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _entry(name: str) -> "MethodEntry":
    entry: MethodEntry = import_module(f"{__name__}.{name}").METHOD
    return entry


METHODS: Mapping[str, "MethodEntry"] = Lazy(NAMES, _entry)


def __getattr__(name: str) -> Any:  # noqa: ANN401  the signature that Python calls
    """Import `MethodEntry` when it is asked for: `vtrain --help` need not wait for torch."""
    if name == "MethodEntry":
        from vtrain.methods.method import MethodEntry

        return MethodEntry
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def summary(name: str) -> str:
    """Return the summary of a built-in method from its file's text, so that `vtrain --help` does not wait for torch."""
    tree = ast.parse(Path(__file__).with_name(f"{name}.py").read_text("utf-8"))
    values = (node.value for node in tree.body if isinstance(node, ast.Assign | ast.AnnAssign))
    calls = (value for value in values if isinstance(value, ast.Call))
    keywords = (word for call in calls for word in call.keywords if ast.unparse(call.func) == "MethodEntry")
    return next(str(ast.literal_eval(word.value)) for word in keywords if word.arg == "summary")
