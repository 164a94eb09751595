"""Makes small labelled videos to try things on, in the layout of UCF101.

out/<Class>/v_<Class>_gNN_cMM.mp4
out/ucfTrainTestlist/classInd.txt, trainlist01.txt, testlist01.txt, and both for splits 2 and 3

The videos of a group share ground and colours, with every class in front of them; a group is never in train and
in test of the same split. So what is learned of the ground is of no use, and what is learned of the motion is.
"""

import json
import threading
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from vprep import synth_scene
from vprep.atomic import atomic_write
from vprep.errors import UsageError, WorkError
from vprep.processors import processors
from vprep.sharding.worker_pool import in_order
from vprep.video.encode import encode
from vprep.video.ffmpeg import find

MARK = ".synth.json"  # what the videos in a folder were made with; its presence says that the folder is ours
LISTS = "ucfTrainTestlist"
HARMLESS = {".DS_Store", ".gitkeep"}
RATES = {3: 30.0, 7: 12.5}  # by the last digit of a video's number in its class; all others have 25
# One thread and bitexact: the same bytes each time.
FILM = [
    *("-c:v", "libx264", "-preset", "superfast", "-crf", "23", "-pix_fmt", "yuv420p", "-threads", "1"),
    *("-flags:v", "+bitexact", "-fflags", "+bitexact", "-f", "mp4"),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Everything that decides about the bytes of the videos."""

    classes: int
    per_class: int
    seconds: float
    seed: int

    def __post_init__(self) -> None:
        _within("--classes", self.classes, 2, len(synth_scene.CLASSES))
        _within("--per-class", self.per_class, 4, 1000)
        _within("--seconds", self.seconds, 0.2, 60)
        _within("--seed", self.seed, 0, 2**32 - 1)

    @property
    def names(self) -> list[str]:
        """The classes, in the order of their labels."""
        return sorted(list(synth_scene.CLASSES)[: self.classes])

    @property
    def groups(self) -> int:
        return max(4, min(25, round(self.per_class / 2.5)))


@dataclass(frozen=True, slots=True)
class Clip:
    """One video: `number` counts the videos of its class, `group` and `clip` count from 1."""

    class_name: str
    number: int
    group: int
    clip: int

    @property
    def source(self) -> str:
        return f"{self.class_name}/v_{self.class_name}_g{self.group:02d}_c{self.clip:02d}.mp4"


def synth(
    out: Path,
    *,
    classes: int = 8,
    per_class: int = 20,
    seconds: float = 4.0,
    seed: int = 0,
    workers: int | None = None,
) -> dict[str, Any]:
    """Make the videos and their lists; with the same words again, only those that are not there."""
    asked = Asked(classes=classes, per_class=per_class, seconds=seconds, seed=seed)
    clips = [clip for name in asked.names for clip in _clips(name, asked)]
    find()  # without an ffmpeg, nothing is left behind
    _open(out, asked, clips)
    _make_all(out, asked, clips, workers or len(processors()))
    _write_lists(out / LISTS, asked, clips)
    return {
        "videos": len(clips),
        "classes": asked.names,
        "seconds": sum(_frames(clip, asked) / _rate(clip) for clip in clips),
        "bytes": sum((out / clip.source).stat().st_size for clip in clips),
        "out": str(out),
    }


def _clips(name: str, asked: Asked) -> list[Clip]:
    """The videos of a class, spread evenly over the groups."""
    clips: list[Clip] = []
    for number in range(asked.per_class):
        group = number * asked.groups // asked.per_class + 1
        same = sum(1 for clip in clips if clip.group == group)
        clips.append(Clip(name, number, group, same + 1))
    return clips


def _rate(clip: Clip) -> float:
    return RATES.get(clip.number % 10, 25.0)


def _frames(clip: Clip, asked: Asked) -> int:
    return round(asked.seconds * _rate(clip))


def _open(out: Path, asked: Asked, clips: list[Clip]) -> None:
    """Make the folders, after a look at what is there: the files of others are never touched."""
    try:
        if (out / MARK).exists():
            _refuse_others(out, asked)
        elif out.exists():
            _refuse_strangers(out)
        for folder in {LISTS, *(clip.class_name for clip in clips)}:
            (out / folder).mkdir(parents=True, exist_ok=True)
        with atomic_write(out / MARK) as file:
            file.write(json.dumps(asdict(asked)).encode() + b"\n")
    except OSError as error:
        raise UsageError(
            f"cannot write to {out}: {(error.strerror or str(error)).lower()}; choose another --out"
        ) from None


def _refuse_strangers(out: Path) -> None:
    names = sorted(path.name for path in out.iterdir() if path.name not in HARMLESS)
    if names:
        raise UsageError(f"{out} holds '{names[0]}', which synth did not make; choose an empty folder for --out")


def _refuse_others(out: Path, asked: Asked) -> None:
    try:
        before = json.loads((out / MARK).read_bytes())
        made = {name: before[name] for name in asdict(asked)}
    except (ValueError, KeyError, TypeError):
        raise UsageError(f"{out / MARK} cannot be read; remove {out} or choose another --out") from None
    for name, now in asdict(asked).items():
        if made[name] != now:
            what = name.replace("_", "-")
            raise UsageError(f"{out} was made with --{what} {made[name]}, asked is {now}; choose another --out")


def _make_all(out: Path, asked: Asked, clips: list[Clip], workers: int) -> None:
    """Make the videos that are not there yet."""
    looks = cache(lambda group: synth_scene.look(np.random.default_rng([asked.seed, group])))
    made = in_order(
        lambda clip: _make(out / clip.source, clip, looks(clip.group), asked),
        [clip for clip in clips if not (out / clip.source).exists()],
        workers=workers,
        size=lambda _: 0,
        stop=threading.Event(),
    )
    try:
        for _ in made:
            pass
    except OSError as error:
        said = (error.strerror or str(error)).lower()
        raise WorkError(f"{out}: {said}; mend that and run the same command again to go on") from error


def _make(path: Path, clip: Clip, look: synth_scene.Look, asked: Asked) -> None:
    """Draw one video and encode it."""
    rng = np.random.default_rng([asked.seed, list(synth_scene.CLASSES).index(clip.class_name), clip.number, clip.group])
    rate = _rate(clip)
    times = [number / rate for number in range(_frames(clip, asked))]
    raw = b"".join(picture.tobytes() for picture in synth_scene.frames(clip.class_name, look, rng, times))
    size = f"{synth_scene.WIDTH}x{synth_scene.HEIGHT}"
    source = ["-f", "rawvideo", "-pix_fmt", "bgr24", "-s", size, "-r", f"{rate:g}"]
    encode(raw, path, source=source, film=FILM)


def _write_lists(folder: Path, asked: Asked, clips: list[Clip]) -> None:
    numbers = {name: number for number, name in enumerate(asked.names, 1)}
    _write(folder / "classInd.txt", [f"{number} {name}" for name, number in numbers.items()])
    share = max(1, asked.groups // 4)
    for split in (1, 2, 3):
        held_out = range((split - 1) * share + 1, split * share + 1)
        train = [f"{clip.source} {numbers[clip.class_name]}" for clip in clips if clip.group not in held_out]
        _write(folder / f"trainlist0{split}.txt", train)
        _write(folder / f"testlist0{split}.txt", [clip.source for clip in clips if clip.group in held_out])


def _write(path: Path, lines: list[str]) -> None:
    with atomic_write(path) as file:
        file.write("".join(f"{line}\n" for line in lines).encode())


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise UsageError(f"{name} is {value}; wanted is {low} to {high}")
