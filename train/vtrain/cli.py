"""The command line of vtrain: parse the arguments, call the command, print the result."""

import os
import sys
from pathlib import Path
from typing import Annotated, Never

import typer

from vprep import versions
from vprep.completion import completed
from vprep.errors import UsageError, exit_code, refuse_secrets, refuse_stores
from vprep.printing import show
from vtrain import names
from vtrain.methods import NAMES, summary
from vtrain.options import (
    Backbone,
    Cache,
    CacheGb,
    Device,
    Fold,
    Json,
    Method,
    Recipe,
    Seconds,
    Settings,
    Shards,
    Split,
    Subset,
    allow,
)
from vtrain.train_command import Commands, training_by

app = typer.Typer(
    cls=Commands,
    help="Train a 3D network from unlabelled video, by its playback speed.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    epilog="A method from outside the package is a command, too: vtrain my_package.my_method:METHOD --shards ...",
)
bench = typer.Typer(help="Measure this machine on your own shards.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(bench, name="bench")


@app.callback()
def common(version: Annotated[bool, versions.option("vtrain", "torch", "webdataset", "pyarrow")] = False) -> None:
    """Take the options that belong to no single command."""


for _name in NAMES:
    app.command(_name, help=summary(_name))(training_by(_name))


@app.command()
def recipes(
    name: Annotated[
        str | None,
        typer.Argument(
            help="Recipe whose settings are shown; tiny, released, paper or a method lists these. [default: list all]",
            autocompletion=completed(lambda: names.recipes() + names.methods()),
        ),
    ] = None,
    settings: Settings = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="Method whose recipes are listed: a name, or module:METHOD from outside.",
            autocompletion=completed(names.methods),
        ),
    ] = None,
    json: Json = False,
) -> None:
    """List the recipes. With the name of one, show all its settings as key=value takes them."""
    from vtrain import recipes as catalogue
    from vtrain.methods import registry
    from vtrain.overrides import as_json, change, listed
    from vtrain.recipes.listing import as_lines

    rows = catalogue.several(name, method)
    if rows is not None:
        if settings:
            raise UsageError(f"{settings[0]} with several recipes; name one of them: vtrain recipes NAME {settings[0]}")
        show({"recipes": rows}, json, lambda _: as_lines(rows))
    else:
        word = str(name)
        if method and word in catalogue.WORDS:
            found = catalogue.find(method, word)
        else:
            entry = registry.named(method) if method else None
            found = catalogue.named(word, entry, "recipes {} --method MODULE:NAME")
        recipe = change(found, settings or [])
        show(as_json(recipe), json, lambda _: "\n".join(f"{key}={value}" for key, value in listed(recipe)))


@app.command()
def doctor(json: Json = False) -> None:
    """Check whether this machine can train: versions, cuDNN, and convolutions that can go wrong."""
    from vprep import checks
    from vtrain.doctor import run_checks
    from vtrain.machine import environment

    found = run_checks()
    info = checks.as_info(found)
    show(info | {"environment": environment()}, json, lambda _: checks.as_table(found))
    if not info["ok"]:
        raise typer.Exit(1)


@bench.command("loader")
def bench_loader(
    shards: Shards = "data_shards",
    method: Annotated[
        str,
        typer.Option(
            help="Method whose clips are read: a name or module:METHOD; finetune or test.",
            autocompletion=completed(lambda: [*names.methods(), "finetune", "test"]),
        ),
    ] = "rspnet",
    batch: Annotated[int, typer.Option(min=1, help="Videos per batch.")] = 8,
    workers: Annotated[
        str, typer.Option(help="Numbers of worker processes to try, such as 0,1,4. [default: up to all processors]")
    ] = "",
    seconds: Seconds = 5.0,
    device: Device = "",
    subset: Subset = None,
    split: Split = None,
    fold: Fold = 1,
    cache: Cache = None,
    cache_gb: CacheGb = None,
    json: Json = False,
) -> None:
    """Measure loading, from shards to the device. Shows the time of each stage and how many workers help."""
    from vtrain.bench.options import plan_of, read_workers
    from vtrain.data.shard_set import ShardSet

    numbers = read_workers(workers)
    plan_of(method)
    videos = ShardSet.open(shards).select(split, fold=fold, subset=subset)
    from vtrain.bench import loader as measure

    measured = measure.loader(videos, method, batch=batch, workers=numbers, seconds=seconds, device=device)
    show(measured, json, measure.as_table)


@bench.command("step")
def bench_step(
    method: Method,
    settings: Settings = None,
    recipe: Recipe = "released",
    backbone: Backbone = None,
    seconds: Seconds = 10.0,
    device: Device = "",
    json: Json = False,
) -> None:
    """Measure a training step on random clips. Needs no shards."""
    from vtrain.overrides import change
    from vtrain.recipes import find

    chosen = change(find(method, recipe, backbone), settings or [])
    from vtrain.bench import step as measure

    show(measure.step(chosen, seconds=seconds, device=device), json, measure.as_table)


@bench.command("all")
def bench_all(
    method: Method,
    settings: Settings = None,
    shards: Shards = "data_shards",
    recipe: Recipe = "released",
    backbone: Backbone = None,
    seconds: Seconds = 10.0,
    device: Device = "",
    subset: Subset = None,
    cache: Cache = None,
    cache_gb: CacheGb = None,
    json: Json = False,
) -> None:
    """Measure model and loader, alone and together. Shows which of the two waits for the other."""
    from vtrain.data.shard_set import ShardSet
    from vtrain.overrides import change
    from vtrain.recipes import find
    from vtrain.training.inputs import resolved, selected

    first = [f"data.shards={shards}", *([] if subset is None else [f"data.subset={subset}"])]
    chosen = change(find(method, recipe, backbone), first + (settings or []))
    opened = ShardSet.open(shards)
    chosen = resolved(chosen, opened)
    videos, _ = selected(chosen, opened)
    from vtrain.bench import step as measure

    measured = measure.all(chosen, videos, workers=chosen.workers, seconds=seconds, device=device)
    show(measured, json, measure.as_table)


@app.command()
def look(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Folders of the runs, or their metrics.jsonl.")],
    metric: Annotated[
        list[str] | None,
        typer.Option(help="Metric to draw; may be given several times. [default: losses and accuracies]"),
    ] = None,
    over: Annotated[str, typer.Option(help="Horizontal axis: step or epoch.")] = "step",
    smooth: Annotated[float, typer.Option(help="Smoothing of the lines: 0 (none) to below 1, such as 0.9.")] = 0.0,
    out: Annotated[
        Path | None, typer.Option(help="File to write: .svg, .png, or .html for a page; it is replaced.")
    ] = None,
    json: Json = False,
) -> None:
    """Show the curves of runs, and compare their last and best values."""
    from shutil import get_terminal_size

    from vprep.printing import note
    from vtrain.look import look as looking
    from vtrain.look import terminal
    from vtrain.look.curves import read_runs

    looking.check(runs, out, over, smooth)
    found, notes = read_runs(runs)
    chosen = looking.Look.of(found, metric or [], over, smooth)
    for line in notes:
        note(line)
    if out is not None:
        looking.save(chosen, out)
    width, fine = get_terminal_size().columns, terminal.can_print(sys.stdout.encoding)
    show(looking.as_info(chosen, notes, out), json, lambda _: looking.as_text(chosen, width, fine=fine))


@app.command()
def follow(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of the run, which may be in training.")],
    to: Annotated[str, typer.Option(help="Service: wandb, mlflow or trackio; its package must be installed.")],
    project: Annotated[str, typer.Option(help="Project, or experiment, at the service.")] = "playspeed",
    name: Annotated[str, typer.Option(help="Name of the run at the service. [default: its folder's]")] = "",
    once: Annotated[bool, typer.Option("--once", help="Send what is there, and do not wait for more.")] = False,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks at the run.")] = 10.0,
    json: Json = False,
) -> None:
    """Send the metrics of a run to a service for experiments, each line once. Only reads the run."""
    from vtrain.follow import follow as following
    from vtrain.follow.services import check_service, service

    following.refuse_no_run(run)
    check_service(to)
    info = following.follow(run, to, service(to), project=project, name=name, once=once, every=every)
    show(info, json, following.as_line)


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="Published checkpoint to read.")],
    origin: Annotated[str, typer.Option("--from", help="Source of the file: rspnet, prp, pace, vcop or torchvision.")],
    out: Annotated[Path, typer.Option(help="The .safetensors file to write; an older file is replaced.")],
    backbone: Annotated[
        str | None, typer.Option(help="Backbone that the file must hold. [default: whichever it holds]")
    ] = None,
    json: Json = False,
) -> None:
    """Convert published weights, all or none. Nothing in the file is executed."""
    from vtrain.weights.location import check_target, demand_file
    from vtrain.weights.origins.by_name import origin_named

    check_target(out, file, (".safetensors",))
    origin_named(origin, backbone)
    demand_file(file)
    from vtrain.weights import importer

    show(importer.import_file(file, origin, out, backbone), json, importer.as_lines)


@app.command()
def export(
    source: Annotated[Path, typer.Argument(metavar="RUN", help="Run's folder, or file with weights.")],
    out: Annotated[Path, typer.Option(help="File to write: .safetensors, .ts (TorchScript) or .onnx; it is replaced.")],
    frames: Annotated[int | None, typer.Option(min=1, help="Frames of a clip. [default: the run's, or 16]")] = None,
    size: Annotated[
        int | None, typer.Option(min=1, help="Pixels of a clip's side. [default: the run's, or 112]")
    ] = None,
    backbone: Annotated[
        str | None, typer.Option(help="Backbone of the run, if it is from outside: module:name.", callback=allow)
    ] = None,
    json: Json = False,
) -> None:
    """Export the backbone of a run for other programs. The file is checked against the network."""
    from vtrain.weights.location import EXPORTS, check_target, demand_there

    check_target(out, source, EXPORTS)
    demand_there(source)
    from vtrain.weights import export as exporter

    show(exporter.export(source, out, frames, size), json, exporter.as_lines)


def main(argv: list[str] | None = None) -> Never:
    """Run a command and exit with 0 when it is done, 1 when its work failed, 2 when it cannot be done as asked."""
    # A thread of torch that waits for others must leave its processor to them and to the loader's workers: with all
    # processors busy, augmentation on the CPU took 50 times as long (benchmarks/LOG.md).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

    def command() -> None:
        words = sys.argv[1:] if argv is None else argv
        refuse_secrets(words)
        refuse_stores(words, lambda option: option != "--shards")
        app(argv, prog_name="vtrain", standalone_mode=True)

    sys.exit(exit_code("vtrain", command))


if __name__ == "__main__":
    main()
