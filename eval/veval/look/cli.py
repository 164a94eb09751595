"""The commands `veval look ...`: parse the arguments, make the figure, write it."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from veval import options as opt
from veval.look import options as of
from vprep import printing
from vprep.errors import UsageError

if TYPE_CHECKING:
    from veval.evaluation import WeightsInfo
    from veval.look.asked import Chosen, Ready
    from veval.look.figure import Figure

app = typer.Typer(
    help="Make pictures of what a network looks at.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.command()
def roi(
    settings: opt.Settings = None, weights: of.Weights = None, shards: opt.Shards = None,
    cache: opt.Cache = None, cache_gb: opt.CacheGb = None,
    backbone: opt.OutsideBackbone = None, seed: of.Seed = 0, fold: opt.Fold = 1, split: of.Split = "test",
    key: of.Key = None, class_: of.Class = None, count: of.Count = None, speed: of.Step = 1,
    threshold: of.Threshold = 0.5, scale: of.Scale = "clip", alpha: of.Alpha = 0.5, tile: of.Tile = None,
    out: of.Out = None, device: opt.Device = "", json: opt.Json = False,
) -> None:  # fmt: skip
    """Show where two clips of a video are similar to RSPNet."""
    from veval.look.drawn import Drawn

    drawn = Drawn(scale=scale, alpha=alpha, tile=tile, threshold=threshold)
    chosen = _chosen(shards, split, fold, key, class_, count, seed)
    ready = _ready("roi", chosen, out, settings, backbone, weights, "rspnet", needs_heads=True)
    from veval.look import roi as similar
    from veval.look.trained import trained
    from vtrain.machine import device_named

    place = device_named(device)
    net = trained(ready.word, "rspnet", backbone=backbone, seed=seed)

    def make(moves: bool) -> "Figure":
        return similar.figure(net, ready, replace(drawn, moves=moves), step=speed, device=place)

    _finish("roi", make, ready, [net.info], json)


@app.command()
def attention(
    settings: opt.Settings = None, weights: of.AnyWeights = None, shards: opt.Shards = None,
    cache: opt.Cache = None, cache_gb: opt.CacheGb = None,
    backbone: opt.Backbone = None, seed: of.Seed = 0, fold: opt.Fold = 1, split: of.Split = "test",
    key: of.Key = None, class_: of.Class = None, count: of.Count = None, paces: of.Paces = "",
    scale: of.Scale = "clip", alpha: of.Alpha = 0.5, tile: of.Tile = None, out: of.Out = None,
    device: opt.Device = "", json: opt.Json = False,
) -> None:  # fmt: skip
    """Show the attention of conv5 at each pace."""
    from veval.look.drawn import Drawn

    drawn, asked = Drawn(scale=scale, alpha=alpha, tile=tile), _paces(paces)
    chosen = _chosen(shards, split, fold, key, class_, count, seed)
    ready = _ready("attention", chosen, out, settings, backbone, weights, "pace")
    from veval import inputs
    from veval.look import attention as attended
    from vtrain.machine import device_named

    place = device_named(device)
    network = inputs.weights(ready.word, backbone=backbone, seed=seed)
    shown = asked or attended.paces_of(ready.word)

    def make(moves: bool) -> "Figure":
        return attended.figure(network, ready, replace(drawn, moves=moves), paces=shown, device=place)

    _finish("attention", make, ready, [network.info], json)


@app.command()
def activation(
    settings: opt.Settings = None, weights: of.Several = None, shards: opt.Shards = None, backbone: opt.Backbone = None,
    cache: opt.Cache = None, cache_gb: opt.CacheGb = None,
    seed: of.Seed = 0, fold: opt.Fold = 1, split: of.Split = "test", key: of.Key = None, class_: of.Class = None,
    count: of.Count = None, scale: of.Scale = "clip", alpha: of.Alpha = 0.5, tile: of.Tile = None, out: of.Out = None,
    device: opt.Device = "", json: opt.Json = False,
) -> None:  # fmt: skip
    """Show the activation of conv5, of one or more networks."""
    from veval.look import asked
    from veval.look.drawn import Drawn

    drawn, named = Drawn(scale=scale, alpha=alpha, tile=tile), weights or []
    chosen = _chosen(shards, split, fold, key, class_, count, seed)
    ready = _ready("activation", chosen, out, settings, backbone, named[0] if named else None, "prp")
    words = [ready.word, *named[1:]]
    for other in words[1:]:
        asked.demand_weights(other, None)
    from veval import inputs
    from veval.look import activation as activated
    from vtrain.machine import device_named

    place = device_named(device)
    networks = [inputs.weights(each, backbone=backbone, seed=seed) for each in words]
    labels = activated.labels(words)

    def make(moves: bool) -> "Figure":
        return activated.figure(networks, labels, ready, replace(drawn, moves=moves), device=place)

    _finish("activation", make, ready, [network.info for network in networks], json)


@app.command()
def reconstruction(
    settings: opt.Settings = None, weights: of.Weights = None, shards: opt.Shards = None,
    cache: opt.Cache = None, cache_gb: opt.CacheGb = None,
    backbone: opt.OutsideBackbone = None, seed: of.Seed = 0, fold: opt.Fold = 1, split: of.Split = "test",
    key: of.Key = None, class_: of.Class = None, count: of.Count = None, speed: of.Speed = None,
    tile: of.Tile = None, out: of.Out = None, device: opt.Device = "", json: opt.Json = False,
) -> None:  # fmt: skip
    """Show what PRP reconstructs, and from what."""
    from veval.look.drawn import Drawn

    drawn = Drawn(tile=tile)
    chosen = _chosen(shards, split, fold, key, class_, count, seed)
    ready = _ready("reconstruction", chosen, out, settings, backbone, weights, "prp", needs_heads=True)
    from veval.look import reconstruction as made
    from veval.look.trained import trained
    from vtrain.machine import device_named

    place = device_named(device)
    net = trained(ready.word, "prp", backbone=backbone, seed=seed)

    def make(moves: bool) -> "Figure":
        return made.figure(net, ready, replace(drawn, moves=moves), speed=speed, seed=seed, device=place)

    _finish("reconstruction", make, ready, [net.info], json)


@app.command()
def neighbours(
    result: of.Result, shards: of.ResultShards = None, key: of.Key = None, class_: of.Class = None,
    count: of.Queries = 4, order: of.Order = "random", seed: of.Seed = 0, shown: of.Shown = 5,
    tile: of.Tile = None, out: of.Out = None, json: opt.Json = False,
) -> None:  # fmt: skip
    """Show the nearest videos of queries."""
    from veval.evaluation import Data
    from veval.inputs import open_shards
    from veval.look.asked import shards_of
    from veval.look.drawn import Drawn
    from veval.look.target import target
    from veval.results import result as results
    from veval.results.neighbours import read_neighbours

    drawn = Drawn(tile=tile)
    found = results.read(result)
    listed = read_neighbours(found)
    file = target(out, f"neighbours-{result.stem}")
    data = Data.select(open_shards(shards_of(found, shards)), None)
    from veval.look import neighbours as nearest

    asked = nearest.Asked(keys=key or (), classes=class_ or (), count=count, order=order, seed=seed, neighbours=shown)

    def make(moves: bool) -> "Figure":
        return nearest.figure(found, listed, next(iter(data.videos.values())), asked, tile=drawn.tile, moves=moves)

    _written("neighbours", make, file, {"result": str(result)}, json)


def _chosen(
    shards: str | None, split: str, fold: int, keys: list[str] | None, classes: list[str] | None, count: int | None,
    seed: int,
) -> "Chosen":  # fmt: skip
    from veval.look.asked import Chosen

    return Chosen(
        shards=shards, split=split, fold=fold, keys=keys or (), classes=classes or (), count=count, seed=seed
    )  # fmt: skip


def _ready(
    kind: str, chosen: "Chosen", out: Path | None, settings: list[str] | None, backbone: str | None,
    weights: str | None, method: str, *, needs_heads: bool = False,
) -> "Ready":  # fmt: skip
    """Return what a picture is made of; refuse what cannot be, before torch is imported."""
    from veval import early_checks
    from veval.look import asked
    from veval.look.target import target

    file = target(out, f"look-{kind}")
    early_checks.demand_settings("features", None, settings or [])
    early_checks.demand_backbone(backbone)
    videos, info = chosen.open()
    word = asked.weights_word(weights, method)
    asked.demand_weights(word, method if needs_heads else None)
    return asked.Ready(word=word, file=file, videos=videos, info=info, settings=settings or [])


def _paces(text: str) -> list[Fraction]:
    """Return the paces that are written with commas."""
    try:
        found = [Fraction(word) for word in text.split(",")] if text else []
    except (ValueError, ZeroDivisionError):
        raise UsageError(f"--paces is '{text}'; write numbers with commas, as in 1,2,4 or 1/2,1") from None
    if any(not 0 < pace <= 1000 for pace in found):
        raise UsageError(f"--paces is '{text}'; paces are above 0, and at most 1000")
    return found


def _finish(
    kind: str, make: "Callable[[bool], Figure]", ready: "Ready", infos: "list[WeightsInfo]", json: bool
) -> None:
    _announce(ready, infos)
    about = {"weights": [info.as_dict() for info in infos], "data": ready.info.as_dict()}
    _written(kind, make, ready.file, about, json)


def _announce(ready: "Ready", infos: "list[WeightsInfo]") -> None:
    """Print which weights and videos are used, and what does not fit them."""
    from veval import output
    from veval.protocol import crop_note, for_weights
    from vtrain.data.shard_spec import upscaling_note

    for info in infos:
        shown, side = for_weights("features", info, None, ready.settings), ready.info.side
        output.announce(info, ready.info, upscaling_note(side, shown.size), crop_note(shown, info, side))


def _written(kind: str, make: "Callable[[bool], Figure]", file: Path, about: dict[str, Any], json: bool) -> None:
    """Write the picture, and print where it is."""
    from veval.look.save import described, save

    files, figure = save(make, file)
    found = described(kind, figure, files, about)
    printing.show(found, json, lambda found: "\n".join(found["out"]))
