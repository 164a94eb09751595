"""Lists that name videos, classes and splits: csv, text and json, in each layout that reads them."""

import json
import random
from collections.abc import Callable
from pathlib import Path

from mutate import NAMES, NUMBERS, mutate_bytes, mutate_text

from fuzzed import Kind
from vprep import layouts
from vprep.errors import UsageError
from vprep.layouts.alike import refuse_alike
from vprep.sharding.plan import Planned, interleaved, keys_of
from vprep.summary import listing_lines
from vprep.text import one_line

VIDEOS = ("run/a.mp4", "run/v_run_g01_c01.avi", "walk/abcdefghijk.mp4", "walk/1.webm")
LONGEST = 100  # characters of a line that is repeated
WORDS = (*NAMES, *NUMBERS, "1" * 5000, "\x1b[2J", "Run", "run ")
SEPARATORS = (",", ";", "\t", '"', ' "', '",', "\r", "\n", "\0", "\ufeff", " ")
LISTS = {
    "labels.csv": "path,label,split,start,end\nrun/a.mp4,run,train,0,5\nrun/a.mp4,run,test,5,9\nwalk/1.webm,walk,,,\n",
    "classes.txt": "run\nwalk\n",
    "classes.json": '{"run": 0, "walk": 1}',
    "train.csv": "youtube_id,label,time_start,time_end,split\nabcdefghijk,walk,1,11,train\nbbbbbbbbbbb,run,0,9,test\n",
    "trainlist01.txt": "run/v_run_g01_c01.avi 1\nwalk/v_walk_g01_c01.avi 2\n",
    "classInd.txt": "1 run\n2 walk\n",
    "run_test_split1.txt": "a.avi 1\nv_run_g01_c01.avi 2\n",
    "something-something-v2-train.json": '[{"id": "1", "template": "Walking [there]"}, {"id": 2, "template": "Run"}]',
}
WITH = {"trainlist01.txt": ("classInd.txt",), "classInd.txt": ("trainlist01.txt",)}


def _make(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        for video in VIDEOS:
            (folder / "source" / video).parent.mkdir(parents=True, exist_ok=True)
            (folder / "source" / video).write_bytes(b"x")
        place = folder if name.startswith("classes.") else folder / "source"
        for other in (*WITH.get(name, ()), name):
            (place / other).write_text(LISTS[other])
        return place / name

    return make


def mutate_lines(content: bytes, seed: int) -> bytes:
    """Return a list with changed fields, lines, separators, quotes, encoding or bytes."""
    rng = random.Random(f"lines {seed}")
    if rng.randrange(5) == 0:
        return mutate_bytes(content, seed)
    lines = content.decode().splitlines()
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(lines))
        fields = lines[at].split(",")
        how = rng.randrange(6)
        if how < 2:
            fields[rng.randrange(len(fields))] = str(rng.choice(WORDS))
            lines[at] = ",".join(fields)
        elif how == 2:
            where = rng.randrange(len(lines[at]) + 1)
            lines[at] = lines[at][:where] + rng.choice(SEPARATORS) + lines[at][where:]
        elif how == 3:
            lines.insert(at, lines[rng.randrange(len(lines))])
        elif how == 4:
            lines[at] = lines[at][:LONGEST].replace(",", rng.choice(SEPARATORS)) * rng.choice((1, 1, 2, 20_000))
        elif len(lines) > 1:
            del lines[at]
    encoding = rng.choice(("utf-8", "utf-8", "utf-8", "utf-16", "utf-16-be", "latin-1"))
    return "\n".join(lines).encode(encoding, "replace")


def mutate_json(content: bytes, seed: int) -> bytes:
    return mutate_text(json.loads(content), seed)


def _reader(layout: str) -> Callable[[Path], object]:
    def read(path: Path) -> object:
        is_list = path.name.startswith("classes.")
        root = path.parent / "source" if is_list else path.parent
        try:
            listing = layouts.read(root, layout=layout, labels=path if is_list else None)
            refuse_alike(listing.classes)
        except UsageError as error:  # the command prints it as one line
            raise UsageError(one_line(str(error))) from None
        assert {entry.source for entry in listing.entries} <= set(VIDEOS), "a video from elsewhere"
        assert all(name.encode() for name in listing.classes)
        listing_lines(listing)
        return interleaved(map(Planned, keys_of(listing.entries), listing.entries), 0)

    return read


KINDS = [
    Kind(
        name=f"list {name}",
        make=_make(name),
        mutate=mutate_json if name.endswith(".json") else mutate_lines,
        readers={"vprep shard": _reader("folders" if name.startswith("classes.") else "auto")},
    )
    for name in LISTS
]
