"""Sets in which one file was changed by a stranger who wants to be believed, and everything that reads a set.

`harm` changes one file of a set and makes all hashes and sizes of `dataset.json` right again. Each case depends on its
kind and its number alone.
"""

import contextlib
import io
import json
import shutil
import tarfile
from collections.abc import Callable
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from mutate import mutate_bytes, mutate_parquet, mutate_tar, mutate_text, mutate_value
from rehash import rehash

from vprep.errors import UsageError, WorkError
from vprep.format import write_dataset
from vprep.index import index
from vprep.index_rows import first_key
from vprep.preview import show
from vprep.sharding import assemble, build
from vprep.sharding.destination import WORK, LocalSet
from vprep.sharding.job import Job
from vprep.sharding.plan import planned_videos, read_plan
from vprep.sharding.videos import LocalVideos
from vprep.stats import stats
from vprep.subset import subset
from vprep.summary import set_info, set_text, verify_text
from vprep.verify import verify
from vprep.video import ffmpeg
from vtrain.data import EvenClips, ShardSet, open_shards

KINDS = ("dataset", "index", "plan", "failures", "tar", "own tars", "other tars", "records", "bytes", "subset")
ALLOWED = (UsageError, WorkError)


def harm(folder: Path, kind: str, number: int) -> None:
    """Change one file of the set in `folder`."""
    if kind == "dataset":
        info = json.loads((folder / "dataset.json").read_bytes())
        changed = mutate_value(info, number)
        believable = number % 4 and isinstance(changed, dict) and _can_be_written(changed)
        text = write_dataset(changed) if believable else mutate_text(info, number)
        (folder / "dataset.json").write_bytes(text)
    elif kind in ("index", "plan", "failures"):
        path = folder / f"{kind}.parquet"
        path.write_bytes(mutate_parquet(path.read_bytes(), number))
        rehash(folder)
    elif kind in ("tar", "own tars", "other tars"):
        if kind == "other tars":
            as_members(folder)
        path = sorted(folder.glob("*.tar"))[number % 2]
        path.write_bytes(mutate_tar(path.read_bytes(), number, _member))
        if kind == "tar":
            rehash(folder)
        else:
            for other in folder.glob("*.*t*"):
                if other.suffix != ".tar":
                    other.unlink()
    elif kind == "records":
        assemble.reopen(LocalSet(folder))
        path = sorted((folder / WORK).iterdir())[number % 2]
        path.write_bytes(mutate_parquet(path.read_bytes(), number))
    elif kind == "subset":
        path = folder / "subset.parquet"
        path.write_bytes(mutate_parquet(path.read_bytes(), number))
    else:
        files = sorted(path for path in folder.iterdir() if path.is_file())
        path = files[number % len(files)]
        path.write_bytes(mutate_bytes(path.read_bytes(), number))


def as_members(folder: Path) -> None:
    """Write the tars again as other tools would: a member for each frame, a label, and a json of a few fields."""
    for path in folder.glob("*.tar"):
        rows = [row for row in pq.read_table(folder / "index.parquet").to_pylist() if row["shard"] == path.name]
        data = path.read_bytes()
        with tarfile.open(path, "w") as tar:
            for row in rows:
                info = {"fps": row["fps"], "class_name": row["class_name"], "label": row["label"], "source": "a.mp4"}
                members = {"json": json.dumps(info).encode(), "cls": str(row["label"]).encode()}
                frames = data[row["offset"] : row["offset"] + row["size"]]
                for at, (begin, end) in enumerate(pairwise(row["frame_offsets"])):
                    members[f"{at:03d}.jpg"] = frames[begin:end]
                for suffix, content in members.items():
                    member = tarfile.TarInfo(f"part/{row['key']}.{suffix}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))


def readers(folder: Path, out: Path, videos: Path) -> dict[str, Callable[[], Any]]:
    """Return everything that reads a set, by name, those that change it last."""
    job = Job(out=LocalSet(folder), videos=LocalVideos(videos), ffmpeg=ffmpeg.find(), workers=1, timeout=20)
    table = folder / "subset.parquet"
    keys = out / "keys.txt"
    return {
        "verify": lambda: [verify_text(verify(folder, depth)) for depth in ("sizes", "hashes", "frames")],
        "stats": lambda: stats(folder),
        "show": lambda: show(folder, first_key(folder), out / "sheet.png"),
        "subset": lambda: (keys.write_text(first_key(folder)), subset(folder, f"keys:{keys}", out / "s.parquet")),
        "plan": lambda: (read_plan(folder), list(planned_videos(folder))),
        "select": lambda: [ShardSet.open(folder).select(split) for split in (None, "train")],
        "select a subset": lambda: ShardSet.open(folder).select(subset=table) if table.exists() else None,
        "describe": lambda: _described(ShardSet.open(folder)),
        "load": lambda: list(islice(open_shards(folder, EvenClips(clips=1, frames=4), batch=2, epochs=1), 4)),
        "retry": lambda: set_text(set_info(LocalSet(folder), build.retry(job, None))),
        "index": lambda: index(folder),
        "verify again": lambda: verify_text(verify(folder, "frames")),
        "load again": lambda: list(islice(open_shards(folder, EvenClips(clips=1, frames=4), batch=2, epochs=1), 4)),
    }


def run_case(good: Path, videos: Path, work: Path, kind: str, number: int) -> dict[str, str]:
    """Let everything read one harmed set; return what each reader said. Other errors than ours go through."""
    shutil.rmtree(work, ignore_errors=True)
    folder, out = Path(shutil.copytree(good, work / "set")), work / "out"
    out.mkdir()
    harm(folder, kind, number)
    said = {}
    for name, read in readers(folder, out, videos).items():
        said[name] = ""
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                read()
        except ALLOWED as error:
            said[name] = str(error)
    assert {path.name for path in work.iterdir()} == {"set", "out"}, "something was written beside the set"
    return said


def _described(opened: ShardSet) -> object:
    return (
        opened.name,
        opened.classes,
        opened.smallest_side,
        opened.fingerprint,
        opened.frame_info(),
        opened.content_hashes(),
    )


def _member(name: str, data: bytes, seed: int) -> bytes:
    return mutate_text(json.loads(data), seed) if name.endswith(".json") else mutate_bytes(data, seed)


def _can_be_written(info: dict[str, Any]) -> bool:
    try:
        write_dataset(info)
    except (ValueError, RecursionError):
        return False
    return True
