"""The command line of vprep: parse the arguments, call the command, print the result."""

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Never

import typer

from vprep import plugins, printing, quiet, signals, versions
from vprep.completion import completed
from vprep.errors import UsageError, exit_code
from vprep.layouts import LAYOUTS

if TYPE_CHECKING:
    from vprep.layouts.listing import Listing
    from vprep.settings import Settings
    from vprep.sharding.build import Job


def layout_names() -> list[str]:
    """Return the names that --layout takes."""
    return ["auto", *LAYOUTS, *plugins.installed("layout")]


app = typer.Typer(
    help="Turn a folder of videos into shards, and check them.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Source = Annotated[Path, typer.Argument(metavar="SOURCE", help="Folder of videos.")]
Set = Annotated[Path, typer.Argument(metavar="SET", help="Folder of the set.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.", callback=quiet.with_json)]
Workers = Annotated[
    int | None,
    typer.Option(min=1, help="Number of videos processed at once, each on one processor. [default: all processors]"),
]
Timeout = Annotated[float, typer.Option(min=0.1, help="Most seconds that one video may take.")]
Size = Annotated[str, typer.Option(help="Height x width of the stored frames, in pixels.")]
ShortSide = Annotated[
    int | None, typer.Option(help="Length of the shorter side; keeps the aspect ratio and replaces --size.")
]
Fps = Annotated[
    str, typer.Option(help="Stored frames per second; native keeps every frame of a video at its own rate.")
]
Quality = Annotated[int, typer.Option(help="JPEG quality on ffmpeg's scale, from 2 (best) to 31.")]
Shards = Annotated[int | None, typer.Option(help="Number of shards; replaces --shard-mb.")]
ShardMb = Annotated[int, typer.Option(help="Approximate size of a shard, in MB.")]
Seed = Annotated[int, typer.Option(help="Seed of the order in which videos are stored.")]
Layout = Annotated[
    str,
    typer.Option(
        help=f"Layout of SOURCE: auto, {', '.join(LAYOUTS)}; or module:name for your own layout; or a name that an "
        f"installed package offers.",
        autocompletion=completed(layout_names),
    ),
]
Labels = Annotated[
    Path | None, typer.Option(help="Class list, or csv with the columns path,label[,split][,start,end].")
]
SplitLists = Annotated[Path | None, typer.Option("--splits", help="Folder (or file) of the official split lists.")]


@app.callback()
def common(version: Annotated[bool, versions.option("vprep", "imageio-ffmpeg", "pyarrow")] = False) -> None:
    """Take the options that belong to no single command."""


@app.command()
def shard(
    source: Source,
    out: Annotated[Path, typer.Option(help="Folder of the set; a set that was interrupted is continued.")] = Path(
        "data_shards"
    ),
    size: Size = "128x171",
    short_side: ShortSide = None,
    fps: Fps = "25",
    quality: Quality = 3,
    shards: Shards = None,
    shard_mb: ShardMb = 256,
    seed: Seed = 0,
    layout: Layout = "auto",
    labels: Labels = None,
    splits: SplitLists = None,
    workers: Workers = None,
    timeout: Timeout = 300.0,
    max_failures: Annotated[
        str, typer.Option(help="Largest share of videos that may fail; above it, exit code 1.")
    ] = "5%",
    json: Json = False,
) -> None:
    """Make shards from a folder of videos. Run it again to continue where it stopped."""
    from vprep import layouts, summary
    from vprep.settings import read_share
    from vprep.sharding import build

    limit = read_share(max_failures)
    settings = _settings(size, short_side, fps, quality, shards, shard_mb, seed)

    def read_listing() -> "Listing":
        listing = layouts.read(source, layout=layout, splits=splits, labels=labels)
        for line in summary.listing_lines(listing):
            printing.note(line)
        return listing

    with _resumable(out):
        info = build.shard(_job(out, source, workers, timeout), read_listing, settings)
    printing.show(summary.set_info(out, info), json, summary.set_text)
    summary.refuse_failures(out, info, limit)


@app.command()
def retry(
    out: Set,
    cause: Annotated[
        str | None, typer.Option(help="Cause of the failures to retry, such as timeout. [default: every cause]")
    ] = None,
    source: Annotated[Path | None, typer.Option(help="Folder of the videos now, if they were moved.")] = None,
    workers: Workers = None,
    timeout: Timeout = 300.0,
    json: Json = False,
) -> None:
    """Retry the videos that failed. The rest of the set stays as it is."""
    from vprep import summary
    from vprep.format import missing_set
    from vprep.sharding import build, plan

    known = plan.read_plan(out)
    if known is None:
        raise UsageError(missing_set(out))
    with _resumable(out):
        info = build.retry(_job(out, source or known.root, workers, timeout), cause)
    printing.show(summary.set_info(out, info), json, summary.set_text)


@app.command()
def plan(
    source: Source,
    size: Size = "128x171",
    short_side: ShortSide = None,
    fps: Fps = "25",
    quality: Quality = 3,
    shards: Shards = None,
    shard_mb: ShardMb = 256,
    seed: Seed = 0,
    layout: Layout = "auto",
    labels: Labels = None,
    splits: SplitLists = None,
    sample: Annotated[int, typer.Option(min=1, help="Number of videos transcoded for the estimate.")] = 64,
    workers: Workers = None,
    timeout: Timeout = 300.0,
    json: Json = False,
) -> None:
    """Estimate the shards, disk space and time of vprep shard. Writes nothing."""
    from vprep import layouts, summary
    from vprep.layouts import alike
    from vprep.sharding import estimate
    from vprep.video import ffmpeg

    settings = _settings(size, short_side, fps, quality, shards, shard_mb, seed)
    listing = layouts.read(source, layout=layout, splits=splits, labels=labels)
    alike.refuse_alike(listing.classes)
    for line in alike.warnings(listing.classes):
        printing.note(line)
    info = estimate.plan_report(
        listing, source, settings, ffmpeg.find(), sample=sample, workers=_workers(workers), timeout=timeout
    )
    printing.show(info, json, summary.plan_text)


@app.command()
def verify(
    out: Set,
    depth: Annotated[
        str, typer.Option(help="Depth of the check: sizes, hashes (all bytes) or frames (decodes all).")
    ] = "hashes",
    workers: Workers = None,
    json: Json = False,
) -> None:
    """Check that a set is as it was written. If not, list what differs and exit with code 1."""
    from vprep import summary
    from vprep import verify as verifier

    info = verifier.verify(out, depth, workers=_workers(workers))
    printing.show(info, json, summary.verify_text)
    if info["wrong"]:
        raise typer.Exit(1)


@app.command()
def stats(
    out: Set,
    html: Annotated[Path | None, typer.Option(help="Page to write, with charts and playing videos: .html.")] = None,
    json: Json = False,
) -> None:
    """Count the videos, classes, splits, duplicates and damage of a set."""
    from vprep import stats as counter

    if html is None:
        printing.show(counter.stats(out), json, counter.as_table)
        return
    from vprep.set_page import page

    printing.show(page.save_page(out, html), json, page.as_text)


@app.command(context_settings={"ignore_unknown_options": True})  # a key may begin with a dash
def show(
    folder: Set,
    keys: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY]...", help="Keys of videos. [default: the first]", show_default=False),
    ] = None,
    class_name: Annotated[str | None, typer.Option("--class", help="Class whose first videos are shown.")] = None,
    file: Annotated[Path | None, typer.Option("--keys", help="File that lists the keys, one a line.")] = None,
    out: Annotated[
        Path, typer.Option(help="File to write: png or jpg for a contact sheet, mp4, gif or webp for a video.")
    ] = Path("sheet.png"),
    json: Json = False,
) -> None:
    """Show stored videos, as a contact sheet or as a video file. Several are a row each, or play side by side."""
    from vprep import index_rows, preview, preview_many

    chosen = preview_many.choose(folder, keys or [], class_name, file, out)
    if chosen is not None:
        printing.show(preview_many.show_many(folder, chosen, out), json, preview_many.as_text)
        return
    info = preview.show(folder, keys[0] if keys else index_rows.first_key(folder), out)
    printing.show(info, json, lambda info: f"{out}: {info['key']}, {info['shown']} of {info['frames']} frames")


@app.command()
def index(out: Set, json: Json = False) -> None:
    """Rebuild the index of a set, or make one for other WebDataset tars."""
    from vprep import index as indexer
    from vprep import summary

    printing.show(indexer.index(out), json, lambda info: summary.index_text(out, info))


@app.command()
def subset(
    folder: Set,
    rule: Annotated[str, typer.Option(help="Rule: kinetics100, mini-kinetics200, classes:FILE or keys:FILE.")],
    out: Annotated[Path, typer.Option(help="Parquet file to write.")] = Path("subset.parquet"),
    ids: Annotated[
        Path | None, typer.Option(help="File or folder of the authors' id lists, for mini-kinetics200.")
    ] = None,
    json: Json = False,
) -> None:
    """Select a part of a set by a rule, for vtrain's --subset."""
    from vprep import subset as chooser
    from vprep import summary

    info = chooser.subset(folder, rule, out, ids=ids)
    printing.show(info, json, lambda info: summary.subset_text(folder, out, info))


@app.command()
def synth(
    out: Annotated[Path, typer.Option(help="Folder to create.")],
    classes: Annotated[int, typer.Option(help="Number of classes, each a kind of motion: 2 to 16.")] = 8,
    per_class: Annotated[int, typer.Option(help="Videos per class.")] = 20,
    seconds: Annotated[float, typer.Option(help="Length of each video, in seconds.")] = 4.0,
    seed: Annotated[int, typer.Option(help="Seed of the videos; the same seed gives the same bytes.")] = 0,
    json: Json = False,
) -> None:
    """Make small labelled videos for trials, in the layout of UCF101."""
    from vprep import summary
    from vprep import synth as maker

    info = maker.synth(out, classes=classes, per_class=per_class, seconds=seconds, seed=seed)
    printing.show(info, json, lambda info: summary.synth_text(out, info))


@app.command("doctor")
def doctor_command(
    out: Annotated[Path | None, typer.Option(help="Folder whose disk is checked. [default: the current one]")] = None,
    json: Json = False,
) -> None:
    """Check this machine: versions, ffmpeg, processors, memory, disk."""
    from vprep import checks, doctor

    found = doctor.run_checks(out)
    printing.show(checks.as_info(found), json, lambda _: checks.as_table(found))
    if any(check.ok is False for check in found):
        raise typer.Exit(1)


def main(argv: list[str] | None = None) -> Never:
    """Run a command and exit with 0 when it is done, 1 when its work failed, 2 when it cannot be done as asked."""
    sys.exit(exit_code("vprep", lambda: app(argv, prog_name="vprep", standalone_mode=True)))


def _resumable(out: Path) -> contextlib.AbstractContextManager[None]:
    """Let a signal say what is complete and how to continue."""

    def sentence() -> str:
        complete = len(list(out.glob("*.tar")))
        return f"stopped; {complete} shards in {out} are complete: run the same command again to continue"

    return signals.explained(sentence)


def _settings(
    size: str, short_side: int | None, fps: str, quality: int, shards: int | None, shard_mb: int, seed: int
) -> "Settings":
    from vprep.settings import Settings, read_fps, read_size

    height, width = read_size(size)
    return Settings(
        height=height,
        width=width,
        short_side=short_side,
        fps=read_fps(fps),
        quality=quality,
        shards=shards,
        shard_mb=shard_mb,
        seed=seed,
    )


def _job(out: Path, source: Path, workers: int | None, timeout: float) -> "Job":
    from vprep.sharding import build
    from vprep.video import ffmpeg

    return build.Job(out=out, root=source.resolve(), ffmpeg=ffmpeg.find(), workers=_workers(workers), timeout=timeout)


def _workers(number: int | None) -> int:
    from vprep.processors import most_workers, processors
    from vprep.settings import require_range

    require_range("--workers", number or 1, 1, most_workers())
    return number or len(processors())


if __name__ == "__main__":
    main()
