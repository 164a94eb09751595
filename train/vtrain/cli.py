"""The command line: parses, calls, prints."""

import json as jsonlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Never

import typer

from vprep.errors import UsageError, exit_code

app = typer.Typer(
    help="Train a 3D network from unlabelled video, by its playback speed.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
bench = typer.Typer(help="Measure this machine on your own shards.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(bench, name="bench")

SHARDS = "Folder, glob, list, or 'data_shards/<000..999>.tar'."
Shards = Annotated[str, typer.Option(help=SHARDS)]
Subset = Annotated[Path | None, typer.Option(help="Only these videos: a file of vprep subset.")]
Split = Annotated[str | None, typer.Option(help="Only this split, as in train or test. [default: all]")]
Fold = Annotated[int, typer.Option(help="Of which fold: 1, 2 or 3.")]
Seconds = Annotated[float, typer.Option(min=0.1, help="How long each measurement takes.")]
Device = Annotated[str, typer.Option(help="cpu or cuda. [default: cuda where there is one]")]
Json = Annotated[bool, typer.Option("--json", help="Print exactly one JSON object.")]


Settings = Annotated[list[str] | None, typer.Argument(metavar="key=value ...", help="Changes of the recipe.")]
RUNS = Path("runs")
KEEPS = ("workers", "log_every", "save_every", "keep_every")  # what changes no number, and so may with --resume


def _method_command(method: str, about: str) -> None:
    @app.command(method, help=about)
    def command(
        settings: Settings = None,
        shards: Annotated[str | None, typer.Option(help=SHARDS)] = None,
        recipe: Annotated[str, typer.Option(help="released, paper, tiny, a name, or a recipe.json.")] = "released",
        backbone: Annotated[str | None, typer.Option(help="Instead of the recipe's.")] = None,
        out: Annotated[Path | None, typer.Option(help="The run's folder. [default: runs/METHOD-TIME]")] = None,
        resume: Annotated[bool, typer.Option("--resume", help="Go on, by the recipe of the run.")] = False,
        weights: Annotated[Path | None, typer.Option(help="Of the backbone, to begin with: a run or a file.")] = None,
        subset: Subset = None,
        json: Json = False,
    ) -> None:
        words = settings or []
        if resume:
            facts = _resumed(method, words, shards, out, recipe != "released" or bool(backbone or weights or subset))
        else:
            from vtrain.overrides import change
            from vtrain.recipes import find
            from vtrain.training.train import train

            given = {"data.shards": shards, "weights": weights, "data.subset": subset}
            first = [f"{name}={value}" for name, value in given.items() if value is not None]
            facts = train(change(find(method, recipe, backbone), first + words), out)
        if os.environ.get("RANK", "0") == "0":  # of several processes the first one speaks
            _show(facts, json, _trained)


def _resumed(method: str, words: list[str], shards: str | None, out: Path | None, more: bool) -> dict[str, Any]:
    from vtrain.overrides import change
    from vtrain.run_folder import newest
    from vtrain.training.train import recipe_in, train

    folder = out or newest(RUNS, f"{method}-*")
    if folder is None:
        raise UsageError(f"no run of {method} in {RUNS}/ has saved; name the folder of one")
    told = recipe_in(folder)
    if told.method_name != method:
        raise UsageError(f"{folder} is a run of {told.method_name}; write: vtrain {told.method_name} --resume")
    other = [word for word in words if word.partition("=")[0] not in KEEPS]
    if other or more:
        what = other[0] if other else "--recipe, --backbone, --weights or --subset"
        raise UsageError(
            f"{what} with --resume, which goes on by the run's own recipe; only {', '.join(KEEPS)} may change: "
            f"leave it out, or start another run"
        )
    first = [] if shards is None else [f"data.shards={shards}"]
    return train(change(told, first + words), folder, resume=True)


def _trained(facts: dict[str, Any]) -> str:
    numbers = {name.replace("_", " "): value for name, value in facts.items() if isinstance(value, float)}
    told = ", ".join(f"{name} {value:.3g}" for name, value in numbers.items())
    return "\n".join((
        f"{facts['run']}: {facts['steps']} steps of {facts['recipe']}, {told}",
        f"next: veval retrieval --weights {facts['run']}",
    ))  # fmt: skip


for _name, _about in (
    ("rspnet", "RSPNet: relative speed perception, and telling videos apart."),
    ("ascnet", "ASCNet: consistency of appearance and of speed."),
    ("prp", "PRP: tell the playback rate, and paint what was left out."),
    ("pace", "Pace prediction, with its contrastive half."),
    ("supervised", "Training on labels, from scratch or from --weights."),
):
    _method_command(_name, _about)


@app.command()
def recipes(
    name: Annotated[str | None, typer.Argument(help="Show all settings of this one.")] = None,
    settings: Settings = None,
    json: Json = False,
) -> None:
    """The published configurations; with a name, everything that one says, as key=value takes it."""
    from vtrain import recipes as book
    from vtrain.overrides import as_json, change, listed

    if name is None:
        rows = book.listed()
        _show({"recipes": rows}, json, lambda _: book.as_table(rows))
    else:
        recipe = change(book.named(name), settings or [])
        _show(as_json(recipe), json, lambda _: "\n".join(f"{key}={value}" for key, value in listed(recipe)))


@app.command()
def doctor(json: Json = False) -> None:
    """Can this machine train, and how well? Versions, cuDNN, and convolutions that are known to go wrong."""
    from vtrain import doctor as checks

    facts = checks.report()
    _show(facts, json, checks.as_table)
    if not facts["ok"]:
        raise typer.Exit(1)


@bench.command("loader")
def bench_loader(
    shards: Shards = "data_shards",
    method: Annotated[str, typer.Option(help="Whose clips: rspnet, ascnet, prp, pace, finetune or test.")] = "rspnet",
    batch: Annotated[int, typer.Option(min=1, help="Videos in a batch.")] = 8,
    workers: Annotated[str, typer.Option(help="Numbers of workers to try, as in 0,1,4. [default: up to all]")] = "",
    seconds: Seconds = 5.0,
    device: Device = "",
    subset: Subset = None,
    split: Split = None,
    fold: Fold = 1,
    json: Json = False,
) -> None:
    """Where the time goes from shards to the device, how it grows with workers, and what to do about it."""
    from vtrain.bench import loader as measure
    from vtrain.data.shard_set import ShardSet

    videos = ShardSet.open(shards).select(split, fold=fold, subset=subset)
    facts = measure.loader(
        videos, method, batch=batch, workers=measure.read_workers(workers), seconds=seconds, device=device
    )
    _show(facts, json, measure.as_table)


@bench.command("step")
def bench_step(
    method: Annotated[str, typer.Argument(help="rspnet, ascnet, prp, pace or supervised.")],
    settings: Settings = None,
    recipe: Annotated[str, typer.Option(help="released, paper, tiny, a name, or a recipe.json.")] = "released",
    backbone: Annotated[str | None, typer.Option(help="Instead of the recipe's.")] = None,
    seconds: Seconds = 10.0,
    device: Device = "",
    json: Json = False,
) -> None:
    """The model alone: a training step on clips that are there already. Needs no shards."""
    from vtrain.bench import step as measure
    from vtrain.overrides import change
    from vtrain.recipes import find

    told = change(find(method, recipe, backbone), settings or [])
    _show(measure.step(told, seconds=seconds, device=device), json, measure.as_table)


@bench.command("all")
def bench_all(
    method: Annotated[str, typer.Argument(help="rspnet, ascnet, prp, pace or supervised.")],
    settings: Settings = None,
    shards: Shards = "data_shards",
    recipe: Annotated[str, typer.Option(help="released, paper, tiny, a name, or a recipe.json.")] = "released",
    backbone: Annotated[str | None, typer.Option(help="Instead of the recipe's.")] = None,
    seconds: Seconds = 10.0,
    device: Device = "",
    subset: Subset = None,
    json: Json = False,
) -> None:
    """The model alone, the loader alone, and both: how far the pair is from the slower of the two."""
    from vtrain.bench import step as measure
    from vtrain.data.shard_set import ShardSet
    from vtrain.overrides import change
    from vtrain.recipes import find
    from vtrain.training.training import resolved, selected

    first = [f"data.shards={shards}", *([] if subset is None else [f"data.subset={subset}"])]
    opened = ShardSet.open(shards)
    told = resolved(change(find(method, recipe, backbone), first + (settings or [])), opened)
    videos, _ = selected(told, opened)
    facts = measure.all(told, videos, workers=told.workers, seconds=seconds, device=device)
    _show(facts, json, measure.as_table)


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="A checkpoint that others published.")],
    origin: Annotated[str, typer.Option("--from", help="Whose: rspnet, prp, pace, vcop or torchvision.")],
    out: Annotated[Path, typer.Option(help="The .safetensors file to write; an older one is replaced.")],
    backbone: Annotated[str | None, typer.Option(help="Which network it has to be. [default: the one it is]")] = None,
    json: Json = False,
) -> None:
    """Published weights become ours: whole or not at all, and nothing in the file is ever executed."""
    from vtrain.weights import importer

    _show(importer.import_file(file, origin, out, backbone), json, importer.as_lines)


@app.command()
def export(
    source: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, or a file with weights.")],
    out: Annotated[Path, typer.Option(help="x.safetensors, x.ts (TorchScript) or x.onnx; an older one is replaced.")],
    frames: Annotated[int | None, typer.Option(min=1, help="Of a clip. [default: the run's, or 16]")] = None,
    size: Annotated[int | None, typer.Option(min=1, help="Side of a clip. [default: the run's, or 112]")] = None,
    json: Json = False,
) -> None:
    """The backbone alone, for use elsewhere; checked against the network before it is called done."""
    from vtrain.weights import export as exporter

    _show(exporter.export(source, out, frames, size), json, exporter.as_lines)


def main(argv: list[str] | None = None) -> Never:
    """Run the command; 0 done, 1 failed while working, 2 asked wrongly."""
    # A thread of torch that waits for the others must not keep a processor from them, nor from the loader's workers:
    # with all processors busy, augmentation on the CPU took 50 times as long (benchmarks/LOG.md).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.exit(exit_code("vtrain", lambda: app(argv, prog_name="vtrain", standalone_mode=True)))


def _show(facts: dict[str, Any], json: bool, words: Callable[[dict[str, Any]], object]) -> None:
    """The result on stdout: one JSON object, or words for people."""
    if json:
        print(jsonlib.dumps(facts, ensure_ascii=False))
    else:
        from rich.console import Console

        Console(highlight=False, soft_wrap=True).print(words(facts), markup=False)


if __name__ == "__main__":
    main()
