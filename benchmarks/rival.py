"""The commands behind prep.py that handle pictures, above all the usual way of doing the same work.

    rival.py pack VIDEOS OUT.tar [--threads 1]   OpenCV decodes, selects, resizes and encodes; one tar member per frame
    rival.py scan VIDEOS N                       bytes and PSNR of every JPEG quality, over the first N videos
    rival.py stored VIDEOS N --of SET            bytes and PSNR of the same videos in a set by vprep
    rival.py gather FOLDER N [--of VIDEOS]       N videos for measuring: links to given videos, or to new ones

`pack` uses tarfile, which avoids webdataset's import of torch, and it neither hashes nor flushes its output. `grab` and
`retrieve` avoid the conversion of frames that are not kept.
"""

import argparse
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

Picture = np.ndarray[Any, Any]
WIDTH, HEIGHT, FPS = 171, 128, 25.0
CLIPS = 8  # number of different videos that are made when none are given
CLIP_SIZE, CLIP_RATE, CLIP_FRAMES = (340, 256), 30, 300
QUALITIES = range(70, 99)
EVERY = 10  # one frame of these is compared
MOST_DB = 60.0  # for a frame without any difference


def frames_of(path: Path) -> Iterator[tuple[bool, Picture]]:
    """Yield the resized frames at 25 per second; the flag is false for a frame that repeats the one before."""
    video = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    rate = video.get(cv2.CAP_PROP_FPS)
    shown = kept = 0
    while video.grab():
        shown += 1
        new = True
        while kept / FPS < shown / rate:
            if new:
                frame = cv2.resize(video.retrieve()[1], (WIDTH, HEIGHT))
            yield new, frame
            new = False
            kept += 1
    video.release()


def pack(videos: list[Path], out: Path, quality: int) -> dict[str, float]:
    """Write the tar and return its counts."""
    count = stored = 0
    with tarfile.open(out, "w", format=tarfile.USTAR_FORMAT) as tar:
        for path in videos:
            jpeg = b""
            for number, (new, frame) in enumerate(frames_of(path)):
                if new:
                    jpeg = encoded(frame, quality)
                info = tarfile.TarInfo(f"{path.stem}.{number:06d}.jpg")
                info.size = len(jpeg)
                tar.addfile(info, io.BytesIO(jpeg))
                count += 1
                stored += len(jpeg)
    return {"frames": count, "jpeg_bytes": stored, "tar_bytes": out.stat().st_size}


def scan(videos: list[Path]) -> list[dict[str, float]]:
    """Return the mean bytes of a frame at each quality, and the mean PSNR of its luma against the original."""
    frames = [frame for path in videos for n, (_, frame) in enumerate(frames_of(path)) if n % EVERY == 0]
    lumas = [cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY) for frame in frames]
    rows = []
    for quality in QUALITIES:
        jpegs = [encoded(frame, quality) for frame in frames]
        decoded = [luma(np.frombuffer(jpeg, np.uint8)) for jpeg in jpegs]
        decibels = [psnr(*pair) for pair in zip(lumas, decoded, strict=True)]
        rows.append(
            {
                "quality": quality,
                "frame_bytes": sum(map(len, jpegs)) / len(jpegs),
                "psnr": sum(decibels) / len(decibels),
            }
        )
    return rows


def encoded(frame: Picture, quality: int) -> bytes:
    """Return the frame as a JPEG."""
    return cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def luma(jpeg: Picture) -> Picture:
    """Return the luma of a JPEG (BT.601, full range), without a conversion to BGR and back."""
    found = cv2.imdecode(jpeg, cv2.IMREAD_GRAYSCALE)
    if found is None:
        raise ValueError(f"{len(jpeg)} bytes are not a JPEG")
    return np.asarray(found)


def psnr(one: Picture, other: Picture) -> float:
    """Return the PSNR of two pictures of 8 bits, in decibels."""
    return min(MOST_DB, float(cv2.PSNR(one, other)))


def stored(videos: list[Path], folder: Path) -> dict[str, float]:
    """Return the bytes of the set in `folder`, and the PSNR of the frames of `videos`."""
    import pyarrow.parquet as pq

    rows = {row["source"]: row for row in pq.read_table(folder / "index.parquet").to_pylist()}
    frames, size = sum(row["frames"] for row in rows.values()), sum(row["size"] for row in rows.values())
    decibels = [value for path in videos for value in _psnrs(path, folder, rows[path.name])]
    return {
        "videos": len(rows),
        "frames": frames,
        "frame_bytes": size / frames,
        "pixel_bytes": size / sum(row["frames"] * row["height"] * row["width"] for row in rows.values()),
        "tar_bytes": sum(path.stat().st_size for path in folder.glob("*.tar")),
        "psnr": sum(decibels) / len(decibels),
        "worst": min(decibels),
    }


def _psnrs(path: Path, folder: Path, row: dict[str, Any]) -> Iterator[float]:
    """Yield the PSNR of stored frames against frames from the same filters that were never compressed."""
    from vprep.settings import Settings
    from vprep.video import ffmpeg
    from vprep.video.transcode import command

    argv = command(path, Settings(), ffmpeg.find(), None, None)
    raw = ffmpeg.run(["rawvideo" if word == "mjpeg" else word for word in argv], timeout=300).output
    height, width = row["height"], row["width"]
    step = height * width + 2 * (-(-height // 2)) * (-(-width // 2))  # yuv420p
    if len(raw) != step * row["frames"]:
        raise ValueError(f"{path.name}: {len(raw)} bytes of raw frames instead of {row['frames']} times {step}")
    mjpeg = np.fromfile(folder / row["shard"], np.uint8, row["size"], offset=row["offset"])
    for number in range(0, row["frames"], EVERY):
        begin, end = row["frame_offsets"][number : number + 2]
        # Both are BT.601 luma of the full range.
        wanted = np.frombuffer(raw, np.uint8, height * width, number * step).reshape(height, width)
        yield psnr(luma(mjpeg[begin:end]), wanted)


def texture(rng: np.random.Generator) -> Picture:
    """Return a picture whose spectrum falls with the frequency as in photographs."""
    height, width = 384, 512
    fall = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    fall[0, 0] = 1
    planes = [np.fft.irfft2(np.fft.rfft2(rng.normal(size=(height, width))) / fall**1.3) for _ in range(3)]
    luma, blue, red = (plane / plane.std() for plane in planes)
    picture = 115 + 45 * luma[..., None] + 14 * np.stack([blue, 0 * blue, red], -1)
    return np.asarray(np.clip(picture, 0, 255), np.uint8)


def pictures(seed: int) -> Iterator[bytes]:
    """Yield frames with three textured ellipses that move and turn before a textured background, with some noise."""
    rng = np.random.default_rng(seed)
    layers = [texture(rng) for _ in range(4)]
    starts, speeds = rng.uniform(60, 120, (4, 2)), rng.uniform(-1, 1, (4, 2))
    width, height = CLIP_SIZE
    for at in range(CLIP_FRAMES):
        frame = np.zeros((height, width, 3), np.uint8)
        for number, (layer, start, speed) in enumerate(zip(layers, starts, speeds, strict=True)):
            (x, y), zoom = start + 20 * np.sin(speed * at / 20), 1 + 0.1 * np.sin(at / 60 + number)
            moved = cv2.warpAffine(layer, np.array([[zoom, 0, -x], [0, zoom, -y]]), CLIP_SIZE, borderMode=2)
            mask = np.full((height, width), 255 if number == 0 else 0, np.uint8)
            if number:
                turn = speed * at / 20 + number
                centre = int(width / 2 + 100 * np.sin(turn[0])), int(height / 2 + 70 * np.cos(turn[1]))
                axes = 30 + 10 * number, 60 - 8 * number
                cv2.ellipse(mask, centre, axes, float(at * speed[0]), 0, 360, (255,), -1)
            frame[mask > 0] = moved[mask > 0]
        yield np.clip(frame + rng.normal(0, 2, (height, width, 1)), 0, 255).astype(np.uint8).tobytes()


def make_clip(path: Path, seed: int) -> None:
    """Write 10 s of H.264 with about the size and bitrate of Kinetics, with sound."""
    from vprep.video import ffmpeg

    (width, height), seconds = CLIP_SIZE, CLIP_FRAMES / CLIP_RATE
    pipe = f"-f rawvideo -pix_fmt bgr24 -s {width}x{height} -r {CLIP_RATE} -i pipe:0"
    sound = f"-f lavfi -i anoisesrc=a=0.1:d={seconds}:seed={seed}"
    codecs = "-c:v libx264 -pix_fmt yuv420p -g 250 -c:a aac -b:a 64k"
    argv = [ffmpeg.find().path, "-v", "error", *pipe.split(), *sound.split(), *codecs.split(), str(path)]
    subprocess.run(argv, input=b"".join(pictures(seed)), check=True)


def gather(folder: Path, count: int, given: Path | None) -> dict[str, int]:
    """Fill `folder` with `count` links, repeating the videos when there are fewer; return how many differ."""
    from vprep.layouts.walk import walk

    if given:
        sources = [(given / name).resolve() for name in walk(given).videos][:count]
    else:
        sources = [folder.with_name(f"clip-{seed}.mp4").resolve() for seed in range(min(CLIPS, count))]
        for seed, path in enumerate(sources):
            make_clip(path, seed)
    folder.mkdir()
    for number in range(count):
        source = sources[number % len(sources)]
        (folder / f"{number:05d}{source.suffix}").symlink_to(source)
    return {"different": len(sources)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("what", choices=("pack", "scan", "stored", "gather"))
    parser.add_argument("folder", type=Path, help="folder of the videos")
    parser.add_argument("more", help="tar to write, or number of videos")
    parser.add_argument("--quality", type=int, default=90)
    parser.add_argument("--threads", type=int, default=1, help="threads of OpenCV; 0: its default")
    parser.add_argument("--of", type=Path, help="set by vprep, or folder of given videos")
    args = parser.parse_args()
    if args.threads:
        cv2.setNumThreads(args.threads)
        os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = f"threads;{args.threads}"
        # Libraries have more threads than these; on as many processors as vprep has workers they gain nothing.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    videos = sorted(args.folder.iterdir()) if args.what != "gather" else []
    found: object
    if args.what == "pack":
        found = pack(videos, Path(args.more), args.quality)
    elif args.what == "scan":
        found = scan(videos[: int(args.more)])
    elif args.what == "stored":
        found = stored(videos[: int(args.more)], args.of)
    else:
        found = gather(args.folder, int(args.more), args.of)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
