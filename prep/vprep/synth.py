"""Make small labelled videos for trials, in the layout of UCF101.

out/<Class>/v_<Class>_gNN_cMM.mp4
out/ucfTrainTestlist/classInd.txt, trainlist01.txt, testlist01.txt, and both for splits 2 and 3

The videos of a group share background and colours, and each group has all classes; no group is in both train and test
of a split. So learning the background does not help a network, and learning the motion does.
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
from vprep.errors import UsageError, WorkError, reason, writing
from vprep.json_text import parse_json
from vprep.processors import processors
from vprep.progress import tracked
from vprep.settings import require_range
from vprep.sharding.worker_pool import in_order
from vprep.synth_classes import CLASSES
from vprep.video.encode import encode
from vprep.video.ffmpeg import find

MARK = ".synth.json"  # the settings of the videos in a folder; it marks a folder that synth made
LISTS = "ucfTrainTestlist"
HARMLESS = {".DS_Store", ".gitkeep"}
RATES = {3: 30.0, 7: 12.5}  # by the last digit of a video's number in its class; the others have 25
# One thread and bitexact give the same bytes each time.
VIDEO_OPTIONS = [
    *("-c:v", "libx264", "-preset", "superfast", "-crf", "23", "-pix_fmt", "yuv420p", "-threads", "1"),
    *("-flags:v", "+bitexact", "-fflags", "+bitexact", "-f", "mp4"),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class SynthConfig:
    """Everything that the bytes of the videos depend on."""

    classes: int
    per_class: int
    seconds: float
    seed: int

    def __post_init__(self) -> None:
        require_range("--classes", self.classes, 2, len(CLASSES))
        require_range("--per-class", self.per_class, 4, 1000)
        require_range("--seconds", self.seconds, 0.2, 60)
        require_range("--seed", self.seed, 0, 2**32 - 1)

    @property
    def names(self) -> list[str]:
        """Return the classes in the order of their labels."""
        return sorted(list(CLASSES)[: self.classes])

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
    """Make the videos and their lists; a second call with the same settings makes only missing videos."""
    config = SynthConfig(classes=classes, per_class=per_class, seconds=seconds, seed=seed)
    clips = [clip for name in config.names for clip in _clips(name, config)]
    find()  # fails before anything is written when there is no ffmpeg
    _make_folders(out, config, clips)
    _make_all(out, config, clips, workers or len(processors()))
    _write_lists(out / LISTS, config, clips)
    return {
        "videos": len(clips),
        "classes": config.names,
        "seconds": sum(_frames(clip, config) / _rate(clip) for clip in clips),
        "bytes": sum((out / clip.source).stat().st_size for clip in clips),
        "out": str(out),
    }


def _clips(name: str, config: SynthConfig) -> list[Clip]:
    """Return the videos of a class, spread evenly over the groups."""
    clips: list[Clip] = []
    for number in range(config.per_class):
        group = number * config.groups // config.per_class + 1
        same = sum(1 for clip in clips if clip.group == group)
        clips.append(Clip(name, number, group, same + 1))
    return clips


def _rate(clip: Clip) -> float:
    return RATES.get(clip.number % 10, 25.0)


def _frames(clip: Clip, config: SynthConfig) -> int:
    return round(config.seconds * _rate(clip))


def _make_folders(out: Path, config: SynthConfig, clips: list[Clip]) -> None:
    """Make the folders; refuse a folder with other files."""
    with writing(out):
        if (out / MARK).exists():
            _refuse_other_settings(out, config)
        elif out.exists():
            _refuse_other_files(out)
        out.mkdir(parents=True, exist_ok=True)
        with atomic_write(out / MARK) as file:  # first: a folder without it is refused
            file.write(json.dumps(asdict(config)).encode() + b"\n")
        for folder in {LISTS, *(clip.class_name for clip in clips)}:
            (out / folder).mkdir(exist_ok=True)


def _refuse_other_files(out: Path) -> None:
    names = sorted(path.name for path in out.iterdir() if path.name not in HARMLESS)
    if names:
        raise UsageError(f"{out} holds '{names[0]}', which synth did not make; choose an empty folder for --out")


def _refuse_other_settings(out: Path, config: SynthConfig) -> None:
    try:
        before = parse_json((out / MARK).read_bytes())
        made_with = {name: before[name] for name in asdict(config)}
    except (ValueError, KeyError, TypeError):
        raise UsageError(f"{out / MARK} cannot be read; remove {out}, or choose another --out") from None
    for name, now in asdict(config).items():
        if made_with[name] != now:
            option = f"--{name.replace('_', '-')}"
            before_and_now = f"was made with {option} {made_with[name]}, and this command has {option} {now}"
            raise UsageError(f"{out} {before_and_now}; choose another --out")


def _make_all(out: Path, config: SynthConfig, clips: list[Clip], workers: int) -> None:
    """Make the videos that are not there yet."""
    appearances = cache(lambda group: synth_scene.appearance(np.random.default_rng([config.seed, group])))
    missing = [clip for clip in clips if not (out / clip.source).exists()]
    made = in_order(
        lambda clip: _make(out / clip.source, clip, appearances(clip.group), config),
        missing,
        workers=workers,
        size=lambda _: 0,
        stop=threading.Event(),
    )
    try:
        for _ in tracked(made, len(missing), "videos"):
            pass
    except OSError as error:
        raise WorkError(f"{out}: {reason(error)}; fix that and run the same command again to continue") from error


def _make(path: Path, clip: Clip, appearance: synth_scene.Appearance, config: SynthConfig) -> None:
    """Draw one video and encode it."""
    rng = np.random.default_rng([config.seed, list(CLASSES).index(clip.class_name), clip.number, clip.group])
    rate = _rate(clip)
    times = [number / rate for number in range(_frames(clip, config))]
    raw = b"".join(picture.tobytes() for picture in synth_scene.frames(clip.class_name, appearance, rng, times))
    size = f"{synth_scene.WIDTH}x{synth_scene.HEIGHT}"
    input_options = ["-f", "rawvideo", "-pix_fmt", "bgr24", "-s", size, "-r", f"{rate:g}"]
    encode(raw, path, input_options=input_options, output_options=VIDEO_OPTIONS)


def _write_lists(folder: Path, config: SynthConfig, clips: list[Clip]) -> None:
    numbers = {name: number for number, name in enumerate(config.names, 1)}
    _write(folder / "classInd.txt", [f"{number} {name}" for name, number in numbers.items()])
    share = max(1, config.groups // 4)
    for split in (1, 2, 3):
        held_out = range((split - 1) * share + 1, split * share + 1)
        train = [f"{clip.source} {numbers[clip.class_name]}" for clip in clips if clip.group not in held_out]
        _write(folder / f"trainlist0{split}.txt", train)
        _write(folder / f"testlist0{split}.txt", [clip.source for clip in clips if clip.group in held_out])


def _write(path: Path, lines: list[str]) -> None:
    with atomic_write(path) as file:
        file.write("".join(f"{line}\n" for line in lines).encode())
