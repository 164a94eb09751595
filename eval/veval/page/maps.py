"""The pictures of `veval look` on the page of a report: what its networks look at."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vprep.errors import UsageError, about
from vprep.page.document import Section
from vprep.page.html import Element, el
from vprep.page.pictures import Kind, address
from vprep.text import byte_size, one_line

MOST = 1_200_000  # bytes of all maps, so that the page stays below 5 MB
KINDS: dict[bytes, Kind] = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg", b"GIF8": "gif", b"RIFF": "webp"}
ENOUGH = 12  # bytes that tell the kind


@dataclass(frozen=True, slots=True)
class Map:
    """A picture, as its file has it."""

    name: str
    kind: Kind
    picture: bytes


def read_maps(paths: Sequence[Path]) -> list[Map]:
    """Return the pictures of files; refuse what is no picture, and more than a page holds."""
    for path in paths:
        if not path.is_file():
            raise UsageError(f"--maps: there is no file {path}; make it with: veval look roi --out {path}")
    size = sum(path.stat().st_size for path in paths)
    if size > MOST:
        raise UsageError(
            f"the pictures of --maps have {byte_size(size)}, and a page holds {byte_size(MOST)} of them: name fewer, "
            "or make them as .webp"
        )
    return [_read(path) for path in paths]


def _read(path: Path) -> Map:
    with about(path):
        picture = path.read_bytes()
    kind = next((kind for begin, kind in KINDS.items() if picture.startswith(begin)), None)
    if kind is None or (kind == "webp" and picture[8:ENOUGH] != b"WEBP"):
        raise UsageError(f"--maps names {path}, which is no PNG, JPEG, GIF or WebP; veval look --out writes these")
    return Map(one_line(path.stem), kind, picture)


def section(maps: Sequence[Map]) -> Section | None:
    """Return the maps below each other; None where there are none."""
    if not maps:
        return None
    return Section(
        identifier="maps",
        title="What the networks look at",
        lead="Pictures of veval look. Each says below it which weights, clips and formula it shows.",
        body=[_figure(one) for one in maps],
    )


def _figure(one: Map) -> Element:
    text = f"Maps of a network, drawn by veval look: {one.name}"
    picture = el("img", src=address(one.picture, one.kind), alt=text, loading="lazy")
    return el("figure", picture, el("figcaption", one.name), class_="map-picture")
