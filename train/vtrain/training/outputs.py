"""What a method's code does: its outputs, its errors when the method is from outside, and those of a compiler."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import OutOfMemoryError, Tensor

from vprep import plugins
from vprep.errors import UsageError, WorkError
from vtrain.methods import METHODS

CALLERS = tuple(f"{folder}/" for folder in (Path(torch.__file__).parent, Path(__file__).parents[1]))  # not the user's


def with_loss(outputs: object, method: str) -> dict[str, Tensor]:
    """Return a method's outputs; refuse those of a method from outside that the loop cannot learn from."""
    if not isinstance(outputs, dict):
        raise _refused(method, f'returns a {type(outputs).__name__}; it must return a dict with "loss"')
    if "loss" not in outputs:
        others = ", ".join(f'"{name}"' for name in outputs) or "nothing"
        raise _refused(method, f'returns no "loss" but {others}; return the loss under this name')
    for name, value in outputs.items():
        if not isinstance(value, Tensor):
            raise _refused(method, f'returns a {type(value).__name__} as "{name}"; it must be a tensor')
        if value.ndim:
            raise _refused(method, f'returns "{name}" with shape {tuple(value.shape)}; return its mean')
    if not outputs["loss"].requires_grad:
        raise _refused(method, 'returns a "loss" that does not depend on any weight; compute it with gradients')
    return outputs


def _refused(method: str, what: str) -> UsageError:
    return UsageError(f"forward of method '{method}' {what}")


@contextmanager
def errors_named(part: str, method: str) -> Iterator[None]:
    """Turn an error in the code of a method from outside into one sentence. `part` is the function that runs."""
    try:
        yield
    except (UsageError, WorkError, OutOfMemoryError):
        raise
    except Exception as error:  # whatever the user's code does
        if method in METHODS:
            raise
        raise WorkError(
            f"{part} of method '{method}' raised {plugins.raised(error, CALLERS)}; correct it there"
        ) from error


@contextmanager
def compiler_errors_named(compiled: bool) -> Iterator[None]:
    """Turn an error of a compiled step into one sentence; a step that is not `compiled` raises what it raises."""
    try:
        yield
    except (UsageError, WorkError, OutOfMemoryError):
        raise
    except Exception as error:  # whatever a compiler and its kernels raise
        if not compiled:
            raise
        reason = str(error).strip().splitlines()
        raise WorkError(
            f"the compiled step failed ({reason[0] if reason else type(error).__name__}); leave out compile=yes: the "
            "losses are the same without"
        ) from error
