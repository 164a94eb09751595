"""Write the page of `veval report --html`, and say how to open it."""

from pathlib import Path
from typing import Any

from veval import output
from veval.page.request import Request, refuse_name
from vprep import printing
from vprep.text import byte_size


def write_page(request: Request, out: Path, *, as_json: bool) -> None:
    """Write the page to `out` and print where it is."""
    refuse_name(out)
    results = request.read_results()
    from veval.page.build import write  # imports torch

    output.WORK.begin("pictures")
    size = write(request, results, out, output.WORK.progress)
    info = {"out": str(out), "bytes": size, "address": out.resolve().as_uri()}
    printing.show(info, as_json, _line)


def _line(info: dict[str, Any]) -> str:
    return f"{info['out']}: {byte_size(info['bytes'])}, one file; open it in a browser: {info['address']}"
