"""The command line: parses, calls, prints."""

import json as jsonlib
import os
import sys
import time
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Never

import typer

from vprep.errors import UsageError, exit_code

if TYPE_CHECKING:
    from veval.features import How
    from veval.find import Weights

RESULTS = Path("results")

app = typer.Typer(
    help="What a network has learned, each number with the protocol it was measured by.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Settings = Annotated[list[str] | None, typer.Argument(metavar="key=value ...", help="Changes of the protocol.")]
FromWeights = Annotated[str | None, typer.Option(help="A run, a file, or random. [default: the newest run in runs/]")]
Shards = Annotated[str | None, typer.Option(help="Folder, glob, list, or range. [default: data_shards/]")]
Backbone = Annotated[str | None, typer.Option(help="Of random weights. [default: r3d]")]
Seed = Annotated[int, typer.Option(help="Of random weights, and of what is drawn.")]
Fold = Annotated[int, typer.Option(help="1, 2 or 3.")]
Protocol = Annotated[str | None, typer.Option(help="A paper's, by name. [default: that of the weights' method]")]
Split = Annotated[str, typer.Option(help="That is asked about.")]
Gallery = Annotated[str, typer.Option(help="That is searched, or learned from.")]
Kept = Annotated[Path | None, typer.Option(help="A .parquet or .npz file where features are kept, to go on or reuse.")]
Subset = Annotated[Path | None, typer.Option(help="Only these videos: a file of vprep subset.")]
Out = Annotated[Path | None, typer.Option(help="The result's file. [default: one in results/]")]
Few = Annotated[int | None, typer.Option(min=1, help="So many labelled videos of each class. [default: all]")]
Workers = Annotated[int | None, typer.Option(min=0, help="Processes that read. [default: as the machine has]")]
Device = Annotated[str, typer.Option(help="cpu or cuda. [default: cuda where there is one]")]
Skip = Annotated[bool, typer.Option("--skip-bad", help="Leave out videos that cannot be read, and name them.")]
Json = Annotated[bool, typer.Option("--json", help="Print exactly one JSON object.")]


@app.command()
def retrieval(
    settings: Settings = None,
    weights: FromWeights = None,
    shards: Shards = None,
    backbone: Backbone = None,
    seed: Seed = 0,
    fold: Fold = 1,
    split: Split = "test",
    gallery: Gallery = "train",
    protocol: Protocol = None,
    duplicates: Annotated[str, typer.Option(help="keep, or leave out: those of a query's content.")] = "keep",
    features: Kept = None,
    subset: Subset = None,
    out: Out = None,
    workers: Workers = None,
    device: Device = "",
    skip_bad: Skip = False,
    json: Json = False,
) -> None:
    """Which videos of the gallery are nearest to a query, and how often one of them has its class."""
    from veval import find, tasks
    from veval.protocol import for_weights

    if duplicates not in ("keep", "leave out"):
        raise UsageError(f"--duplicates is '{duplicates}'; there are keep and 'leave out'")
    given = find.weights(weights, backbone=backbone, seed=seed)
    videos, data = find.data(shards, (split, gallery), fold=fold, subset=subset)
    _say(given, data)
    facts = tasks.retrieval(
        given, videos, data, for_weights("features", given.facts, protocol, settings or []),
        how=_how(device, workers, skip_bad), kept=features,
        leave_out="same content" if duplicates == "leave out" else "nothing",
    )  # fmt: skip
    _finish(facts, out, json)


@app.command("linear")
def linear_(
    settings: Settings = None,
    weights: FromWeights = None,
    shards: Shards = None,
    backbone: Backbone = None,
    seed: Seed = 0,
    fold: Fold = 1,
    split: Split = "test",
    gallery: Gallery = "train",
    protocol: Protocol = None,
    few: Few = None,
    features: Kept = None,
    out: Out = None,
    workers: Workers = None,
    device: Device = "",
    skip_bad: Skip = False,
    json: Json = False,
) -> None:
    """A linear layer on frozen features."""
    from veval import find, tasks
    from veval.protocol import for_weights

    given = find.weights(weights, backbone=backbone, seed=seed)
    videos, data = find.data(shards, (split, gallery), fold=fold)
    _say(given, data)
    facts = tasks.by_linear(
        given, videos, data, for_weights("features", given.facts, protocol, settings or []),
        how=_how(device, workers, skip_bad), kept=features, few=few, seed=seed,
    )  # fmt: skip
    _finish(facts, out, json)


@app.command("knn")
def knn_(
    settings: Settings = None,
    weights: FromWeights = None,
    shards: Shards = None,
    backbone: Backbone = None,
    seed: Seed = 0,
    fold: Fold = 1,
    split: Split = "test",
    gallery: Gallery = "train",
    protocol: Protocol = None,
    k: Annotated[int, typer.Option(min=1, help="Neighbours that vote.")] = 20,
    temperature: Annotated[float, typer.Option(help="Of their votes.")] = 0.07,
    few: Few = None,
    features: Kept = None,
    out: Out = None,
    workers: Workers = None,
    device: Device = "",
    skip_bad: Skip = False,
    json: Json = False,
) -> None:
    """The nearest labelled videos vote for the class."""
    from veval import find, tasks
    from veval.protocol import for_weights

    given = find.weights(weights, backbone=backbone, seed=seed)
    videos, data = find.data(shards, (split, gallery), fold=fold)
    _say(given, data)
    facts = tasks.by_neighbours(
        given, videos, data, for_weights("features", given.facts, protocol, settings or []),
        how=_how(device, workers, skip_bad), kept=features, few=few, seed=seed, k=k, temperature=temperature,
    )  # fmt: skip
    _finish(facts, out, json)


@app.command()
def features(
    settings: Settings = None,
    out: Annotated[Path, typer.Option(help="A .parquet or .npz file.")] = Path("features.parquet"),
    weights: FromWeights = None,
    shards: Shards = None,
    backbone: Backbone = None,
    seed: Seed = 0,
    fold: Fold = 1,
    splits: Annotated[str, typer.Option(help="With commas, as in test,train. [default: all videos]")] = "",
    protocol: Protocol = None,
    subset: Subset = None,
    workers: Workers = None,
    device: Device = "",
    skip_bad: Skip = False,
    json: Json = False,
) -> None:
    """What the network makes of videos, in a file; stopped and run again, it goes on."""
    from veval import find
    from veval.features import extract
    from veval.protocol import for_weights

    given = find.weights(weights, backbone=backbone, seed=seed)
    videos, data = find.data(shards, [word for word in splits.split(",") if word] or None, fold=fold, subset=subset)
    _say(given, data)
    seen = for_weights("features", given.facts, protocol, settings or [])
    extract(given, videos, seen, out, data=data, how=_how(device, workers, skip_bad), gallery="")
    told = {"out": str(out), "videos": data["videos"], "protocol": seen.words("features")}
    print(jsonlib.dumps(told) if json else f"{out}: {sum(data['videos'].values())} videos, {seen.line('features')}")


@app.command("test")
def ten_clips(
    settings: Settings = None,
    weights: Annotated[str | None, typer.Option(help="A fine-tuned run. [default: the newest run in runs/]")] = None,
    shards: Shards = None,
    fold: Fold = 1,
    split: Split = "test",
    protocol: Protocol = None,
    logits: Annotated[Path | None, typer.Option(help="A .parquet or .npz file for what is said of each clip.")] = None,
    out: Out = None,
    workers: Workers = None,
    device: Device = "",
    skip_bad: Skip = False,
    json: Json = False,
) -> None:
    """A fine-tuned network on whole videos: ten clips each, unless told otherwise."""
    from veval import find, tasks
    from veval.classifier import classifier
    from veval.protocol import for_weights

    network = classifier(weights)
    videos, data = find.data(shards, (split,), fold=fold)
    _note(f"{network.facts['path']}, {data['shards']}: {data['videos'][split]} videos of {split}, fold {fold}")
    seen = for_weights("testing", network.facts, protocol, settings or [], network.seen)
    facts = tasks.testing(network, videos[split], data, seen, how=_how(device, workers, skip_bad), logits=logits)
    _finish(facts, out, json)


@app.command()
def finetune(
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="key=value ...", help="Changes of the recipe; test.KEY of the test.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="A run, a file, or random: from scratch. [default: the newest run in runs/]")
    ] = None,
    shards: Shards = None,
    backbone: Backbone = None,
    recipe: Annotated[str, typer.Option(help="released, paper, or a name. [default: for weights and data]")] = "",
    seed: Annotated[int | None, typer.Option(help="Of the fine-tuning. [default: the recipe's]")] = None,
    fold: Fold = 1,
    folds: Annotated[str, typer.Option(help="Several, as in 1,2,3; one result each.")] = "",
    split: Split = "test",
    select: Annotated[str, typer.Option(help="The epoch: last, best-on-test or best-on-held-out.")] = "last",
    hold_out: Annotated[int, typer.Option(help="So many training videos are not learned from.")] = 0,
    val_groups: Annotated[bool, typer.Option("--val-groups", help="Hold out whole groups of UCF101.")] = False,
    protocol: Protocol = None,
    run: Annotated[
        Path | None, typer.Option(help="The folder of the training. [default: one in runs/finetuned/]")
    ] = None,
    out: Out = None,
    workers: Workers = None,
    device: Device = "",
    json: Json = False,
) -> None:
    """All layers are trained on labels, and the network is tested on ten clips a video."""
    from dataclasses import replace

    from veval import find, tasks
    from veval.finetune import finetune as tune
    from veval.finetune import recipe_for
    from vtrain.settings import change

    results = []
    for number in [fold] if not folds else _numbers(folds):
        given = find.weights(weights, backbone=backbone, seed=seed or 0)
        videos, data = find.data(shards, (split,), fold=number)
        _say(given, data)
        words = [word for word in settings or [] if not word.startswith("test.")]
        words += [f"data.shards={data['shards']}", f"data.fold={number}"]
        words += [f"seed={seed}"] if seed is not None else []
        words += [f"data.hold_out={hold_out}"] if hold_out else []
        words += ["data.hold_out_by=group"] if val_groups else []
        made = change(recipe_for(given, data, recipe), words)
        if made.data.hold_out and not made.validate.every:
            made = replace(made, validate=replace(made.validate, every=1.0))
        place = _fresh(
            run or Path("runs") / "finetuned" / f"{_called(given.facts)}-{data['name']}", number, bool(folds)
        )
        began = time.monotonic()
        found = tune(
            given, made, place, data=data, videos=videos[split], how=_how(device, workers, False),
            select=select, protocol=protocol,  # type: ignore[arg-type]  # held against its words there
            words=[word.removeprefix("test.") for word in settings or [] if word.startswith("test.")],
        )  # fmt: skip
        if found is None:
            continue
        results.append(tasks.finished("finetune", tasks.tested(found), found, began, {}))
        target = out if not folds or out is None else out.with_stem(f"{out.stem}-fold{number}")
        _finish(results[-1], target, json and not folds)
    if json and folds:
        print(jsonlib.dumps({"folds": results}, ensure_ascii=False))


@app.command()
def report(
    files: Annotated[list[Path] | None, typer.Argument(help="Results, or folders of them. [default: results/]")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="As a table of Markdown.")] = False,
    folds: Annotated[bool, typer.Option("--folds", help="Average the folds of the same thing.")] = False,
    json: Json = False,
) -> None:
    """Your results beside the published ones that share the protocol, and what differs where none does."""
    from veval import report as tables

    named = [path for word in files or [RESULTS] for path in (sorted(word.glob("*.json")) if word.is_dir() else [word])]
    if not named:
        raise UsageError(
            f"no results in {files[0] if files else RESULTS}; they are made by the other commands of veval"
        )
    found = tables.report(named, "averaged" if folds else "separate")
    if json:
        print(jsonlib.dumps(tables.facts(found), ensure_ascii=False))
    elif markdown:
        print(tables.markdown(found))
    else:
        from rich.console import Console

        Console(highlight=False).print(tables.terminal(found))


def main(argv: list[str] | None = None) -> Never:
    """Run the command; 0 done, 1 failed while working, 2 asked wrongly."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as vtrain does
    sys.exit(exit_code("veval", lambda: app(argv, prog_name="veval", standalone_mode=True)))


def _how(device: str, workers: int | None, skip_bad: bool) -> "How":
    from veval import find
    from veval.features import How
    from vtrain.train import default_workers

    place = find.device(device)
    return How(
        device=place,
        workers=default_workers(place) if workers is None else workers,
        on_error="skip" if skip_bad else "raise",
    )


def _say(weights: "Weights", data: dict[str, Any]) -> None:
    """What is taken, for those who did not name it."""
    counts = ", ".join(f"{count} of {split}" for split, count in data["videos"].items())
    _note(f"weights {weights.facts['path']} ({weights.facts['backbone']}), shards {data['shards']}: {counts}")


def _note(words: str) -> None:
    if int(os.environ.get("RANK", 0)) == 0:
        print(words, file=sys.stderr, flush=True)


def _called(facts: dict[str, Any]) -> str:
    path = Path(facts["path"])
    return path.parent.name if path.name == "last.pt" else path.stem


def _fresh(path: Path, fold: int, several: bool) -> Path:
    """A folder that is not there yet, unless it was named."""
    path = path.with_name(f"{path.name}-fold{fold}") if several or "finetuned" in path.parts else path
    if "finetuned" not in path.parts:
        return path
    return next(fresh for number in count(1) if not (fresh := path.with_name(f"{path.name}-{number}")).exists())


def _numbers(text: str) -> list[int]:
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise UsageError(f"--folds is '{text}'; write numbers with commas, as in 1,2,3") from None


def _finish(facts: dict[str, Any] | None, out: Path | None, json: bool) -> None:
    """Keep the result and show it; other processes than the first have none."""
    from veval import result

    if facts is None:
        return
    if out is None:
        RESULTS.mkdir(exist_ok=True)
        begin = f"{facts['kind']}-{_called(facts['weights'])}-{facts['data']['name']}-fold{facts['data']['fold']}"
        out = next(path for number in count(1) if not (path := RESULTS / f"{begin}-{number}.json").exists())
    result.write(out, facts)
    print(jsonlib.dumps(facts, ensure_ascii=False) if json else f"{result.described(facts)}\n{out}")


if __name__ == "__main__":
    main()
