"""Where a picture is written: a file whose ending says how, or a folder. It is checked before torch is imported."""

from pathlib import Path

from veval import output
from vprep.atomic import require_writable
from vprep.errors import UsageError

STILL, MOVING, PAGE = (".png", ".jpg", ".jpeg"), (".gif", ".webp"), ".html"
ENDINGS = (*STILL, *MOVING, PAGE)


def target(out: Path | None, kind: str) -> Path:
    """Return the file or the folder to write; refuse one that cannot be written, or whose ending is not known."""
    if out is None:
        require_writable(output.RESULTS)
        return output.fresh(output.RESULTS, kind, ".png")
    if out.is_dir():
        require_writable(out)
        return out
    if out.suffix.lower() not in ENDINGS:
        there = "" if out.suffix else f", or be a folder that exists: create {out} first"
        raise UsageError(f"--out is '{out}'; it must end in {', '.join(ENDINGS)}{there}")
    require_writable(out.parent)
    return out
