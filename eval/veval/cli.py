"""The command line: parses, calls, prints."""

import json as jsonlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Never

import typer

from veval import output
from vprep.errors import UsageError, exit_code

if TYPE_CHECKING:
    from veval.evaluation import Evaluation, Execution, Weights
    from vtrain.recipes.recipe import Recipe

WIDTH = 240  # characters per line of a report that does not go to a terminal

app = typer.Typer(
    help="Measure what a network has learned; each result holds the protocol it was measured by.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Settings = Annotated[list[str] | None, typer.Argument(metavar="key=value ...", help="Changes of the protocol.")]
FromWeights = Annotated[
    str | None,
    typer.Option(help="Weights: a run, a file, random, or random:RUN. [default: the run saved last]"),
]
Tuned = Annotated[
    str | None, typer.Option(help="Fine-tuned run. [default: the one saved last in runs/finetuned/ or runs/]")
]
Shards = Annotated[str | None, typer.Option(help="Shards: a folder, glob, list or range. [default: data_shards/]")]
Backbone = Annotated[
    str | None, typer.Option(help="Backbone to initialise at random: a name, or module:name. [default: r3d]")
]
OutsideBackbone = Annotated[
    str | None, typer.Option("--backbone", help="Backbone of the run, if it is from outside vtrain: module:name.")
]
Seed = Annotated[int, typer.Option(help="Seed of random weights and of everything drawn.")]
Fold = Annotated[int, typer.Option(help="Fold of the splits: 1, 2 or 3.")]
Named = Annotated[str | None, typer.Option(help="Name of a paper's protocol. [default: by the weights' method]")]
Queries = Annotated[str, typer.Option(help="Split whose videos are the queries.")]
Gallery = Annotated[str, typer.Option(help="Split that is searched.")]
Tested = Annotated[str, typer.Option(help="Split to test on.")]
Learned = Annotated[str, typer.Option(help="Split to learn from.")]
Kept = Annotated[Path | None, typer.Option(help="File to keep the features in and reuse them from, .parquet or .npz.")]
Subset = Annotated[Path | None, typer.Option(help="File of vprep subset; only its videos are used.")]
Out = Annotated[Path | None, typer.Option(help="File for the result. [default: a new one in results/]")]
Few = Annotated[int | None, typer.Option(min=1, help="Use only N labelled videos per class. [default: all]")]
Workers = Annotated[int | None, typer.Option(min=0, help="Number of worker processes. [default: by the machine]")]
Device = Annotated[str, typer.Option(help="Device to compute on: cpu or cuda. [default: cuda if there is one]")]
Skip = Annotated[bool, typer.Option("--skip-bad", help="Leave out videos that cannot be read, and list them.")]
Json = Annotated[bool, typer.Option("--json", help="Print exactly one JSON object.")]


@app.command()
def retrieval(
    settings: Settings = None, weights: FromWeights = None, shards: Shards = None, backbone: Backbone = None,
    seed: Seed = 0, fold: Fold = 1, split: Queries = "test", gallery: Gallery = "train", protocol: Named = None,
    duplicates: Annotated[str, typer.Option(help="Videos of a query's content: keep, or leave out.")] = "keep",
    engine: Annotated[str, typer.Option(help="Search engine; exact is the only one.")] = "exact",
    features: Kept = None, subset: Subset = None, out: Out = None, workers: Workers = None, device: Device = "",
    skip_bad: Skip = False, json: Json = False,
) -> None:  # fmt: skip
    """Search the gallery for videos of each query's class."""
    from veval import commands

    if duplicates not in ("keep", "leave out"):
        raise UsageError(f"--duplicates is '{duplicates}'; there are keep and 'leave out'")
    if engine != "exact":
        raise UsageError(f"--engine is '{engine}'; there is exact")
    output.prepare(out)
    evaluation = _evaluation(
        weights,
        shards,
        backbone,
        seed,
        (split, gallery),
        fold,
        subset,
        protocol,
        settings,
        _execution(device, workers, skip_bad),
    )
    found = commands.retrieval(
        evaluation, features=features, leave_out="same content" if duplicates == "leave out" else "nothing"
    )
    output.finish(found, out, json)


@app.command()
def linear(
    settings: Settings = None, weights: FromWeights = None, shards: Shards = None, backbone: Backbone = None,
    seed: Seed = 0, fold: Fold = 1, split: Tested = "test", gallery: Learned = "train", protocol: Named = None,
    few: Few = None, features: Kept = None, out: Out = None, workers: Workers = None, device: Device = "",
    skip_bad: Skip = False, json: Json = False,
) -> None:  # fmt: skip
    """Train a linear layer on frozen features, and test it."""
    from veval import commands

    output.prepare(out)
    evaluation = _evaluation(
        weights,
        shards,
        backbone,
        seed,
        (split, gallery),
        fold,
        None,
        protocol,
        settings,
        _execution(device, workers, skip_bad),
    )
    output.finish(commands.linear(evaluation, features=features, few=few, seed=seed), out, json)


@app.command()
def knn(
    settings: Settings = None, weights: FromWeights = None, shards: Shards = None, backbone: Backbone = None,
    seed: Seed = 0, fold: Fold = 1, split: Tested = "test", gallery: Learned = "train", protocol: Named = None,
    k: Annotated[int, typer.Option(min=1, help="Number of neighbours that vote.")] = 20,
    temperature: Annotated[float, typer.Option(min=1e-6, help="Temperature of votes by similarity.")] = 0.07,
    votes: Annotated[str, typer.Option(help="Weight of a vote: similarity, or same for all.")] = "similarity",
    few: Few = None, features: Kept = None, out: Out = None, workers: Workers = None, device: Device = "",
    skip_bad: Skip = False, json: Json = False,
) -> None:  # fmt: skip
    """Let the nearest labelled videos vote on the class."""
    from veval import commands
    from veval.tasks.knn import Voting

    output.prepare(out)
    voting = Voting(k=k, temperature=temperature, votes=votes)
    evaluation = _evaluation(
        weights,
        shards,
        backbone,
        seed,
        (split, gallery),
        fold,
        None,
        protocol,
        settings,
        _execution(device, workers, skip_bad),
    )
    output.finish(commands.knn(evaluation, features=features, few=few, seed=seed, voting=voting), out, json)


@app.command()
def features(
    settings: Settings = None, weights: FromWeights = None, shards: Shards = None, backbone: Backbone = None,
    seed: Seed = 0, fold: Fold = 1,
    splits: Annotated[str, typer.Option(help="Splits with commas, as in test,train. [default: all videos]")] = "",
    out: Annotated[Path, typer.Option(help="File for the features, .parquet or .npz.")] = Path("features.parquet"),
    protocol: Named = None, subset: Subset = None, workers: Workers = None, device: Device = "",
    skip_bad: Skip = False, json: Json = False,
) -> None:  # fmt: skip
    """Write the features of videos to a file.

    If the command is stopped, the same command goes on.
    """
    from veval.features import extract
    from veval.features.feature_file import read_info

    output.prepare(out)
    words = [word for word in splits.split(",") if word] or None
    evaluation = _evaluation(
        weights, shards, backbone, seed, words, fold, subset, protocol, settings, _execution(device, workers, skip_bad)
    )
    extract.write(extract.work_of(evaluation), out)
    if output.is_first():
        counts, dropped = evaluation.data.info.videos, read_info(out)["dropped"]
        found = {"out": str(out), "videos": counts, "dropped": dropped}
        found["protocol"] = evaluation.protocol.as_dict("features")
        line = f"{out}: {sum(counts.values()) - len(dropped)} videos, {len(dropped)} dropped"
        print(jsonlib.dumps(found, ensure_ascii=False) if json else line)


@app.command("test")
def accuracy(
    settings: Settings = None, weights: Tuned = None, shards: Shards = None, fold: Fold = 1, split: Tested = "test",
    protocol: Named = None, backbone: OutsideBackbone = None,
    logits: Annotated[Path | None, typer.Option(help="File to keep each clip's logits in, .parquet or .npz.")] = None,
    out: Out = None, workers: Workers = None, device: Device = "", skip_bad: Skip = False, json: Json = False,
) -> None:  # fmt: skip
    """Test a fine-tuned network on whole videos.

    The default is ten clips per video.
    """
    from veval import commands, inputs
    from veval.evaluation import Evaluation
    from veval.protocol import for_weights
    from veval.tasks.classifier import load_classifier
    from veval.tasks.finetune import newest_tuned
    from vtrain.data.shard_spec import upscaling_note

    output.prepare(out)
    _allow(backbone)
    network = load_classifier(weights or newest_tuned())
    evaluation = Evaluation(
        network=network,
        data=inputs.open_data(shards, (split,), fold=fold),
        protocol=for_weights("testing", network.info, protocol, settings or [], network.trained_on),
        execution=_execution(device, workers, skip_bad),
    )
    info = evaluation.data.info
    output.announce(network.info, info, upscaling_note(info.side, evaluation.protocol.size))
    output.finish(commands.accuracy(evaluation, logits=logits), out, json)


Tuning = Annotated[
    list[str] | None,
    typer.Argument(metavar="key=value ...", help="Changes of the recipe; with test.KEY, of the test's protocol."),
]
# torchrun takes --run, wherever it stands, for the beginning of an option of its own.
INTO = ("--into", "--run")
Run = Annotated[
    Path | None, typer.Option(*INTO, help="Folder of the training. [default: a new one in runs/finetuned/]")
]
RecipeName = Annotated[
    str, typer.Option("--recipe", help="Recipe: released, paper, or a name. [default: by weights and data]")
]


@app.command()
def finetune(
    settings: Tuning = None, weights: FromWeights = None, shards: Shards = None, backbone: Backbone = None,
    recipe_name: RecipeName = "",
    seed: Annotated[int | None, typer.Option(help="Seed of the training. [default: the recipe's]")] = None,
    fold: Fold = 1,
    folds: Annotated[str, typer.Option(help="Several folds, as in 1,2,3, with one result each.")] = "",
    split: Tested = "test",
    select: Annotated[str, typer.Option(help="Epoch to test: last, best-on-test or best-on-held-out.")] = "last",
    hold_out: Annotated[
        int | None, typer.Option(min=0, help="Number of training videos to hold out. [default: the recipe's]")
    ] = None,
    val_groups: Annotated[bool, typer.Option("--val-groups", help="Hold out whole groups of UCF101.")] = False,
    protocol: Named = None,
    run: Run = None,
    out: Out = None, workers: Workers = None, skip_bad: Skip = False, json: Json = False,
) -> None:  # fmt: skip
    """Train all layers on labels, then test on whole videos.

    The default is ten clips per video.
    """
    from veval import commands, inputs
    from veval.evaluation import Data
    from veval.tasks.finetune import TUNED, FineTuning, holding_out, recipe_for
    from vtrain.overrides import change
    from vtrain.training.processes import processes

    output.prepare(out)
    _allow(backbone)
    start = inputs.weights(weights, backbone=backbone, seed=seed or 0)
    opened = inputs.open_shards(shards)
    sets = [Data.select(opened, (split,), fold=number) for number in (_numbers(folds) if folds else [fold])]
    recipe, note = recipe_for(start.info, opened.name, recipe_name)
    words = [word for word in settings or [] if not word.startswith("test.")]
    options = {"data.shards": opened.spec, "seed": seed, "workers": workers}
    words = [f"{name}={value}" for name, value in options.items() if value is not None] + words
    recipe = change(holding_out(recipe, hold_out, "group" if val_groups else None), words)
    if start.info.is_random:
        start = inputs.weights(weights, backbone=backbone, seed=recipe.seed)
    execution = _execution("", workers, skip_bad)
    results = []
    with processes():  # several trainings can only follow each other in one process group
        for data in sets:
            end = f"-fold{data.info.fold}"
            name = f"{output.short_name(Path(start.info.path))}-{opened.name}{end}"
            folder = output.fresh(TUNED, name) if run is None else run
            folder = folder.with_name(folder.name + end) if folds and run else folder
            resume = f"training in {folder}; if it is stopped, --into {folder} goes on"
            output.announce(start.info, data.info, note, resume)
            found = commands.finetune(
                FineTuning(
                    weights=start, recipe=_of_fold(recipe, data.info.fold, skip_bad), folder=folder, data=data,
                    execution=execution, selection=select, protocol=protocol,
                    words=[word.removeprefix("test.") for word in settings or [] if word.startswith("test.")],
                )
            )  # fmt: skip
            if found is not None:
                results.append(found)
                file = out.with_stem(out.stem + end) if folds and out else out
                output.finish(found, file, "later" if json and folds else json)
    if json and folds and results:
        print(jsonlib.dumps({"folds": results}, ensure_ascii=False))


@app.command()
def report(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Files of results, or folders of them. [default: results/]")
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown tables.")] = False,
    folds: Annotated[bool, typer.Option("--folds", help="Average the folds of the same measurement.")] = False,
    json: Json = False,
) -> None:
    """Compare results with published ones and with scratch.

    Numbers of another protocol are never compared; what differs is printed.
    """
    from veval.results import report as tables

    words = files or [output.RESULTS]
    folders = {word for word in words if word == output.RESULTS or word.is_dir()}
    paths = [path for word in words for path in (sorted(word.glob("*.json")) if word in folders else [word])]
    if not paths:
        raise UsageError(f"there are no results in {words[0]}; the other commands of veval write some")
    found = tables.report(paths, "averaged" if folds else "separate")
    if json:
        print(jsonlib.dumps(tables.as_dict(found), ensure_ascii=False))
    elif markdown:
        print(tables.markdown(found))
    else:
        from rich.console import Console

        # A file or a pipe has no width; 80 characters per line would be too few for the columns.
        Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH).print(tables.terminal(found))


def main(argv: list[str] | None = None) -> Never:
    """Run the command and exit: 0 done, 1 failed while working, 2 asked wrongly."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as vtrain does
    sys.exit(exit_code("veval", lambda: app(argv, prog_name="veval", standalone_mode=True)))


def _evaluation(
    weights: str | None, shards: str | None, backbone: str | None, seed: int, splits: Sequence[str] | None, fold: int,
    subset: Path | None, protocol: str | None, settings: list[str] | None, execution: "Execution",
) -> "Evaluation[Weights]":  # fmt: skip
    """Return the evaluation of features that the options describe, and announce it."""
    from veval import inputs
    from veval.evaluation import Evaluation
    from veval.protocol import for_weights
    from vtrain.data.shard_spec import upscaling_note

    twice = next((word for word in splits or () if list(splits or ()).count(word) > 1), None)
    if twice:
        raise UsageError(f"split '{twice}' is named twice; name splits that share no video")
    _allow(backbone)
    network = inputs.weights(weights, backbone=backbone, seed=seed)
    data = inputs.open_data(shards, splits, fold=fold, subset=subset)
    shown = for_weights("features", network.info, protocol, settings or [])
    output.announce(network.info, data.info, shown.line("features"), upscaling_note(data.info.side, shown.size))
    return Evaluation(network=network, data=data, protocol=shown, execution=execution)


def _allow(backbone: str | None) -> None:
    """Let vtrain import a backbone from outside that the user has typed; a name in a weights file imports nothing."""
    from vtrain.backbones import allow

    if backbone is not None:
        allow(backbone)


def _execution(device: str, workers: int | None, skip_bad: bool) -> "Execution":
    from veval.evaluation import Execution
    from vtrain.machine import default_workers, device_named

    found = device_named(device)
    return Execution(
        device=found,
        workers=default_workers(found) if workers is None else workers,
        on_error="skip" if skip_bad else "raise",
        progress=output.progress(),
    )


def _of_fold(recipe: "Recipe", fold: int, skip_bad: bool) -> "Recipe":
    from vtrain.overrides import change

    return change(recipe, [f"data.fold={fold}", *(["data.on_error=skip"] if skip_bad else [])])


def _numbers(text: str) -> list[int]:
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise UsageError(f"--folds is '{text}'; write numbers with commas, as in 1,2,3") from None


if __name__ == "__main__":
    main()
