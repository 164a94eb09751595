"""Options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

from vprep.completion import completed
from vprep.quiet import with_json
from vtrain import names
from vtrain.data.cache.place import choose_folder, choose_gb


def allow(word: str | None) -> str | None:
    """Return `word`, and allow the import of the backbone that it names as module:name."""
    if word is not None and ":" in word:
        from vtrain import backbones

        backbones.allow(word)
    return word


SETS = "data_shards"  # the set that commands take where none is named
SHARDS = "Shards to read: a folder, a URL such as s3://bucket/set, a glob, a list, or 'data_shards/<000..999>.tar'."
Shards = Annotated[str, typer.Option(help=SHARDS)]
Cache = Annotated[
    Path | None,
    typer.Option(
        help="Folder for copies of shards in a store. [default: ~/.cache/playspeed, or below XDG_CACHE_HOME]",
        callback=choose_folder,
    ),
]
CacheGb = Annotated[
    float | None,
    typer.Option(
        min=0.001,
        help="Gigabytes of shards that the cache may hold. [default: half of the disk's free space]",
        callback=choose_gb,
    ),
]
Subset = Annotated[Path | None, typer.Option(help="File of vprep subset that lists the videos to use.")]
Split = Annotated[str | None, typer.Option(help="Split to read, such as train or test. [default: all videos]")]
Fold = Annotated[int, typer.Option(help="Fold of the split: 1, 2 or 3.")]
Seconds = Annotated[float, typer.Option(min=0.1, help="Seconds that each measurement takes.")]
Device = Annotated[str, typer.Option(help="Device: cpu or cuda. [default: cuda where there is one]")]
Json = Annotated[bool, typer.Option("--json", help="Print exactly one JSON object.", callback=with_json)]
Settings = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="key=value ...", help="Settings that differ from the recipe's.", autocompletion=names.settings_in
    ),
]
Method = Annotated[
    str,
    typer.Argument(
        help="Method: a name that vtrain --help lists, or module:METHOD from outside the package.",
        autocompletion=completed(names.methods),
    ),
]
Recipe = Annotated[
    str,
    typer.Option(
        help="Recipe: released, paper, tiny, a name of vtrain recipes, or a recipe.json.",
        autocompletion=names.recipes_in,
    ),
]
Backbone = Annotated[
    str | None,
    typer.Option(
        help="Backbone that replaces the recipe's: a name, or module:name from outside.",
        callback=allow,
        autocompletion=completed(names.backbones),
    ),
]
