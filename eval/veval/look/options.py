"""The options of `veval look`; it has others in common with the other commands."""

from pathlib import Path
from typing import Annotated, Literal

import typer

Weights = Annotated[
    str | None, typer.Option(help="Weights: a run, the authors' file, or random:RUN. [default: newest]")
]
AnyWeights = Annotated[
    str | None, typer.Option(help="Weights: a run, a file, random, or random:RUN. [default: newest]")
]
Several = Annotated[
    list[str] | None, typer.Option("--weights", help="Weights as for attention; several give a column each.")
]
Split = Annotated[str, typer.Option(help="Split to take videos from, or all.")]
Key = Annotated[list[str] | None, typer.Option("--key", help="Video to show; may be repeated.")]
Class = Annotated[list[str] | None, typer.Option("--class", help="Class to take videos of; may be repeated.")]
Count = Annotated[int | None, typer.Option(min=1, help="Number of videos, drawn by --seed. [default: 4]")]
Seed = Annotated[int, typer.Option(help="Seed of the drawn videos and of random weights.")]
Scale = Annotated[
    Literal["clip", "shared"],
    typer.Option(help="Range of the colours: of each map, or shared by all maps of the picture."),
]
Alpha = Annotated[float, typer.Option(help="Share of the map's colours, from 0 to 1.")]
Tile = Annotated[int | None, typer.Option(help="Side of each frame in pixels. [default: by the clips]")]
Threshold = Annotated[float, typer.Option(help="Share of a map's range from which positions are outlined.")]
Step = Annotated[int, typer.Option("--speed", min=1, help="Speed of both clips: every N-th frame.")]
Speed = Annotated[int | None, typer.Option(min=1, help="Playback speed. [default: 2, if the network knows it]")]
Paces = Annotated[str, typer.Option(help="Paces with commas, as in 1,2,4 or 1/2,1. [default: the run's]")]
Out = Annotated[
    Path | None,
    typer.Option(help="Picture: .png, .jpg, .gif, .webp or .html; or a folder. [default: a new one in results/]"),
]
Result = Annotated[Path, typer.Argument(help="Result of veval retrieval.")]
Shown = Annotated[int, typer.Option("--neighbours", min=1, help="Neighbours of each query to show.")]
Order = Annotated[
    Literal["random", "worst"], typer.Option(help="Order of the queries: drawn by --seed, or worst first.")
]
Queries = Annotated[int, typer.Option(min=1, max=50, help="Number of queries.")]
ResultShards = Annotated[str | None, typer.Option(help="Shards of the videos. [default: those of the result]")]
