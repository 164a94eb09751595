"""Read pickles of torch.save without executing anything in them.

Files of PyTorch 0.4 often hold an optimiser or the arguments of a command line, which torch.load refuses. `Reader`
replaces each object of an unknown class by an empty one, and refuses a pickle that asks for a function to be called,
which is how a pickle executes code.
"""

import pickle
from collections import OrderedDict
from collections.abc import Callable
from typing import IO, Any, Never

import torch
from torch import Tensor

STORAGES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
}  # fmt: skip
# Functions that only assemble data. Their results are not used here, so each is replaced by an empty object.
HARMLESS = {
    "numpy.core.multiarray.scalar", "numpy.core.multiarray._reconstruct", "numpy.dtype", "numpy.ndarray",
    "numpy._core.multiarray.scalar", "numpy._core.multiarray._reconstruct", "_codecs.encode",
    "copyreg._reconstructor", "collections.defaultdict", "collections.Counter", "builtins.set", "builtins.object",
    "datetime.datetime", "datetime.timedelta", "pathlib.Path", "pathlib.PosixPath", "torch.device",
}  # fmt: skip
PYTHON2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}  # as pickles up to protocol 2 name them


class CallRefusedError(pickle.UnpicklingError):
    """The pickle asks for a function to be called."""


class Uncallable(type):
    """Refuses a call. A pickle creates objects by `__new__`, so only a pickle that calls a function comes here."""

    def __call__(cls, *args: object, **words: object) -> Never:
        raise CallRefusedError(cls.__name__)


class Empty:
    """Stands for an object of an unknown class and drops all that is put into it."""

    def __new__(cls, *args: object, **words: object) -> "Empty":
        return object.__new__(cls)

    def __setstate__(self, state: object) -> None: ...
    def __setitem__(self, key: object, value: object) -> None: ...
    def append(self, item: object) -> None: ...
    def extend(self, items: object) -> None: ...
    def add(self, item: object) -> None: ...


class Reader(pickle.Unpickler):
    """Reads tensors and plain values.

    `storage` returns the flat tensor that a persistent id stands for, or None, and then its tensors are None too.
    """

    def __init__(self, file: IO[bytes], storage: Callable[[Any], Tensor | None] | None = None) -> None:
        super().__init__(file, encoding="latin1")  # the only encoding that reads every file of Python 2
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401  that is pickle's own signature
        full = f"{PYTHON2.get(module, module)}.{name}"
        if module in ("torch", "torch.cuda") and name in STORAGES:
            return STORAGES[name]
        known: dict[str, Any] = {
            "collections.OrderedDict": OrderedDict,
            "torch.Size": torch.Size,
            "torch._utils._rebuild_tensor": self.tensor,
            "torch._utils._rebuild_tensor_v2": self.tensor,
            "torch._utils._rebuild_parameter": self.parameter,
            "torch._utils._rebuild_parameter_with_state": self.parameter,
        }
        if full in known:
            return known[full]
        return type(full, (Empty,), {}) if full in HARMLESS else Uncallable(full, (Empty,), {})

    def persistent_load(self, pid: Any) -> Tensor | None:  # noqa: ANN401
        if self._storage is None:
            raise pickle.UnpicklingError("it has a storage where none can be")
        return self._storage(pid)

    def tensor(self, flat: Tensor | None, offset: int, shape: Any, stride: Any, *_: object) -> Tensor | None:  # noqa: ANN401
        """Return a view of a storage; torch checks that no element lies outside of it."""
        return None if flat is None else torch.as_strided(flat, shape, stride, offset)

    def parameter(self, data: Tensor | None, *_: object) -> Tensor | None:
        return data


def flat(data: bytearray, dtype: torch.dtype, count: int) -> Tensor:
    """Return the elements of a storage as a tensor of one dimension."""
    if len(data) != count * dtype.itemsize:
        raise ValueError(f"a storage has {len(data)} bytes instead of {count * dtype.itemsize}")
    return torch.frombuffer(data, dtype=dtype) if count else torch.empty(0, dtype=dtype)
