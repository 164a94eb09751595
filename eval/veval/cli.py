"""The command line of veval: parse the arguments, call the command, print the result."""

import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Never

import typer

from veval import options as opt
from veval import output
from veval.look.cli import app as look
from vprep import printing, signals, versions
from vprep.errors import UsageError, exit_code, refuse_secrets, refuse_stores
from vprep.text import json_line
from vtrain.meeting import joined

if TYPE_CHECKING:
    from veval.evaluation import DataInfo, Evaluation, Execution, Weights, WeightsInfo
    from veval.tasks.finetune import FineTuning
    from vtrain.recipes.recipe import Recipe

app = typer.Typer(
    help="Measure what a network has learned; each result holds the protocol of its measurement.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(look, name="look")


@app.callback()
def common(version: Annotated[bool, versions.option("veval", "torch", "webdataset", "pyarrow")] = False) -> None:
    """Take the options that belong to no single command."""


@app.command()
def retrieval(
    settings: opt.Settings = None, weights: opt.FromWeights = None, shards: opt.Shards = None,
    cache: opt.Cache = None, cache_gb: opt.CacheGb = None,
    backbone: opt.Backbone = None, seed: opt.Seed = 0, fold: opt.Fold = 1, split: opt.Queries = "test",
    gallery: opt.Gallery = "train", protocol: opt.Named = None, duplicates: opt.Duplicates = "keep",
    keep: opt.Keep = 10, engine: opt.Engine = "exact", features: opt.Kept = None, subset: opt.Subset = None,
    out: opt.Out = None,
    workers: opt.Workers = None, device: opt.Device = "", skip_bad: opt.Skip = False,
    bootstrap: opt.Bootstrap = None, json: opt.Json = False,
) -> None:  # fmt: skip
    """Search the gallery for videos of each query's class."""
    if duplicates not in ("keep", "leave out"):
        raise UsageError(f"--duplicates is '{duplicates}'; there are keep and 'leave out'")
    if engine != "exact":
        raise UsageError(f"--engine is '{engine}'; there is exact")
    output.prepare(out)
    evaluation = _evaluation(
        weights, shards, backbone, seed, (split, gallery), fold, subset, protocol, settings,
        device, workers, skip_bad,
    )  # fmt: skip
    from veval import commands

    found = commands.retrieval(
        evaluation, features=features, leave_out="same content" if duplicates == "leave out" else "nothing",
        over=bootstrap, keep=keep,
    )  # fmt: skip
    if found is not None and found["keep"] < keep:
        output.note(f"{found['keep']} neighbours of each query are kept; {keep} would be too large for a result")
    output.finish(found, out, json)


@app.command()
def linear(
    settings: opt.Settings = None, weights: opt.FromWeights = None, shards: opt.Shards = None,
    cache: opt.Cache = None, cache_gb: opt.CacheGb = None,
    backbone: opt.Backbone = None, seed: opt.Seed = 0, fold: opt.Fold = 1, split: opt.Tested = "test",
    gallery: opt.Learned = "train", protocol: opt.Named = None, few: opt.Few = None, features: opt.Kept = None,
    out: opt.Out = None, workers: opt.Workers = None, device: opt.Device = "", skip_bad: opt.Skip = False,
    bootstrap: opt.Bootstrap = None, json: opt.Json = False,
) -> None:  # fmt: skip
    """Train a linear layer on frozen features, and test it."""
    output.prepare(out)
    evaluation = _evaluation(
        weights, shards, backbone, seed, (split, gallery), fold, None, protocol, settings,
        device, workers, skip_bad,
    )  # fmt: skip
    from veval import commands

    output.finish(commands.linear(evaluation, features=features, few=few, seed=seed, over=bootstrap), out, json)


@app.command()
def knn(
    settings: opt.Settings = None, weights: opt.FromWeights = None, shards: opt.Shards = None,
    cache: opt.Cache = None, cache_gb: opt.CacheGb = None,
    backbone: opt.Backbone = None, seed: opt.Seed = 0, fold: opt.Fold = 1, split: opt.Tested = "test",
    gallery: opt.Learned = "train", protocol: opt.Named = None, k: opt.Neighbours = 20,
    temperature: opt.Temperature = 0.07, votes: opt.Votes = "similarity", few: opt.Few = None,
    features: opt.Kept = None, out: opt.Out = None, workers: opt.Workers = None, device: opt.Device = "",
    skip_bad: opt.Skip = False, bootstrap: opt.Bootstrap = None, json: opt.Json = False,
) -> None:  # fmt: skip
    """Let the nearest labelled videos vote on the class."""
    from veval.tasks.voting import Voting

    output.prepare(out)
    voting = Voting(k=k, temperature=temperature, votes=votes)
    evaluation = _evaluation(
        weights, shards, backbone, seed, (split, gallery), fold, None, protocol, settings,
        device, workers, skip_bad,
    )  # fmt: skip
    from veval import commands

    found = commands.knn(evaluation, features=features, few=few, seed=seed, voting=voting, over=bootstrap)
    output.finish(found, out, json)


@app.command()
def features(
    settings: opt.Settings = None, weights: opt.FromWeights = None, shards: opt.Shards = None,
    cache: opt.Cache = None, cache_gb: opt.CacheGb = None,
    backbone: opt.Backbone = None, seed: opt.Seed = 0, fold: opt.Fold = 1, splits: opt.Splits = "",
    out: opt.FeatureFile = Path("features.parquet"), protocol: opt.Named = None, subset: opt.Subset = None,
    workers: opt.Workers = None, device: opt.Device = "", skip_bad: opt.Skip = False, json: opt.Json = False,
) -> None:  # fmt: skip
    """Write the features of videos to a file.

    If the command is stopped, run it again to continue.
    """
    output.prepare(out)
    words = [word for word in splits.split(",") if word] or None
    evaluation = _evaluation(
        weights, shards, backbone, seed, words, fold, subset, protocol, settings,
        device, workers, skip_bad,
    )  # fmt: skip
    from veval.features import extract
    from veval.features.feature_file import read_info

    extract.write(extract.work_of(evaluation), out)
    if output.is_first():
        counts, dropped = evaluation.data.info.videos, read_info(out)["dropped"]
        found = {"out": str(out), "videos": counts, "dropped": dropped}
        found["protocol"] = evaluation.protocol.as_dict("features")
        line = f"{out}: {sum(counts.values()) - len(dropped)} videos, {len(dropped)} dropped"
        printing.show(found, json, lambda _: line)


@app.command("test")
def accuracy(
    settings: opt.Settings = None, weights: opt.Tuned = None, shards: opt.Shards = None, fold: opt.Fold = 1,
    cache: opt.Cache = None, cache_gb: opt.CacheGb = None,
    split: opt.Tested = "test", protocol: opt.Named = None, backbone: opt.OutsideBackbone = None,
    logits: opt.Logits = None, out: opt.Out = None, workers: opt.Workers = None, device: opt.Device = "",
    skip_bad: opt.Skip = False, bootstrap: opt.Bootstrap = None, json: opt.Json = False,
) -> None:  # fmt: skip
    """Test a fine-tuned network on whole videos.

    The default is ten clips per video.
    """
    from veval import early_checks
    from veval.evaluation import Evaluation
    from veval.inputs import newest_tuned
    from veval.protocol import crop_note, for_weights
    from vtrain.data.shard_spec import upscaling_note

    output.prepare(out)
    weights = weights or newest_tuned()
    data = early_checks.data_for(
        "testing", shards, (split,), fold=fold, protocol=protocol, settings=settings or [], backbone=backbone,
        weights=weights,
    )  # fmt: skip
    from veval import commands
    from veval.tasks.classifier import load_classifier

    network = load_classifier(weights, backbone)
    evaluation = Evaluation(
        network=network,
        data=data,
        protocol=for_weights("testing", network.info, protocol, settings or [], network.trained_on),
        execution=_execution(device, workers, skip_bad),
    )
    info = evaluation.data.info
    shown = evaluation.protocol
    output.announce(
        network.info, info, upscaling_note(info.side, shown.size), crop_note(shown, network.info, info.side)
    )
    output.finish(commands.accuracy(evaluation, logits=logits, over=bootstrap), out, json)


@app.command()
def finetune(
    settings: opt.Tuning = None, weights: opt.FromWeights = None, shards: opt.Shards = None,
    cache: opt.Cache = None, cache_gb: opt.CacheGb = None,
    backbone: opt.Backbone = None, recipe_name: opt.RecipeName = "", seed: opt.TrainingSeed = None,
    fold: opt.Fold = 1, folds: opt.Folds = "", split: opt.Tested = "test", select: opt.Select = None,
    hold_out: opt.HoldOut = None, val_groups: opt.ValGroups = False, protocol: opt.Named = None,
    run: opt.Run = None, out: opt.Out = None, workers: opt.Workers = None, skip_bad: opt.Skip = False,
    bootstrap: opt.Bootstrap = None, json: opt.Json = False,
) -> None:  # fmt: skip
    """Train all layers on labels, then test on whole videos.

    The default is ten clips per video.
    """
    from veval import early_checks, inputs
    from veval.evaluation import Data
    from vtrain.overrides import change

    output.prepare(out)
    numbers = _numbers(folds) if folds else [fold]
    test_words = [word.removeprefix("test.") for word in settings or [] if word.startswith("test.")]
    early_checks.demand_tuning(recipe_name, select, [word for word in settings or [] if not word.startswith("test.")])
    first = early_checks.data_for(
        "testing", shards, (split,), fold=numbers[0], protocol=protocol, settings=test_words, backbone=backbone,
        weights=weights,
    )  # fmt: skip
    opened = first.shards
    sets = [first, *(Data.select(opened, (split,), fold=number) for number in numbers[1:])]
    from veval import commands
    from veval.tasks.finetune import FineTuning, holding_out, recipe_for
    from vtrain.training.processes import processes

    start = inputs.weights(weights, backbone=backbone, seed=seed or 0)
    recipe, note = recipe_for(start.info, opened.name, recipe_name)
    recipe = holding_out(recipe, hold_out, "group" if val_groups else None)
    chosen = {"data.shards": opened.spec, "seed": seed, "workers": workers}
    words = [f"{name}={value}" for name, value in chosen.items() if value is not None]
    recipe = change(recipe, words + [word for word in settings or [] if not word.startswith("test.")])
    if start.info.is_random:
        start = inputs.weights(weights, backbone=backbone, seed=recipe.seed)
    execution = _execution("", workers, skip_bad)
    places = [_folder(run, start.info, data.info, several=bool(folds)) for data in sets]
    tunings = [
        FineTuning(
            weights=start, recipe=_of_fold(recipe, data.info.fold, skip_bad), data=data, execution=execution,
            folder=folder, selection=select, protocol=protocol, words=test_words,
            again=_again(run or folder, data.info.fold, instead=bool(folds) and run is None),
        )
        for data, folder in zip(sets, places, strict=True)
    ]  # fmt: skip
    results = []
    with processes():  # several trainings can only follow each other in one process group
        for tuning in tunings:
            with signals.explained(partial(_stopped, tuning)):
                found = commands.finetune(replace(tuning, begin=partial(_announce, tuning, note)), over=bootstrap)
            if found is not None:
                results.append(found)
                file = out.with_stem(f"{out.stem}-fold{tuning.data.info.fold}") if folds and out else out
                output.finish(found, file, "later" if json and folds else json, is_last=tuning is tunings[-1])
    if json and folds and results:
        printing.say(json_line({"folds": results}))


@app.command()
def report(
    files: opt.Files = None, folds: opt.AverageFolds = False, bootstrap: opt.Bootstrap = None,
    markdown: opt.Markdown = False, latex: opt.Latex = False, csv: opt.Csv = False, html: opt.Html = None,
    shards: opt.PageShards = None, features: opt.PageFeatures = None, runs: opt.PageRuns = None,
    maps: opt.PageMaps = None, method: opt.Map = "pca", json: opt.Json = False,
) -> None:  # fmt: skip
    """Compare results with published ones and with scratch.

    Only numbers of the same protocol are compared; for others, the differences are printed.
    """
    from veval.page.request import Request
    from veval.results import command
    from veval.results import report as compared

    asked = {"--markdown": markdown, "--latex": latex, "--csv": csv, "--json": json}
    form = command.form_of(asked | {"--json": json and html is None, "--html": html is not None})
    paths = command.result_files(files or (), output.RESULTS)
    request = Request(
        files=paths, shards=shards, features=features, runs=runs or (), maps=maps or (), method=method,
        folds="averaged" if folds else "separate", over=bootstrap,
    )  # fmt: skip
    if html is not None:
        from veval.page.command import write_page

        return write_page(request, html, as_json=json)
    request.refuse_without_page()
    command.show(compared.report(paths, request.folds, bootstrap), form)


def main(argv: list[str] | None = None) -> Never:
    """Run a command and exit with 0 when it is done, 1 when its work failed, 2 when it cannot be done as asked."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as vtrain does
    sys.exit(exit_code("veval", lambda: _run(argv)))


def _run(argv: list[str] | None) -> None:
    words = sys.argv[1:] if argv is None else argv
    refuse_secrets(words)
    refuse_stores(words, lambda option: option != "--shards")
    try:
        with joined("veval") if "MASTER_ADDR" in os.environ else nullcontext():
            app(argv, prog_name="veval", standalone_mode=True)
    finally:
        output.WORK.close()


def _evaluation(
    weights: str | None, shards: str | None, backbone: str | None, seed: int, splits: Sequence[str] | None, fold: int,
    subset: Path | None, protocol: str | None, settings: list[str] | None, device: str, workers: int | None,
    skip_bad: bool,
) -> "Evaluation[Weights]":  # fmt: skip
    """Return the evaluation of features that the options describe, and announce it."""
    from veval import early_checks, inputs
    from veval.evaluation import Evaluation
    from veval.protocol import crop_note, for_weights
    from vtrain.data.shard_spec import upscaling_note

    early_checks.demand_distinct_splits(splits or ())
    data = early_checks.data_for(
        "features", shards, splits, fold=fold, subset=subset, protocol=protocol, settings=settings or [],
        backbone=backbone, weights=weights,
    )  # fmt: skip
    execution = _execution(device, workers, skip_bad)
    network = inputs.weights(weights, backbone=backbone, seed=seed)
    shown = for_weights("features", network.info, protocol, settings or [])
    notes = upscaling_note(data.info.side, shown.size), crop_note(shown, network.info, data.info.side)
    output.announce(network.info, data.info, shown.line("features"), *notes)
    return Evaluation(network=network, data=data, protocol=shown, execution=execution)


def _execution(device: str, workers: int | None, skip_bad: bool) -> "Execution":
    from veval.evaluation import Execution
    from vtrain.machine import default_workers, device_named

    found = device_named(device)
    return Execution(
        device=found,
        workers=default_workers(found) if workers is None else workers,
        on_error="skip" if skip_bad else "raise",
        begin=output.WORK.begin,
        progress=output.WORK.progress,
    )


def _announce(tuning: "FineTuning", note: str) -> None:
    """Print what is trained and where, once nothing is left to refuse."""
    resume = f"training in {tuning.folder}; if it is stopped, {tuning.again}"
    # A training that begins with the weights of one epoch of several says itself which they are.
    info = tuning.weights.info if tuning.is_begun or not tuning.weights.info.epoch else None
    output.announce(info, tuning.data.info, note, resume)


def _of_fold(recipe: "Recipe", fold: int, skip_bad: bool) -> "Recipe":
    from vtrain.overrides import change

    return change(recipe, [f"data.fold={fold}", *(["data.on_error=skip"] if skip_bad else [])])


def _folder(run: Path | None, weights: "WeightsInfo", data: "DataInfo", *, several: bool) -> Path:
    """Return the folder of a training: `run`, which for several folds ends in the fold, or a new one."""
    from veval.inputs import TUNED

    if run is None:
        return output.fresh(
            TUNED, f"{output.short_name(Path(weights.path), weights.like_recipe)}-{data.name}-fold{data.fold}"
        )
    return run.with_name(f"{run.name}-fold{data.fold}") if several else run


def _stopped(tuning: "FineTuning") -> str:
    """Return what a fine-tuning says that is stopped before or after its steps; "" says the usual."""
    return f"stopped before it was done; {tuning.again}" if tuning.is_begun else ""


def _again(folder: Path, fold: int, *, instead: bool) -> str:
    """Return how a user continues a fine-tuning; `instead` of all folds, whose folders have no name in common."""
    words = f"--fold {fold} --into {folder} instead of --folds" if instead else f"--into {folder}"
    return f"continue with the same veval finetune and {words}"


def _numbers(text: str) -> list[int]:
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise UsageError(f"--folds is '{text}'; write numbers with commas, as in 1,2,3") from None


if __name__ == "__main__":
    main()
