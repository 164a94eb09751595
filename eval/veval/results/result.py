"""A result: one JSON object with numbers in percent, the protocol of the measurement, the weights and the videos.

top1, top5, ...  the metrics
protocol         flat words and numbers
weights, data    their descriptions
intervals        the interval of a metric, by its name
bootstrap        what the intervals draw: videos, or groups, which are films; older results lack it, and draw videos
dropped          the videos that could not be read
videos           whether each video was correct: by `label` and `predicted`; by `hit`, from 0 to 1; or by `first`, the
                 rank of its first correct neighbour (0: none; a list: one rank for each clip), and `pools` with the
                 ranks by the other pools
predictions      the same for tests of classifiers: the names of the true `class` and of the predicted one, `named`
gallery_videos   the neighbours of retrieval's queries, whose entries in `videos` then have `neighbours` and
                 `similarity`; `keep` says how many (veval.results.neighbours)
class_names      the name of each label

A result may lack all from `intervals` on.
"""

import json
import math
import platform
import re
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from veval.results.check import LINE_BY_LINE, problem, videos_of
from vprep.atomic import atomic_write
from vprep.errors import UsageError, WorkError
from vprep.json_text import parse_json

LARGEST = 32 << 20  # bytes of a file, enough for 300,000 videos; Python reads it in 1 GB of memory at most
# Packages that numbers may depend on; cv2 comes from either of two.
PACKAGES = ("playspeed", "torch", "numpy", "opencv-python-headless", "opencv-python", "webdataset", "pyarrow")
TOP = re.compile(r"top([0-9]{1,9})$")

Result = dict[str, Any]


def write(path: Path, result: Mapping[str, Any]) -> None:
    """Write a result, completely or not at all, with one line for each of its videos."""
    for place, value in _leaves(result):
        if isinstance(value, float) and not math.isfinite(value):
            raise WorkError(f"{place} of the result is {value}, which is not a number; {path} was not written")
    lists = {name: result[name] for name in LINE_BY_LINE if isinstance(result.get(name), list)}
    text = json.dumps({name: value for name, value in result.items() if name not in lists}, indent=1, allow_nan=False)
    for name, videos in lists.items():
        lines = ",\n".join(f"  {json.dumps(video, allow_nan=False)}" for video in videos)
        text = f'{text[:-2]},\n "{name}": [\n{lines}\n ]\n}}'
    with atomic_write(path) as file:
        file.write(f"{text}\n".encode())


def read(path: Path) -> Result:
    """Read a result that this version understands."""
    try:
        found = parse_json(_bytes_of(path), finite=True)
    except ValueError as error:
        raise UsageError(f"{path} is not JSON ({error}); name results of veval") from None
    wrong = problem(found, metrics(found) if isinstance(found, dict) else [])
    if wrong:
        raise UsageError(f"{path} is not a result: {wrong}; name results of veval")
    return dict(found)


def _bytes_of(path: Path) -> bytes:
    if not path.exists():
        raise UsageError(f"there is no {path}; name results of veval")
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name the results in it")
    if not path.is_file():  # reading a pipe may never end
        raise UsageError(f"{path} is no file; name results of veval")
    if path.stat().st_size > LARGEST:
        raise UsageError(
            f"{path} has {path.stat().st_size >> 20} MiB, and a result at most {LARGEST >> 20}; name results of veval"
        )
    return path.read_bytes()


def metrics(result: Mapping[str, Any]) -> list[str]:
    """Return the names of a result's metrics, in the order of their k."""
    found = [(int(match.group(1)), name) for name in result if (match := TOP.match(name))]
    return [name for _, name in sorted(found)]


def hits(result: Mapping[str, Any], metric: str = "top1") -> dict[str, float] | None:
    """Return the hit of each video from 0 to 1, by its key; None where the result does not have it."""
    k = int(metric.removeprefix("top"))
    found: dict[str, float] = {}
    for video in videos_of(result):
        if "first" in video:
            ranks = video["first"] if isinstance(video["first"], list) else [video["first"]]
            found[video["key"]] = sum(0 < rank <= k for rank in ranks) / len(ranks)
        elif k > 1:
            return None
        elif "hit" in video:
            found[video["key"]] = float(video["hit"])
        elif "named" in video:
            if video["class"] is not None:
                found[video["key"]] = float(video["named"] == video["class"])
        else:
            found[video["key"]] = float(video["predicted"] == video["label"])
    return found or None


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that numbers may depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def described(result: Mapping[str, Any]) -> str:
    """Return a result as text: the numbers, then how they were measured, then the dropped videos."""
    intervals = result.get("intervals", {})
    lines = []
    for name in metrics(result):
        around = f"  [{intervals[name][0]:.2f}, {intervals[name][1]:.2f}]" if name in intervals else ""
        lines.append(f"{name:<6}{result[name]:6.2f} %{around}")
    lines += [_drawn(result), _counted(result), *_about(result), f"protocol  {words(result['protocol'])}"]
    dropped = result.get("dropped") or []
    if dropped:
        more = f" and {len(dropped) - 5} more" if len(dropped) > 5 else ""
        lines.append(f"dropped   {len(dropped)} videos: {', '.join(map(_key, dropped[:5]))}{more}")
    else:
        lines.append("dropped   none")
    return "\n".join(filter(None, lines))


def words(flat: Mapping[str, Any]) -> str:
    """Return flat JSON as one line."""
    return ", ".join(f"{name} {value}" for name, value in flat.items() if value is not None)


def _drawn(result: Mapping[str, Any]) -> str:
    over = result.get("bootstrap")
    return f"interval  of 95 %, by a bootstrap over {over}" if over else ""


def _counted(result: Mapping[str, Any]) -> str:
    counts = {name: result[name] for name in ("queries", "gallery", "train", "test") if name in result}
    return f"of        {words(counts)}" if counts else ""


def _about(result: Mapping[str, Any]) -> Iterator[str]:
    weights, data = result["weights"], result["data"]
    about = [weights.get("method"), weights.get("recipe"), weights.get("backbone"), str(weights.get("hash", ""))[:8]]
    if weights.get("kept"):
        about.append(f"lowest {weights['kept']} at step {weights.get('kept_step')}")
    of = f":{weights['like_recipe']}" if weights.get("like_recipe") else ""
    yield f"weights   {', '.join(str(word) for word in about if word)} ({weights.get('path')}{of})"
    where = [data.get("name"), data.get("split"), None if data.get("fold") is None else f"fold {data['fold']}"]
    yield f"data      {', '.join(str(word) for word in where if word)} ({data.get('shards')})"


def _key(dropped: Any) -> str:  # noqa: ANN401  a key, or the description of a video
    return str(dropped.get("key")) if isinstance(dropped, dict) else str(dropped)


def _leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:  # noqa: ANN401  all that JSON holds
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _leaves(inner, f"{place}.{name}" if place else str(name))
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _leaves(inner, f"{place}[{number}]")
    else:
        yield place, value
