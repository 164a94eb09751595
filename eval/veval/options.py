"""The options of the commands."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from vprep.completion import completed
from vprep.processors import demand_workers
from vprep.quiet import with_json
from vtrain import names, options


def few_enough(count: int | None) -> int | None:
    """Return the number of workers, and refuse one that this machine cannot use."""
    demand_workers(count or 0, "--workers")
    return count


def protocols_in(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete the name of a protocol of the command's task."""
    from veval.protocol import names_for

    known = names_for("testing" if ctx.info_name in ("test", "finetune") else "features")
    return [name for name in known if name.startswith(incomplete)]


def tunings() -> list[str]:
    """Return the words for recipes of fine-tuning, and their names."""
    return ["released", "paper", *(name for name in names.recipes() if name.startswith(("finetune-", "supervised-")))]


Settings = Annotated[list[str] | None, typer.Argument(metavar="key=value ...", help="Protocol settings to change.")]
FromWeights = Annotated[
    str | None,
    typer.Option(help="Weights: a run, a file, random, or random:RUN|RECIPE. [default: the run saved last]"),
]
Tuned = Annotated[
    str | None, typer.Option(help="Fine-tuned run. [default: the run saved last in runs/finetuned/ or runs/]")
]
Shards = Annotated[str | None, typer.Option(help="Shards: a folder, URL, glob, list or range. [default: data_shards/]")]
Cache = options.Cache
CacheGb = options.CacheGb
Backbone = Annotated[
    str | None,
    typer.Option(
        help="Backbone to initialise at random: a name, or module:name; or the run's backbone, if it is from outside. "
        "[default: r3d]",
        autocompletion=completed(names.backbones),
    ),
]
OutsideBackbone = Annotated[
    str | None, typer.Option("--backbone", help="Backbone of the run, if it is from outside vtrain: module:name.")
]
Seed = Annotated[int, typer.Option(help="Seed of random weights and of all random choices.")]
Fold = Annotated[int, typer.Option(help="Fold of the splits: 1, 2 or 3.")]
Named = Annotated[
    str | None,
    typer.Option(
        help="Name of a paper's protocol, such as rspnet or vcop. [default: by the weights' method]",
        autocompletion=protocols_in,
    ),
]
Queries = Annotated[str, typer.Option(help="Split whose videos are the queries.")]
Gallery = Annotated[str, typer.Option(help="Split that is searched.")]
Tested = Annotated[str, typer.Option(help="Split to test on.")]
Learned = Annotated[str, typer.Option(help="Split to learn from.")]
Kept = Annotated[Path | None, typer.Option(help="File to keep the features in and reuse them from, .parquet or .npz.")]
Subset = Annotated[Path | None, typer.Option(help="File of vprep subset; only its videos are used.")]
Out = Annotated[Path | None, typer.Option(help="File for the result. [default: a new one in results/]")]
Few = Annotated[int | None, typer.Option(min=1, help="Use only N labelled videos per class. [default: all]")]
Workers = Annotated[
    int | None,
    typer.Option(min=0, callback=few_enough, help="Number of worker processes. [default: by the machine]"),
]
Device = Annotated[str, typer.Option(help="Device to compute on: cpu or cuda. [default: cuda if there is one]")]
Skip = Annotated[bool, typer.Option("--skip-bad", help="Leave out videos that cannot be read, and list them.")]
Json = Annotated[bool, typer.Option("--json", help="Print exactly one JSON object.", callback=with_json)]
Tuning = Annotated[
    list[str] | None,
    typer.Argument(metavar="key=value ...", help="Recipe settings to change; test.KEY=value changes the protocol."),
]
# torchrun reads --run, in any position, as an abbreviation of an option of its own.
INTO = ("--into", "--run")
Run = Annotated[
    Path | None, typer.Option(*INTO, help="Folder of the training. [default: a new one in runs/finetuned/]")
]
RecipeName = Annotated[
    str,
    typer.Option(
        "--recipe",
        help="Recipe: released, paper, or a name. [default: by weights and data]",
        autocompletion=completed(tunings),
    ),
]
Duplicates = Annotated[str, typer.Option(help="Gallery videos with a query's content: keep, or leave out.")]
Keep = Annotated[int, typer.Option(min=0, max=1000, help="Number of neighbours to keep in the result for each query.")]
Engine = Annotated[str, typer.Option(help="Search engine; exact is the only one.")]
Neighbours = Annotated[int, typer.Option(min=1, help="Number of neighbours that vote.")]
Temperature = Annotated[float, typer.Option(min=1e-6, help="Temperature of votes by similarity.")]
Votes = Annotated[str, typer.Option(help="Weight of a vote: similarity, or same for all.")]
Splits = Annotated[str, typer.Option(help="Splits with commas, as in test,train. [default: all videos]")]
Bootstrap = Annotated[
    Literal["videos", "groups"] | None,
    typer.Option(help="Units that intervals draw: videos, or groups of one film. [default: groups where known]"),
]
FeatureFile = Annotated[Path, typer.Option(help="File for the features, .parquet or .npz.")]
Logits = Annotated[Path | None, typer.Option(help="File to keep each clip's logits in, .parquet or .npz.")]
TrainingSeed = Annotated[int | None, typer.Option(help="Seed of the training. [default: the recipe's]")]
Folds = Annotated[str, typer.Option(help="Several folds, as in 1,2,3, with one result each.")]
Select = Annotated[
    str | None, typer.Option(help="Epoch to test: last, best-on-held-out or best-on-test. [default: the recipe's]")
]
ValGroups = Annotated[bool, typer.Option("--val-groups", help="Hold out whole groups of UCF101.")]
Markdown = Annotated[bool, typer.Option("--markdown", help="Print Markdown tables.")]
Latex = Annotated[bool, typer.Option("--latex", help="Print LaTeX tables with the rules of booktabs.")]
Csv = Annotated[bool, typer.Option("--csv", help="Print CSV with one line for each run and metric.")]
Html = Annotated[Path | None, typer.Option("--html", help="Write one page with pictures to this file.")]
PageShards = Annotated[
    str | None, typer.Option("--shards", help="Shards for the page's pictures. [default: those that the results name]")
]
PageFeatures = Annotated[
    Path | None, typer.Option("--features", help="Features for the page's map, a file of veval features.")
]
PageRuns = Annotated[
    list[Path] | None, typer.Option("--runs", help="Run for the page's curves. [default: those that the results name]")
]
PageMaps = Annotated[
    list[Path] | None, typer.Option("--maps", help="Picture of veval look to put into the page; may be named again.")
]
Map = Annotated[Literal["pca", "tsne", "umap"], typer.Option("--map", help="Method of the page's map.")]
AverageFolds = Annotated[bool, typer.Option("--folds", help="Average the folds of the same measurement.")]
HoldOut = Annotated[
    int | None, typer.Option(min=0, help="Number of training videos to hold out. [default: the recipe's]")
]
Files = Annotated[list[Path] | None, typer.Argument(help="Files of results, or folders of them. [default: results/]")]
