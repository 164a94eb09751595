"""Whether torch.compile can work on this machine, found before a training starts."""

import os
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path

import torch

from vprep.errors import UsageError

NOT_READ = set(" \t\n\"'\\")  # characters that part or change a word of a command line
WITHOUT = "leave out compile=yes: the losses are the same without"


def demand_compiler(device: torch.device) -> None:
    """Refuse compile=yes where there is no compiler, or where torch would give it paths that it cannot read."""
    if device.type == "cpu":
        _demand_cpp()
        _demand_paths()
    else:
        _demand_c()


def _demand_cpp() -> None:
    """Refuse a machine without the C++ compiler that torch takes: that of CXX, or the system's usual one."""
    usual = "clang++" if sys.platform == "darwin" else "g++"
    wanted = os.environ.get("CXX", usual)
    if shutil.which(wanted) is None:
        named = f"CXX={wanted}, which is not there" if "CXX" in os.environ else f"{usual}, which is not installed"
        raise UsageError(f"compile=yes needs a C++ compiler, and torch takes {named}: install one, or {WITHOUT}")


def _demand_c() -> None:
    """Refuse a machine without the C compiler with which the kernels for a GPU are started."""
    names = [os.environ["CC"]] if "CC" in os.environ else ["gcc", "clang"]
    if not any(shutil.which(name) for name in names):
        raise UsageError(
            f"compile=yes needs a C compiler, and there is no {' or '.join(names)}: install one, or {WITHOUT}"
        )


def _demand_paths() -> None:
    """Refuse folders whose names torch (2.13) puts on the compiler's command line without quotes."""
    temporary = Path(tempfile.gettempdir())
    cache = Path(os.environ.get("TORCHINDUCTOR_CACHE_DIR", temporary)).absolute()
    installed = Path(torch.__file__).parent, Path(sysconfig.get_config_var("LIBDIR") or "/")
    advice = {
        temporary: "set TMPDIR to another folder",
        cache: "set TORCHINDUCTOR_CACHE_DIR to another folder",
        **dict.fromkeys(installed, "install the packages in another folder"),
    }
    for folder, change in advice.items():
        if NOT_READ & set(str(folder)):
            raise UsageError(
                f"compile=yes cannot use the folder '{folder}', because torch gives the compiler its name without "
                f"quotes: {change}, whose name has no spaces and quotes, or {WITHOUT}"
            )
