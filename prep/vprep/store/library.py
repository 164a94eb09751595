"""The package obstore, as this process can use it."""

import importlib
import importlib.util
import os
import shutil
import sys
import tempfile
import threading
from importlib.machinery import ExtensionFileLoader, ModuleSpec
from types import ModuleType

from vprep.errors import UsageError

_PACKAGE, _NATIVE = "obstore", "obstore._obstore"
_loaded: tuple[int, ModuleType, str] | None = None  # the process, the package, the file of its native part
_lock = threading.Lock()


def obstore() -> ModuleType:
    """Return obstore. After a fork it is loaded a second time.

    Its threads stay behind in the process that forked, and a request that waits for them would hang for ever, also by
    a store that is opened later. A copy of its native part starts threads of its own.
    """
    global _loaded
    with _lock:
        if _loaded is None:
            package = _imported()
            _loaded = (os.getpid(), package, str(sys.modules[_NATIVE].__file__))
        elif _loaded[0] != os.getpid():
            _loaded = (os.getpid(), _loaded_again(_loaded[2]), _loaded[2])
        return _loaded[1]


def _renew_lock() -> None:
    """Replace the lock in a process that was forked: a thread that stayed behind may have held it."""
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


def _imported() -> ModuleType:
    try:
        return importlib.import_module(_PACKAGE)
    except ModuleNotFoundError as error:
        if error.name != _PACKAGE:
            raise
        raise UsageError("object stores need obstore; install with: pip install 'playspeed[s3]'") from None


def _loaded_again(native: str) -> ModuleType:
    for name in [name for name in sys.modules if name == _PACKAGE or name.startswith(f"{_PACKAGE}.")]:
        del sys.modules[name]
    # The loader takes a file that it knows for loaded, so the bytes have to be another file.
    with tempfile.NamedTemporaryFile(suffix=".so") as copy, open(native, "rb") as file:
        shutil.copyfileobj(file, copy)
        copy.flush()
        loader = ExtensionFileLoader(_NATIVE, copy.name)
        module = importlib.util.module_from_spec(ModuleSpec(_NATIVE, loader, origin=copy.name))
        sys.modules[_NATIVE] = module
        loader.exec_module(module)
    return importlib.import_module(_PACKAGE)
