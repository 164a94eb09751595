"""The options of vprep's commands."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from vprep import plugins, quiet
from vprep.completion import completed
from vprep.layouts import LAYOUTS


def layout_names() -> list[str]:
    """Return the names that --layout takes."""
    return ["auto", *LAYOUTS, *plugins.installed("layout")]


Source = Annotated[str, typer.Argument(metavar="SOURCE", help="Folder of videos, or a URL as s3://bucket/videos.")]
Scratch = Annotated[
    Path | None, typer.Option(help="Folder for files on their way to a store or from it. [default: $TMPDIR]")
]
Set = Annotated[str, typer.Argument(metavar="SET", help="Folder of the set, or its URL.")]
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
Labels = Annotated[str | None, typer.Option(help="Class list, or csv with the columns path,label[,split][,start,end].")]
SplitLists = Annotated[str | None, typer.Option("--splits", help="Folder (or file) of the official split lists.")]
SourceOrNone = Annotated[
    str | None, typer.Argument(metavar="SOURCE", help="Folder of videos, or a URL as s3://bucket/videos.")
]
NewSet = Annotated[str, typer.Option(help="Folder or URL of the set; a set that was interrupted is continued.")]
MaxFailures = Annotated[str, typer.Option(help="Largest share of videos that may fail; above it, exit code 1.")]
EngineName = Annotated[
    Literal["local", "ray"],
    typer.Option(
        help="Engine that makes the shards: this machine, or the nodes of a Ray cluster, by a task for each shard on "
        "--workers processors (then 1 by default)."
    ),
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        help="Head of the Ray cluster, or auto for the one of this machine. [default: $RAY_ADDRESS, or else a "
        "cluster of this machine alone]",
    ),
]
Part = Annotated[
    str | None,
    typer.Option(
        metavar="I/N", help="Make only part I, from 0, of N parts; other processes make the others. See --assemble."
    ),
]
Assemble = Annotated[
    str | None,
    typer.Option(metavar="SET", help="Write the index of this set, whose parts are made; make no shards."),
]
