"""The command line: parses, calls, prints."""

import json as jsonlib
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Never

import typer

from veval import output
from vprep.errors import UsageError, exit_code

if TYPE_CHECKING:
    from veval.features.extract import How
    from veval.inputs import Weights
    from veval.protocol import Protocol
    from vtrain.data.dataset import Videos

WIDTH = 240  # letters of a line, where there is no terminal

app = typer.Typer(
    help="What a network has learned, each number with the protocol it was measured by.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Settings = Annotated[list[str] | None, typer.Argument(metavar="key=value ...", help="Changes of the protocol.")]
FromWeights = Annotated[
    str | None, typer.Option(help="A run, a file, random, or random:RUN. [default: the newest run]")
]
Tuned = Annotated[str | None, typer.Option(help="A fine-tuned run. [default: the newest in runs/finetuned/ or runs/]")]
Shards = Annotated[str | None, typer.Option(help="Folder, glob, list, or range. [default: data_shards/]")]
Backbone = Annotated[str | None, typer.Option(help="Of random weights. [default: r3d]")]
Seed = Annotated[int, typer.Option(help="Of random weights, and of what is drawn.")]
Fold = Annotated[int, typer.Option(help="1, 2 or 3.")]
Named = Annotated[str | None, typer.Option(help="A paper's, by name. [default: that of the weights' method]")]
Split = Annotated[str, typer.Option(help="That is asked about.")]
Gallery = Annotated[str, typer.Option(help="That is searched, or learned from.")]
Kept = Annotated[Path | None, typer.Option(help="A .parquet or .npz file where features are kept, to go on or reuse.")]
Subset = Annotated[Path | None, typer.Option(help="Only these videos: a file of vprep subset.")]
Out = Annotated[Path | None, typer.Option(help="The result's file. [default: a new one in results/]")]
Few = Annotated[int | None, typer.Option(min=1, help="So many labelled videos of each class. [default: all]")]
Workers = Annotated[int | None, typer.Option(min=0, help="Processes that read. [default: as the machine has]")]
Device = Annotated[str, typer.Option(help="cpu or cuda. [default: cuda where there is one]")]
Skip = Annotated[bool, typer.Option("--skip-bad", help="Leave out videos that cannot be read, and name them.")]
Json = Annotated[bool, typer.Option("--json", help="Print exactly one JSON object.")]


@app.command()
def retrieval(
    settings: Settings = None, weights: FromWeights = None, shards: Shards = None, backbone: Backbone = None,
    seed: Seed = 0, fold: Fold = 1, split: Split = "test", gallery: Gallery = "train", protocol: Named = None,
    duplicates: Annotated[str, typer.Option(help="keep, or leave out: those of a query's content.")] = "keep",
    engine: Annotated[str, typer.Option(help="exact, or faiss where that is installed.")] = "exact",
    features: Kept = None, subset: Subset = None, out: Out = None, workers: Workers = None, device: Device = "",
    skip_bad: Skip = False, json: Json = False,
) -> None:  # fmt: skip
    """Which videos of the gallery are nearest to a query, and how often one of them has its class."""
    from veval import commands
    from veval.tasks.retrieval import LeaveOut

    if duplicates not in ("keep", "leave out"):
        raise UsageError(f"--duplicates is '{duplicates}'; there are keep and 'leave out'")
    output.prepare(out)
    asked = _asked(weights, shards, backbone, seed, (split, gallery), fold, subset, protocol, settings)
    leave_out: LeaveOut = "same content" if duplicates == "leave out" else "nothing"
    facts = commands.retrieval(
        *asked, how=_how(device, workers, skip_bad), kept=features, leave_out=leave_out, engine=engine
    )
    output.finish(facts, out, json)


@app.command("linear")
def linear_(
    settings: Settings = None, weights: FromWeights = None, shards: Shards = None, backbone: Backbone = None,
    seed: Seed = 0, fold: Fold = 1, split: Split = "test", gallery: Gallery = "train", protocol: Named = None,
    few: Few = None, features: Kept = None, out: Out = None, workers: Workers = None, device: Device = "",
    skip_bad: Skip = False, json: Json = False,
) -> None:  # fmt: skip
    """A linear layer on frozen features."""
    from veval import commands

    output.prepare(out)
    asked = _asked(weights, shards, backbone, seed, (split, gallery), fold, None, protocol, settings)
    facts = commands.by_linear(*asked, how=_how(device, workers, skip_bad), kept=features, few=few, seed=seed)
    output.finish(facts, out, json)


@app.command("knn")
def knn_(
    settings: Settings = None, weights: FromWeights = None, shards: Shards = None, backbone: Backbone = None,
    seed: Seed = 0, fold: Fold = 1, split: Split = "test", gallery: Gallery = "train", protocol: Named = None,
    k: Annotated[int, typer.Option(min=1, help="Neighbours that vote.")] = 20,
    temperature: Annotated[float, typer.Option(min=1e-6, help="Of their votes.")] = 0.07,
    votes: Annotated[str, typer.Option(help="What they weigh: similarity, or same.")] = "similarity",
    few: Few = None, features: Kept = None, out: Out = None, workers: Workers = None, device: Device = "",
    skip_bad: Skip = False, json: Json = False,
) -> None:  # fmt: skip
    """The nearest labelled videos vote for the class."""
    from veval import commands

    output.prepare(out)
    asked = _asked(weights, shards, backbone, seed, (split, gallery), fold, None, protocol, settings)
    facts = commands.by_neighbours(
        *asked, how=_how(device, workers, skip_bad), kept=features, few=few, seed=seed, k=k,
        temperature=temperature, votes=votes,
    )  # fmt: skip
    output.finish(facts, out, json)


@app.command()
def features(
    settings: Settings = None, weights: FromWeights = None, shards: Shards = None, backbone: Backbone = None,
    seed: Seed = 0, fold: Fold = 1,
    splits: Annotated[str, typer.Option(help="With commas, as in test,train. [default: all videos]")] = "",
    out: Annotated[Path, typer.Option(help="A .parquet or .npz file.")] = Path("features.parquet"),
    protocol: Named = None, subset: Subset = None, workers: Workers = None, device: Device = "",
    skip_bad: Skip = False, json: Json = False,
) -> None:  # fmt: skip
    """What the network makes of videos, in a file; stopped and run again, it goes on."""
    from veval.features.extract import extract
    from veval.features.feature_file import read_facts

    output.prepare(out)
    words = [word for word in splits.split(",") if word] or None
    given, videos, data, seen = _asked(weights, shards, backbone, seed, words, fold, subset, protocol, settings)
    extract(given, videos, seen, out, data=data, how=_how(device, workers, skip_bad), gallery="")
    if output.is_first():
        dropped = read_facts(out)["dropped"]
        told = {"out": str(out), "videos": data["videos"], "dropped": dropped, "protocol": seen.words("features")}
        line = f"{out}: {sum(data['videos'].values()) - len(dropped)} videos, {len(dropped)} dropped"
        print(jsonlib.dumps(told, ensure_ascii=False) if json else line)


@app.command("test")
def ten_clips(
    settings: Settings = None, weights: Tuned = None, shards: Shards = None, fold: Fold = 1, split: Split = "test",
    protocol: Named = None,
    logits: Annotated[Path | None, typer.Option(help="A .parquet or .npz file for what is said of each clip.")] = None,
    out: Out = None, workers: Workers = None, device: Device = "", skip_bad: Skip = False, json: Json = False,
) -> None:  # fmt: skip
    """A fine-tuned network on whole videos: ten clips each, unless told otherwise."""
    from veval import commands, inputs
    from veval.protocol import for_weights
    from veval.tasks.classifier import classifier
    from veval.tasks.finetune import newest_tuned
    from vtrain.data.shard_spec import upscaling_note

    output.prepare(out)
    network = classifier(weights or newest_tuned())
    videos, data = inputs.data(shards, (split,), fold=fold)
    seen = for_weights("testing", network.facts, protocol, settings or [], network.seen)
    output.say(network.facts, data, upscaling_note(data["side"], seen.size))
    facts = commands.testing(network, videos[split], data, seen, how=_how(device, workers, skip_bad), logits=logits)
    output.finish(facts, out, json)


Tuning = Annotated[
    list[str] | None, typer.Argument(metavar="key=value ...", help="Changes of the recipe; test.KEY of the test.")
]
# torchrun takes --run, wherever it stands, for the beginning of an option of its own.
INTO = ("--into", "--run")
Run = Annotated[Path | None, typer.Option(*INTO, help="The training's folder. [default: a new one in runs/finetuned/]")]
Recipe = Annotated[str, typer.Option(help="released, paper, or a name. [default: for weights and data]")]


@app.command()
def finetune(
    settings: Tuning = None, weights: FromWeights = None, shards: Shards = None, backbone: Backbone = None,
    recipe: Recipe = "",
    seed: Annotated[int | None, typer.Option(help="Of the fine-tuning. [default: the recipe's]")] = None,
    fold: Fold = 1,
    folds: Annotated[str, typer.Option(help="Several, as in 1,2,3; one result each.")] = "",
    split: Split = "test",
    select: Annotated[str, typer.Option(help="The epoch: last, best-on-test or best-on-held-out.")] = "last",
    hold_out: Annotated[int | None, typer.Option(min=0, help="So many training videos are not learned from.")] = None,
    val_groups: Annotated[bool, typer.Option("--val-groups", help="Hold out whole groups of UCF101.")] = False,
    protocol: Named = None,
    run: Run = None,
    out: Out = None, workers: Workers = None, skip_bad: Skip = False, json: Json = False,
) -> None:  # fmt: skip
    """All layers are trained on labels, and the network is tested on ten clips a video."""
    from veval import commands, inputs
    from veval.tasks.finetune import TUNED, holding_out, recipe_for
    from veval.tasks.finetune import finetune as tune
    from vtrain.overrides import change
    from vtrain.training.processes import processes

    output.prepare(out)
    given = inputs.weights(weights, backbone=backbone, seed=seed or 0)
    sets = [inputs.data(shards, (split,), fold=number) for number in (_numbers(folds) if folds else [fold])]
    made, note = recipe_for(given, sets[0][1], recipe)
    words = [word for word in settings or [] if not word.startswith("test.")]
    more = {"data.shards": sets[0][1]["shards"], "seed": seed, "workers": workers}
    words = [f"{name}={value}" for name, value in more.items() if value is not None] + words
    made = change(holding_out(made, hold_out, "group" if val_groups else None), words)
    if given.facts["path"] == inputs.RANDOM:
        given = inputs.weights(weights, backbone=backbone, seed=made.seed)
    results = []
    with processes():  # among which several trainings cannot follow each other, unless they stay together
        for videos, data in sets:
            began, number = time.monotonic(), data["fold"]
            end = f"-fold{number}"
            place = output.fresh(TUNED, f"{output.called(given.facts)}-{data['name']}{end}") if run is None else run
            place = place.with_name(place.name + end) if folds and run else place
            output.say(given.facts, data, note, f"training in {place}; when it was stopped, --into {place} goes on")
            facts = tune(
                given, change(made, [f"data.fold={number}", *(["data.on_error=skip"] if skip_bad else [])]), place,
                data=data, videos=videos[split], how=_how("", workers, skip_bad),
                select=select, protocol=protocol,
                words=[word.removeprefix("test.") for word in settings or [] if word.startswith("test.")],
            )  # fmt: skip
            if facts is not None:
                results.append(commands.finished("finetune", commands.tested(facts), facts, began, {}))
                target = out.with_stem(out.stem + end) if folds and out else out
                output.finish(results[-1], target, "later" if json and folds else json)
    if json and folds and results:
        print(jsonlib.dumps({"folds": results}, ensure_ascii=False))


@app.command()
def report(
    files: Annotated[list[Path] | None, typer.Argument(help="Results, or folders of them. [default: results/]")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="As a table of Markdown.")] = False,
    folds: Annotated[bool, typer.Option("--folds", help="Average the folds of the same thing.")] = False,
    json: Json = False,
) -> None:
    """Your results beside the published ones that share the protocol, and what differs where none does."""
    from veval.results import report as tables

    places = files or [output.RESULTS]
    folders = {word for word in places if word == output.RESULTS or word.is_dir()}
    named = [path for word in places for path in (sorted(word.glob("*.json")) if word in folders else [word])]
    if not named:
        raise UsageError(f"no results in {places[0]}; they are made by the other commands of veval")
    found = tables.report(named, "averaged" if folds else "separate")
    if json:
        print(jsonlib.dumps(tables.facts(found), ensure_ascii=False))
    elif markdown:
        print(tables.markdown(found))
    else:
        from rich.console import Console

        # A file or a pipe has no width; lines of 80 letters would be too short for its columns.
        Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH).print(tables.terminal(found))


def main(argv: list[str] | None = None) -> Never:
    """Run the command; 0 done, 1 failed while working, 2 asked wrongly."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as vtrain does
    sys.exit(exit_code("veval", lambda: app(argv, prog_name="veval", standalone_mode=True)))


def _asked(
    weights: str | None, shards: str | None, backbone: str | None, seed: int, splits: Sequence[str] | None, fold: int,
    subset: Path | None, protocol: str | None, settings: list[str] | None,
) -> "tuple[Weights, dict[str, Videos], dict[str, Any], Protocol]":  # fmt: skip
    """Weights, videos and how these are shown: what features are made of."""
    from veval import inputs
    from veval.protocol import for_weights
    from vtrain.data.shard_spec import upscaling_note

    twice = next((word for word in splits or () if list(splits or ()).count(word) > 1), None)
    if twice:
        raise UsageError(f"split '{twice}' is named twice; name splits that share no video")
    given = inputs.weights(weights, backbone=backbone, seed=seed)
    videos, data = inputs.data(shards, splits, fold=fold, subset=subset)
    seen = for_weights("features", given.facts, protocol, settings or [])
    output.say(given.facts, data, seen.line("features"), upscaling_note(data["side"], seen.size))
    return given, videos, data, seen


def _how(device: str, workers: int | None, skip_bad: bool) -> "How":
    from veval import inputs
    from veval.features.extract import How
    from vtrain.machine import default_workers

    place = inputs.device(device)
    return How(
        device=place,
        workers=default_workers(place) if workers is None else workers,
        on_error="skip" if skip_bad else "raise",
        progress=output.progress(),
    )


def _numbers(text: str) -> list[int]:
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise UsageError(f"--folds is '{text}'; write numbers with commas, as in 1,2,3") from None


if __name__ == "__main__":
    main()
