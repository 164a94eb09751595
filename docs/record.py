"""Run the tutorial's script and record its output, with the date, the machine and the versions.

python docs/record.py            # writes docs/whole_way.txt
"""

import platform
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import torch

from veval.results.result import versions

HERE = Path(__file__).parent
OUT = HERE / "whole_way.txt"
SCRIPT = HERE.parent / "examples" / "whole_way.py"


def processor() -> str:
    """Return the name of the processor, where the system tells it."""
    info = Path("/proc/cpuinfo")
    names = info.read_text().splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in names if line.startswith("model name")), platform.machine())


def header(seconds: float) -> str:
    """Return the lines that say when, where and by what the output was printed."""
    words = ", ".join(f"{name} {version}" for name, version in versions().items())
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return (
        f"# {datetime.now(UTC):%Y-%m-%d}, {seconds:.0f} seconds on {torch.get_num_threads()} threads "
        f"({processor()}; {device})\n# {words}\n"
    )


def main() -> None:
    """Write the output; progress goes to the terminal."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([sys.executable, SCRIPT, folder], stdout=subprocess.PIPE, text=True)
    done.check_returncode()
    OUT.write_text(header(time.monotonic() - began) + done.stdout.rstrip() + "\n")
    print(f"written: {OUT.name}")


if __name__ == "__main__":
    main()
