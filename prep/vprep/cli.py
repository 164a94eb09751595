"""The command line: parses, calls, prints."""

import contextlib
import json as jsonlib
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Never

import typer

from vprep.errors import UsageError, WorkError, exit_code
from vprep.layouts import LAYOUTS

if TYPE_CHECKING:
    from vprep.layouts.listing import Listing
    from vprep.settings import Settings
    from vprep.sharding.build import Job

app = typer.Typer(
    help="Make a folder of videos into shards that can be trusted.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Source = Annotated[Path, typer.Argument(help="Folder of videos.")]
Set = Annotated[Path, typer.Argument(help="Folder of the set.")]
Json = Annotated[bool, typer.Option("--json", help="Print exactly one JSON object.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Videos at once; each takes one processor. [default: all]")]
Timeout = Annotated[float, typer.Option(min=0.1, help="Seconds that one video may take.")]
Size = Annotated[str, typer.Option(help="Height x width of the stored frames.")]
ShortSide = Annotated[int | None, typer.Option(help="Keep the aspect, with this shorter side, instead of --size.")]
Fps = Annotated[float, typer.Option(help="Frames per second to store.")]
Quality = Annotated[int, typer.Option(help="JPEG quality as ffmpeg counts it, 2 (best) to 31.")]
Shards = Annotated[int | None, typer.Option(help="How many shards, instead of --shard-mb.")]
ShardMb = Annotated[int, typer.Option(help="About how large a shard should be.")]
Seed = Annotated[int, typer.Option(help="Of the order in which videos are stored.")]
Layout = Annotated[
    str,
    typer.Option(
        help=f"How videos and labels lie in the folder: auto, {', '.join(LAYOUTS)}; another name that an installed "
        f"package offers; or module:name, as in my_package.layouts:read."
    ),
]
Labels = Annotated[Path | None, typer.Option(help="Class list, or csv of path,label[,split][,start,end].")]
SplitLists = Annotated[Path | None, typer.Option("--splits", help="Folder (or file) of the official lists.")]


@app.command()
def shard(
    source: Source,
    out: Annotated[Path, typer.Option(help="Folder of the set; run again to go on.")] = Path("data_shards"),
    size: Size = "128x171",
    short_side: ShortSide = None,
    fps: Fps = 25.0,
    quality: Quality = 3,
    shards: Shards = None,
    shard_mb: ShardMb = 256,
    seed: Seed = 0,
    layout: Layout = "auto",
    labels: Labels = None,
    splits: SplitLists = None,
    workers: Workers = None,
    timeout: Timeout = 300.0,
    max_failures: Annotated[str, typer.Option(help="More than this share is an error.")] = "5%",
    json: Json = False,
) -> None:
    """Make shards from a folder of videos. Running it again goes on where it stopped."""
    from vprep import layouts, summary
    from vprep.settings import read_share
    from vprep.sharding import build

    limit = read_share(max_failures)
    settings = _settings(size, short_side, fps, quality, shards, shard_mb, seed)

    def read_listing() -> "Listing":
        listing = layouts.read(source, layout=layout, splits=splits, labels=labels)
        for line in summary.oddities(listing):
            print(line, file=sys.stderr)
        return listing

    with _can_go_on(out):
        facts = build.shard(_job(out, source, workers, timeout), read_listing, settings)
    _show(summary.of_set(out, facts), json, summary.as_text)
    summary.refuse_losses(out, facts, limit)


@app.command()
def retry(
    out: Set,
    cause: Annotated[str | None, typer.Option(help="Only failures of this cause, as in timeout.")] = None,
    source: Annotated[Path | None, typer.Option(help="Where the videos are now, if they moved.")] = None,
    workers: Workers = None,
    timeout: Timeout = 300.0,
    json: Json = False,
) -> None:
    """Try failed videos again; everything else in the set stays as it is."""
    from vprep import summary
    from vprep.format import missing_set
    from vprep.sharding import build, plan

    known = plan.thaw(out)
    if known is None:
        raise UsageError(missing_set(out))
    with _can_go_on(out):
        facts = build.retry(_job(out, source or known.root, workers, timeout), cause)
    _show(summary.of_set(out, facts), json, summary.as_text)


@app.command()
def plan(
    source: Source,
    size: Size = "128x171",
    short_side: ShortSide = None,
    fps: Fps = 25.0,
    quality: Quality = 3,
    shards: Shards = None,
    shard_mb: ShardMb = 256,
    seed: Seed = 0,
    layout: Layout = "auto",
    labels: Labels = None,
    splits: SplitLists = None,
    sample: Annotated[int, typer.Option(min=1, help="Videos that are tried for the estimate.")] = 64,
    workers: Workers = None,
    timeout: Timeout = 300.0,
    json: Json = False,
) -> None:
    """Say what vprep shard would find and make, and what it would take. Writes nothing."""
    from vprep import layouts, summary
    from vprep.sharding import estimate
    from vprep.video import ffmpeg

    settings = _settings(size, short_side, fps, quality, shards, shard_mb, seed)
    listing = layouts.read(source, layout=layout, splits=splits, labels=labels)
    facts = estimate.plan_report(
        listing, source, settings, ffmpeg.find(), sample=sample, workers=_workers(workers), timeout=timeout
    )
    _show(facts, json, summary.plan_text)


@app.command()
def verify(
    out: Set,
    depth: Annotated[str, typer.Option(help="sizes, hashes or frames.")] = "hashes",
    workers: Workers = None,
    json: Json = False,
) -> None:
    """Check that a set is what was written. Exit code 1 and a list when it is not."""
    from vprep import summary
    from vprep import verify as verifier

    facts = verifier.verify(out, depth, workers=_workers(workers))
    _show(facts, json, summary.verify_text)
    if facts["wrong"]:
        raise typer.Exit(1)


@app.command()
def stats(out: Set, json: Json = False) -> None:
    """Count what is in a set."""
    from vprep import stats as counter

    _show(counter.stats(out), json, counter.table)


@app.command(context_settings={"ignore_unknown_options": True})  # a key may begin with a dash
def show(
    folder: Annotated[Path, typer.Argument(metavar="SET", help="Folder of the set.")],
    key: Annotated[str | None, typer.Argument(help="Key of a video. [default: the first]", show_default=False)] = None,
    out: Annotated[Path, typer.Option(help="png or jpg: a contact sheet; mp4 or gif: the video.")] = Path("sheet.png"),
    json: Json = False,
) -> None:
    """Draw one stored video."""
    from vprep import index_rows
    from vprep import preview as drawer

    facts = drawer.show(folder, key or index_rows.first_key(folder), out)
    _show(facts, json, lambda facts: f"{out}: {facts['key']}, {facts['shown']} of {facts['frames']} frames")


@app.command()
def index(out: Set, json: Json = False) -> None:
    """Rebuild a set's index from its tars, or make one for WebDataset tars of others."""
    from vprep import index as indexer
    from vprep import summary

    _show(indexer.index(out), json, summary.index_text)


@app.command()
def subset(
    folder: Annotated[Path, typer.Argument(metavar="SET", help="Folder of the set.")],
    rule: Annotated[str, typer.Option(help="kinetics100, mini-kinetics200, classes:FILE or keys:FILE.")],
    out: Annotated[Path, typer.Option(help="Parquet file to write.")] = Path("subset.parquet"),
    ids: Annotated[Path | None, typer.Option(help="Id lists of the authors, for mini-kinetics200.")] = None,
    json: Json = False,
) -> None:
    """Write down a part of a set for vtrain's --subset."""
    from vprep import subset as chooser

    facts = chooser.subset(folder, rule, out, ids=ids)
    _show(facts, json, lambda facts: f"{out}: {facts['videos']} videos of {facts['classes']} classes")


@app.command()
def synth(
    out: Annotated[Path, typer.Option(help="Folder to make.")],
    classes: Annotated[int, typer.Option(help="Kinds of motion, 2 to 16.")] = 8,
    per_class: Annotated[int, typer.Option(help="Videos of each.")] = 20,
    seconds: Annotated[float, typer.Option(help="Length of a video.")] = 4.0,
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 0,
    json: Json = False,
) -> None:
    """Make small labelled videos to try things on, in the layout of UCF101."""
    from vprep import synth as maker

    facts = maker.synth(out, classes=classes, per_class=per_class, seconds=seconds, seed=seed)
    _show(facts, json, lambda facts: f"{out}: {facts['videos']} videos of {len(facts['classes'])} classes")


@app.command()
def doctor(
    out: Annotated[Path | None, typer.Option(help="Folder whose disk is tried. [default: here]")] = None,
    json: Json = False,
) -> None:
    """Check this machine: versions, ffmpeg, processors, disk."""
    from vprep import doctor as physician

    checks = physician.examine(out)
    _show(physician.as_facts(checks), json, lambda _: physician.table(checks))
    if any(check.ok is False for check in checks):
        raise typer.Exit(1)


def main(argv: list[str] | None = None) -> Never:
    """Run the command; 0 done, 1 failed while working, 2 asked wrongly."""
    for number in (signal.SIGINT, signal.SIGTERM):  # a script's background job starts with SIGINT ignored
        signal.signal(number, _interrupt)
    sys.exit(exit_code("vprep", lambda: app(argv, prog_name="vprep", standalone_mode=True)))


@contextlib.contextmanager
def _can_go_on(out: Path) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the work in order, and tell how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        whole = len(list(out.glob("*.tar")))
        raise WorkError(f"stopped; {whole} shards in {out} are whole: run the same command again to go on") from None


def _interrupt(number: int, frame: FrameType | None) -> None:
    """The first signal ends the work in order; further ones do not disturb that."""
    for further in (signal.SIGINT, signal.SIGTERM):
        signal.signal(further, signal.SIG_IGN)
    raise KeyboardInterrupt


def _settings(
    size: str, short_side: int | None, fps: float, quality: int, shards: int | None, shard_mb: int, seed: int
) -> "Settings":
    from vprep.settings import Settings, read_size

    height, width = read_size(size)
    return Settings(
        height=height,
        width=width,
        short_side=short_side,
        fps=fps,
        quality=quality,
        shards=shards,
        shard_mb=shard_mb,
        seed=seed,
    )


def _job(out: Path, source: Path, workers: int | None, timeout: float) -> "Job":
    from vprep.sharding import build
    from vprep.video import ffmpeg

    return build.Job(out=out, root=source.resolve(), ffmpeg=ffmpeg.find(), workers=_workers(workers), timeout=timeout)


def _workers(asked: int | None) -> int:
    from vprep.processors import processors

    return asked or len(processors())


def _show(facts: dict[str, Any], json: bool, words: Callable[[dict[str, Any]], object]) -> None:
    """The result on stdout: one JSON object, or words for people."""
    if json:
        print(jsonlib.dumps(facts, ensure_ascii=False, default=str))
    else:
        from rich.console import Console

        Console(highlight=False, soft_wrap=True).print(words(facts), markup=False)


if __name__ == "__main__":
    main()
