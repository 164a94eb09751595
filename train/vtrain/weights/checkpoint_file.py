"""Read tensors by name from any file with weights. Nothing in a file is executed.

From the top: `read` opens a file of either format. A .safetensors file is read by the package of that name, and a
checkpoint of torch by torch.load(weights_only=True). Files of PyTorch 0.4 often hold an optimiser or the arguments of
a command line too, which torch.load refuses. They are read by the second half of this file, `read_pickle`: it replaces
each object of an unknown class by an empty one, and refuses a pickle that asks for a function to be called, which is
how a pickle executes code.
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
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vprep.errors import UsageError
from vtrain.weights.location import demand_file

PLAIN = (str, int, float, bool, type(None))


@dataclass(frozen=True, slots=True)
class Contents:
    """The tensors of a file, nested names joined by dots, and its plain values, nested as in the file."""

    tensors: dict[str, Tensor]
    values: dict[str, Any]


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a .safetensors file, or of a checkpoint of torch of any age."""
    return read(path).tensors


def read(path: Path) -> Contents:
    """Return what a .safetensors file or a checkpoint of torch holds."""
    demand_file(path)
    with path.open("rb") as file:
        head = file.read(9)
    if head[8:] == b"{":  # the length of a header, then its JSON
        return read_safetensors(path)
    found = load(path)
    tensors: dict[str, Tensor] = {}
    try:
        collect(found, "", tensors)
    except (RecursionError, ValueError) as error:
        raise UsageError(f"{path}: the names of its tensors are ambiguous ({error})") from None
    if not tensors:
        raise UsageError(f"{path} holds no tensors")
    return Contents(tensors, plain(found) if isinstance(found, dict) else {})


def read_safetensors(path: Path) -> Contents:
    """Return the tensors, each in memory of its own, and the metadata of a .safetensors file."""
    try:
        with safe_open(path, framework="pt") as file:
            # The package maps the file into memory. A copy stays good when the file is changed later.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118  it is no mapping
            values = dict(file.metadata() or {})
    except (SafetensorError, ValueError, TypeError, RuntimeError, AttributeError) as error:
        raise UsageError(f"{path} is not a readable safetensors file ({error}); use a good copy of it") from None
    refuse_dtypes(path, tensors)
    return Contents(tensors, values)


def refuse_dtypes(path: Path, tensors: dict[str, Tensor]) -> None:
    """Refuse tensors of types that no network here computes with, such as float8 and complex numbers."""
    for name, tensor in tensors.items():
        if tensor.dtype not in STORAGES.values():
            word = str(tensor.dtype).removeprefix("torch.")
            raise UsageError(f"{path}: tensor '{name}' is {word}; convert it to float32 first")


def load(path: Path) -> Any:  # noqa: ANN401  any saved object
    """Return the object that torch.save wrote to `path`, with its tensors on the CPU."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the deprecated storages of old files
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # torch refuses harmless files too; the other reader says what is wrong with a file
        return read_pickle(path)


def collect(found: Any, prefix: str, tensors: dict[str, Tensor]) -> None:  # noqa: ANN401
    """Add all tensors in `found` to `tensors`, under the keys that lead to them."""
    if isinstance(found, Tensor):
        name = prefix.removesuffix(".")
        if name in tensors:
            raise ValueError(f"'{name}' appears twice")
        tensors[name] = found.detach()
        return
    items = found.items() if isinstance(found, dict) else enumerate(found) if isinstance(found, list | tuple) else ()
    for key, value in items:
        collect(value, f"{prefix}{key}.", tensors)


def plain(found: dict[Any, Any]) -> dict[str, Any]:
    """Return the entries that JSON can hold."""
    return {str(key): plain_value(value) for key, value in found.items() if is_plain(value) or isinstance(value, dict)}


def is_plain(value: Any) -> bool:  # noqa: ANN401
    if isinstance(value, list | tuple):
        return all(isinstance(each, dict) or is_plain(each) for each in value)
    return isinstance(value, PLAIN)


def plain_value(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, dict):
        return plain(value)
    return type(value)(plain_value(each) for each in value) if isinstance(value, list | tuple) else value


# ---- pickles, read without executing them

MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle in a file that PyTorch 0.2 to 1.5 saved
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
    """Reads tensors and plain values. `storage` returns the flat tensor that a persistent id stands for."""

    def __init__(self, file: IO[bytes], storage: Callable[[Any], Tensor] | None = None) -> None:
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

    def persistent_load(self, pid: Any) -> Tensor:  # noqa: ANN401
        if self._storage is None:
            raise pickle.UnpicklingError("it has a storage where none can be")
        return self._storage(pid)

    def tensor(self, flat: Tensor, offset: int, shape: Any, stride: Any, *_: object) -> Tensor:  # noqa: ANN401
        """Return a view of a storage; torch checks that no element lies outside of it."""
        return torch.as_strided(flat, shape, stride, offset)

    def parameter(self, data: Tensor, *_: object) -> Tensor:
        return data


def read_pickle(path: Path) -> Any:  # noqa: ANN401  any saved object
    """Return what torch.save wrote to `path`, with objects of unknown classes empty."""
    try:
        with path.open("rb") as file:
            return read_zip(file) if zipfile.is_zipfile(file) else read_legacy(file, path.stat().st_size)
    except CallRefusedError as error:
        raise UsageError(
            f"{path} asks for {error} to be called when it is read; nothing was called and the file was not used: "
            "use a file that holds only tensors and plain values"
        ) from None
    except Exception as error:  # a damaged pickle can raise anything
        raise UsageError(f"{path} cannot be read as a checkpoint of torch ({error or type(error).__name__})") from None


def read_zip(file: IO[bytes]) -> Any:  # noqa: ANN401
    """Read the format since PyTorch 1.6: a zip of data.pkl and a file for each storage."""
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
    """Read the format before PyTorch 1.6: pickles one after another, then the bytes of the storages."""
    file.seek(0)
    if file.read(4) == b"PK\x03\x04":
        raise ValueError("it is a zip file without its end: the file is incomplete")
    file.seek(0)
    if Reader(file).load() != MAGIC:
        raise ValueError("it does not begin like one")
    Reader(file).load()  # version of the format
    if not Reader(file).load().get("little_endian", True):
        raise ValueError("it was written on a big-endian machine")
    flats: dict[str, Tensor] = {}

    def storage_of(pid: Any) -> Tensor:  # noqa: ANN401
        _, dtype, key, _, count, view = pid
        if not 0 <= count * dtype.itemsize <= size:
            raise ValueError(f"a storage of {count} elements is larger than the file")
        storage = flats.setdefault(key, torch.zeros(count, dtype=dtype))
        return storage if view is None else storage[view[1] : view[1] + view[2]]

    found = Reader(file, storage_of).load()
    for key in Reader(file).load():
        count = int.from_bytes(file.read(8), "little")
        storage = flats[key]
        if count != len(storage):
            raise ValueError(f"a storage has {count} elements instead of {len(storage)}")
        storage.copy_(flat(bytearray(file.read(count * storage.itemsize)), storage.dtype, count))
    return found


def flat(data: bytearray, dtype: torch.dtype, count: int) -> Tensor:
    """Return the elements of a storage as a tensor of one dimension."""
    if len(data) != count * dtype.itemsize:
        raise ValueError(f"a storage has {len(data)} bytes instead of {count * dtype.itemsize}")
    return torch.frombuffer(data, dtype=dtype) if count else torch.empty(0, dtype=dtype)
