"""The command line of vprep: parse the arguments, call the command, print the result."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Never

import typer

from vprep import options as opt
from vprep import printing, versions
from vprep.errors import UsageError, exit_code, refuse_secrets, refuse_stores

if TYPE_CHECKING:
    from vprep.layouts.listing import Listing
    from vprep.sharding.destination import Destination


LOCAL = ("--scratch", "--html")  # options that take no URL

app = typer.Typer(
    help="Turn a folder of videos into shards, and check them.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def common(version: Annotated[bool, versions.option("vprep", "imageio-ffmpeg", "pyarrow")] = False) -> None:
    """Take the options that belong to no single command."""


@app.command()
def shard(
    source: opt.SourceOrNone = None,
    out: opt.NewSet = "data_shards",
    size: opt.Size = "128x171",
    short_side: opt.ShortSide = None,
    fps: opt.Fps = "25",
    quality: opt.Quality = 3,
    shards: opt.Shards = None,
    shard_mb: opt.ShardMb = 256,
    seed: opt.Seed = 0,
    layout: opt.Layout = "auto",
    labels: opt.Labels = None,
    splits: opt.SplitLists = None,
    workers: opt.Workers = None,
    timeout: opt.Timeout = 300.0,
    max_failures: opt.MaxFailures = "5%",
    engine: opt.EngineName = "local",
    ray_address: opt.RayAddress = None,
    part: opt.Part = None,
    assemble: opt.Assemble = None,
    scratch: opt.Scratch = None,
    json: opt.Json = False,
) -> None:
    """Make shards from a folder of videos. Run it again to continue where it stopped."""
    from vprep import summary
    from vprep.layouts import remote
    from vprep.settings import read_share
    from vprep.sharding import build, command, destination, parts
    from vprep.store import place

    limit = read_share(max_failures)
    settings = command.settings_of(size, short_side, fps, quality, shards, shard_mb, seed)
    if assemble is not None:
        command.refuse_beside_assemble(source, engine, part)
        with destination.opened(place(assemble), scratch) as made:
            _show_set(made, parts.assemble(made), limit, json)
        return
    folder, chosen = place(command.required(source)), parts.read_part(part) if part is not None else None
    maker = command.engine_of(engine, ray_address, part)

    def read_listing() -> "Listing":
        listing = remote.read(folder, layout=layout, splits=splits, labels=labels, scratch=scratch)
        for line in summary.listing_lines(listing):
            printing.note(line)
        return listing

    with command.opened_job(
        place(out), folder, _workers(workers or (1 if engine == "ray" else None)), timeout, scratch
    ) as job:
        with command.resumable(job.out):
            if chosen is None:
                info: dict[str, Any] | None = build.shard(job, read_listing, settings, maker)
            else:
                info = parts.shard_part(job, read_listing, settings, chosen)
        if info is not None:
            _show_set(job.out, info, limit, json)
        elif chosen is not None:
            printing.show(parts.part_info(job.out, chosen), json, parts.part_text)


@app.command()
def retry(
    out: opt.Set,
    cause: Annotated[
        str | None, typer.Option(help="Cause of the failures to retry, such as timeout. [default: every cause]")
    ] = None,
    source: Annotated[str | None, typer.Option(help="Place of the videos now, if they were moved.")] = None,
    workers: opt.Workers = None,
    timeout: opt.Timeout = 300.0,
    scratch: opt.Scratch = None,
    json: opt.Json = False,
) -> None:
    """Retry the videos that failed. The rest of the set stays as it is."""
    from vprep import summary
    from vprep.format import missing_set
    from vprep.sharding import build, command, destination, plan
    from vprep.store import place

    with destination.opened(place(out), scratch) as made:
        known = plan.plan_of(made)
        if known is None:
            raise UsageError(missing_set(made.folder))
    with command.opened_job(place(out), place(source or known.root), _workers(workers), timeout, scratch) as job:
        with command.resumable(job.out):
            info = build.retry(job, cause)
        printing.show(summary.set_info(job.out, info), json, summary.set_text)


@app.command()
def plan(
    source: opt.Source,
    size: opt.Size = "128x171",
    short_side: opt.ShortSide = None,
    fps: opt.Fps = "25",
    quality: opt.Quality = 3,
    shards: opt.Shards = None,
    shard_mb: opt.ShardMb = 256,
    seed: opt.Seed = 0,
    layout: opt.Layout = "auto",
    labels: opt.Labels = None,
    splits: opt.SplitLists = None,
    sample: Annotated[int, typer.Option(min=1, help="Number of videos transcoded for the estimate.")] = 64,
    workers: opt.Workers = None,
    timeout: opt.Timeout = 300.0,
    scratch: opt.Scratch = None,
    json: opt.Json = False,
) -> None:
    """Estimate the shards, disk space and time of vprep shard. Writes nothing."""
    from vprep import summary
    from vprep.layouts import alike, remote
    from vprep.sharding import command, estimate, videos
    from vprep.store import place
    from vprep.video import ffmpeg

    settings = command.settings_of(size, short_side, fps, quality, shards, shard_mb, seed)
    folder = place(source)
    listing = remote.read(folder, layout=layout, splits=splits, labels=labels, scratch=scratch)
    alike.refuse_alike(listing.classes)
    for line in alike.warnings(listing.classes):
        printing.note(line)
    with videos.opened(folder, scratch) as found:
        info = estimate.plan_report(
            listing, found, settings, ffmpeg.find(), sample=sample, workers=_workers(workers), timeout=timeout
        )
    printing.show(info, json, summary.plan_text)


@app.command()
def verify(
    out: opt.Set,
    depth: Annotated[
        str, typer.Option(help="Depth of the check: sizes, hashes (all bytes) or frames (decodes all).")
    ] = "hashes",
    workers: opt.Workers = None,
    scratch: opt.Scratch = None,
    json: opt.Json = False,
) -> None:
    """Check that a set is as it was written. If not, list what differs and exit with code 1."""
    from vprep import set_files, summary
    from vprep import verify as verifier

    with set_files.opened(out, scratch=scratch, shards=True) as files:
        info = files.shown(verifier.verify(files.folder, depth, workers=_workers(workers), files=files))
    printing.show(info, json, summary.verify_text)
    if info["wrong"]:
        raise typer.Exit(1)


@app.command()
def stats(
    out: opt.Set,
    html: Annotated[Path | None, typer.Option(help="HTML page to write, with charts and moving pictures.")] = None,
    json: opt.Json = False,
) -> None:
    """Count the videos, classes, splits, duplicates and damage of a set."""
    from vprep import set_files
    from vprep import stats as counter

    if html is None:
        with set_files.opened(out) as files:
            printing.show(files.shown(counter.stats(files.folder)), json, counter.as_table)
        return
    from vprep.set_page import page

    printing.show(page.save_page(set_files.local_set(out, "vprep stats --html"), html), json, page.as_text)


@app.command(context_settings={"ignore_unknown_options": True})  # a key may begin with a dash
def show(
    folder: opt.Set,
    keys: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY]...", help="Keys of videos. [default: the first]", show_default=False),
    ] = None,
    class_name: Annotated[str | None, typer.Option("--class", help="Class whose first videos are shown.")] = None,
    file: Annotated[Path | None, typer.Option("--keys", help="File that lists the keys, one a line.")] = None,
    out: Annotated[
        Path, typer.Option(help="File to write: png or jpg for a contact sheet, mp4, gif or webp for a video.")
    ] = Path("sheet.png"),
    json: opt.Json = False,
) -> None:
    """Show stored videos, as a contact sheet or as a video file. Several are a row each, or play side by side."""
    from vprep import index_rows, preview, preview_many, set_files

    with set_files.opened(folder) as files:
        chosen = preview_many.choose(files.folder, keys or [], class_name, file, out)
        if chosen is not None:
            files.bring_videos(chosen.keys)
            printing.show(preview_many.show_many(files.folder, chosen, out), json, preview_many.as_text)
            return
        key = keys[0] if keys else index_rows.first_key(files.folder)
        files.bring_videos([key])
        info = preview.show(files.folder, key, out)
    printing.show(info, json, lambda info: f"{out}: {info['key']}, {info['shown']} of {info['frames']} frames")


@app.command()
def index(out: opt.Set, json: opt.Json = False) -> None:
    """Rebuild the index of a set, or make one for other WebDataset tars."""
    from vprep import index as indexer
    from vprep import set_files, summary

    folder = set_files.local_set(out, "vprep index")
    printing.show(indexer.index(folder), json, lambda info: summary.index_text(folder, info))


@app.command()
def subset(
    folder: opt.Set,
    rule: Annotated[str, typer.Option(help="Rule: kinetics100, mini-kinetics200, classes:FILE or keys:FILE.")],
    out: Annotated[Path, typer.Option(help="Parquet file to write.")] = Path("subset.parquet"),
    ids: Annotated[
        Path | None, typer.Option(help="File or folder of the authors' id lists, for mini-kinetics200.")
    ] = None,
    json: opt.Json = False,
) -> None:
    """Select a part of a set by a rule, for vtrain's --subset."""
    from vprep import set_files, summary
    from vprep import subset as chooser

    with set_files.opened(folder) as files:
        info = chooser.subset(files.folder, rule, out, ids=ids)
    printing.show(info, json, lambda info: summary.subset_text(str(files), out, info))


@app.command()
def synth(
    out: Annotated[Path, typer.Option(help="Folder to create.")],
    classes: Annotated[int, typer.Option(help="Number of classes, each a kind of motion: 2 to 16.")] = 8,
    per_class: Annotated[int, typer.Option(help="Videos per class.")] = 20,
    seconds: Annotated[float, typer.Option(help="Length of each video, in seconds.")] = 4.0,
    seed: Annotated[int, typer.Option(help="Seed of the videos; the same seed gives the same bytes.")] = 0,
    json: opt.Json = False,
) -> None:
    """Make small labelled videos for trials, in the layout of UCF101."""
    from vprep import summary
    from vprep import synth as maker

    info = maker.synth(out, classes=classes, per_class=per_class, seconds=seconds, seed=seed)
    printing.show(info, json, lambda info: summary.synth_text(out, info))


@app.command("doctor")
def doctor_command(
    out: Annotated[Path | None, typer.Option(help="Folder whose disk is checked. [default: the current one]")] = None,
    json: opt.Json = False,
) -> None:
    """Check this machine: versions, ffmpeg, processors, memory, disk."""
    from vprep import checks, doctor

    found = doctor.run_checks(out)
    printing.show(checks.as_info(found), json, lambda _: checks.as_table(found))
    if any(check.ok is False for check in found):
        raise typer.Exit(1)


def main(argv: list[str] | None = None) -> Never:
    """Run a command and exit with 0 when it is done, 1 when its work failed, 2 when it cannot be done as asked."""

    def command() -> None:
        words = sys.argv[1:] if argv is None else argv
        refuse_secrets(words)
        writes_to_stores = words[:1] in (["shard"], ["retry"])
        refuse_stores(words, lambda option: option in LOCAL or (option == "--out" and not writes_to_stores))
        app(argv, prog_name="vprep", standalone_mode=True)

    sys.exit(exit_code("vprep", command))


def _show_set(out: "Destination", info: dict[str, Any], limit: float, json: bool) -> None:
    """Print the result of vprep shard; fail when more than the share `limit` of the videos failed."""
    from vprep import summary

    printing.show(summary.set_info(out, info), json, summary.set_text)
    summary.refuse_failures(out, info, limit)


def _workers(number: int | None) -> int:
    from vprep.processors import most_workers, processors
    from vprep.settings import require_range

    require_range("--workers", number or 1, 1, most_workers())
    return number or len(processors())


if __name__ == "__main__":
    main()
