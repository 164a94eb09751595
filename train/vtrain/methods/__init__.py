"""The built-in methods. Each package holds one paper's method, from its sampling to its loss.

The package itself has what is chosen, the sampling, the settings and the `METHOD`, and never imports torch: a setting
is read and refused without it. `network.py` has what is computed, and is imported when the network is built.

A new built-in method is a package or a file here and its name in `NAMES`; without a file in `vtrain.recipes` its
recipes are derived from its config. Methods from outside come through `registry`.
"""

import ast
from collections.abc import Mapping
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, cast

from vtrain.lazy import Lazy, exports

if TYPE_CHECKING:
    from vtrain.methods.method import MethodEntry

__all__ = ["METHODS", "MethodEntry"]

NAMES = ("rspnet", "ascnet", "prp", "pace", "supervised")


def _entry(name: str) -> "MethodEntry":
    entry: MethodEntry = import_module(f"{__name__}.{name}").METHOD
    return entry


METHODS: Mapping[str, "MethodEntry"] = Lazy(NAMES, _entry)
__getattr__ = exports(__name__, {"MethodEntry": "method"})


def summary(name: str) -> str:
    """Return the summary of a built-in method from its file's text, so that `vtrain --help` imports no method."""
    spec = cast(ModuleSpec, find_spec(f"{__name__}.{name}"))
    tree = ast.parse(Path(str(spec.origin)).read_text("utf-8"))
    values = (node.value for node in tree.body if isinstance(node, ast.Assign | ast.AnnAssign))
    calls = (value for value in values if isinstance(value, ast.Call))
    keywords = (word for call in calls for word in call.keywords if ast.unparse(call.func) == "MethodEntry")
    return next(str(ast.literal_eval(word.value)) for word in keywords if word.arg == "summary")
