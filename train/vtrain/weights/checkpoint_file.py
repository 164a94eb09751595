"""Tensors by name from any file with weights. Nothing in a file is ever executed.

torch.load(weights_only=True) refuses a file that holds anything but tensors and plain values. Files of PyTorch 0.4
often hold an optimiser or the arguments of a command line too. The second reader, `read_pickle`, replaces each object
of an unknown class by an empty one. It refuses a pickle that asks for a function to be called: that is how a pickle
executes code.
"""

import pickle
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Never

import torch
from torch import Tensor

from vprep.errors import UsageError
from vtrain.weights import safetensors

PLAIN = (str, int, float, bool, type(None))


@dataclass(frozen=True, slots=True)
class Contents:
    """The tensors of a file, with dots between the words of nested names; and its plain values, nested as they were."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any]


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint of torch, of any age, or of a .safetensors file."""
    return read(path).tensors


def read(path: Path) -> Contents:
    if not path.is_file():
        raise UsageError(f"{path} is not a file")
    with path.open("rb") as file:
        head = file.read(9)
    if head[8:] == b"{":  # a header of JSON behind its length
        tensors, facts = safetensors.read(path)
        return Contents(tensors, dict(facts))
    found = load(path)
    tensors = {}
    try:
        collect(found, "", tensors)
    except (RecursionError, ValueError) as error:
        raise UsageError(f"{path}: its tensors have no clear names ({error})") from None
    if not tensors:
        raise UsageError(f"{path} holds no tensors")
    return Contents(tensors, plain(found) if isinstance(found, dict) else {})


def load(path: Path) -> Any:  # noqa: ANN401  whatever was saved
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of deprecated storages, which an old file cannot help
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # it says no to much that is harmless; the other reader knows what to say
        return read_pickle(path)


def collect(found: Any, before: str, tensors: dict[str, Tensor]) -> None:  # noqa: ANN401
    if isinstance(found, Tensor):
        name = before.removesuffix(".")
        if name in tensors:
            raise ValueError(f"'{name}' is there twice")
        tensors[name] = found.detach()
        return
    items = found.items() if isinstance(found, dict) else enumerate(found) if isinstance(found, list | tuple) else ()
    for key, value in items:
        collect(value, f"{before}{key}.", tensors)


def plain(found: dict[Any, Any]) -> dict[str, Any]:
    """What JSON could hold too."""
    return {str(key): kept(value) for key, value in found.items() if is_plain(value) or isinstance(value, dict)}


def is_plain(value: Any) -> bool:  # noqa: ANN401
    if isinstance(value, list | tuple):
        return all(isinstance(one, dict) or is_plain(one) for one in value)
    return isinstance(value, PLAIN)


def kept(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, dict):
        return plain(value)
    return type(value)(kept(one) for one in value) if isinstance(value, list | tuple) else value


MAGIC = 0x1950A86A20F9469CFC6C  # opens a file that torch.save wrote between 0.2 and 1.5
STORAGES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
}  # fmt: skip
# Functions that only put data together: what they make is not looked at, so they need not be called.
HARMLESS = {
    "numpy.core.multiarray.scalar", "numpy.core.multiarray._reconstruct", "numpy.dtype", "numpy.ndarray",
    "numpy._core.multiarray.scalar", "numpy._core.multiarray._reconstruct", "_codecs.encode",
    "copyreg._reconstructor", "collections.defaultdict", "collections.Counter", "builtins.set", "builtins.object",
    "datetime.datetime", "datetime.timedelta", "pathlib.Path", "pathlib.PosixPath", "torch.device",
}  # fmt: skip
PYTHON2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}  # as pickles up to protocol 2 name them


class CallRefusedError(pickle.UnpicklingError):
    """The pickle wants a function to be called."""


class Uncallable(type):
    """A pickle makes an object through `__new__`; only one that wants to call something comes here."""

    def __call__(cls, *args: object, **words: object) -> Never:
        raise CallRefusedError(cls.__name__)


class Nothing:
    """Takes the place of an object of an unknown class; whatever is put into it is gone."""

    def __new__(cls, *args: object, **words: object) -> "Nothing":
        return object.__new__(cls)

    def __setstate__(self, state: object) -> None: ...
    def __setitem__(self, key: object, value: object) -> None: ...
    def append(self, item: object) -> None: ...
    def extend(self, items: object) -> None: ...
    def add(self, item: object) -> None: ...


class Reader(pickle.Unpickler):
    """Knows tensors and plain values. `storage` gives the flat tensor that a persistent id stands for."""

    def __init__(self, file: IO[bytes], storage: Callable[[Any], Tensor] | None = None) -> None:
        super().__init__(file, encoding="latin1")  # the one that every file of Python 2 can be read in
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
        return type(full, (Nothing,), {}) if full in HARMLESS else Uncallable(full, (Nothing,), {})

    def persistent_load(self, pid: Any) -> Tensor:  # noqa: ANN401
        if self._storage is None:
            raise pickle.UnpicklingError("a storage where none can be")
        return self._storage(pid)

    def tensor(self, flat: Tensor, offset: int, shape: Any, stride: Any, *_: object) -> Tensor:  # noqa: ANN401
        """torch checks that no element lies outside the storage."""
        return torch.as_strided(flat, shape, stride, offset)

    def parameter(self, data: Tensor, *_: object) -> Tensor:
        return data


def read_pickle(path: Path) -> Any:  # noqa: ANN401  whatever was saved
    """What torch.save wrote to `path`, with unknown objects emptied."""
    try:
        with path.open("rb") as file:
            return read_zip(file) if zipfile.is_zipfile(file) else read_legacy(file, path.stat().st_size)
    except CallRefusedError as error:
        raise UsageError(
            f"{path} wants {error} to be called when it is read; nothing was called, and the file is not used: "
            "take weights from a file that holds only tensors and plain values"
        ) from None
    except Exception as error:  # a damaged pickle can fail in any way
        raise UsageError(f"{path} cannot be read as a checkpoint of torch ({error or type(error).__name__})") from None


def read_zip(file: IO[bytes]) -> Any:  # noqa: ANN401
    """Since PyTorch 1.6: a zip of data.pkl and one member for each storage."""
    with zipfile.ZipFile(file) as archive:
        (pickled,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
        folder = pickled.removesuffix("data.pkl")
        order = f"{folder}byteorder"
        if order in archive.namelist() and archive.read(order) != b"little":
            raise ValueError("it was written on a big-endian machine")
        flats: dict[str, Tensor] = {}

        def storage(pid: Any) -> Tensor:  # noqa: ANN401
            _, dtype, key, _, count = pid
            if key not in flats:
                flats[key] = flat(bytearray(archive.read(f"{folder}data/{key}")), dtype, count)
            return flats[key]

        with archive.open(pickled) as data:
            return Reader(data, storage).load()


def read_legacy(file: IO[bytes], size: int) -> Any:  # noqa: ANN401
    """Before PyTorch 1.6: pickles one after another, then the bytes of the storages."""
    file.seek(0)
    if file.read(4) == b"PK\x03\x04":
        raise ValueError("it begins as a zip and does not end as one: the file is cut")
    file.seek(0)
    if Reader(file).load() != MAGIC:
        raise ValueError("it does not begin as one")
    Reader(file).load()  # version of the format
    if not Reader(file).load().get("little_endian", True):
        raise ValueError("it was written on a big-endian machine")
    flats: dict[str, Tensor] = {}

    def storage(pid: Any) -> Tensor:  # noqa: ANN401
        _, dtype, key, _, count, view = pid
        if not 0 <= count * dtype.itemsize <= size:
            raise ValueError(f"a storage of {count} elements is larger than the file")
        whole = flats.setdefault(key, torch.zeros(count, dtype=dtype))
        return whole if view is None else whole[view[1] : view[1] + view[2]]

    found = Reader(file, storage).load()
    for key in Reader(file).load():
        count = int.from_bytes(file.read(8), "little")
        mine = flats[key]
        if count != len(mine):
            raise ValueError(f"a storage has {count} elements where {len(mine)} were announced")
        mine.copy_(flat(bytearray(file.read(count * mine.itemsize)), mine.dtype, count))
    return found


def flat(data: bytearray, dtype: torch.dtype, count: int) -> Tensor:
    if len(data) != count * dtype.itemsize:
        raise ValueError(f"a storage has {len(data)} bytes where {count * dtype.itemsize} belong")
    return torch.frombuffer(data, dtype=dtype) if count else torch.empty(0, dtype=dtype)
