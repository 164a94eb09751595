"""The inputs of a training, opened once: the recipe, the videos, the device and the folder."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch

from vprep.processors import demand_workers
from vtrain.data.augment.apply import Augment
from vtrain.data.dataset import Videos
from vtrain.data.fetch import ClipFetcher
from vtrain.data.loader import Loader
from vtrain.distributed import rank, world
from vtrain.inference import uses_bf16
from vtrain.machine import default_workers, versions
from vtrain.meeting import demand_same
from vtrain.methods import registry
from vtrain.overrides import as_json, listed
from vtrain.recipes.recipe import Length, Recipe
from vtrain.training.compiler import demand_compiler
from vtrain.training.inputs import Inputs, command_of, note_about
from vtrain.training.loop import Feed
from vtrain.training.processes import agreed_folder
from vtrain.training.run import Place, Run

FORMAT = 1  # of a run's state


@dataclass(frozen=True, slots=True, kw_only=True)
class DataInfo:
    """The videos that a run learns from."""

    name: str
    hash: str
    videos: int
    split: str
    fold: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """The description saved beside the weights, which makes them usable without the recipe and the method's code."""

    format: int = FORMAT
    method: str
    protocol: str  # veval's protocol for the weights, when the user names none
    backbone: str
    settings: dict[str, Any]
    clip: list[int]
    normalisation: str
    classes: list[str] | None
    data: DataInfo
    recipe: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """The inputs of a training. They do not change while it runs; `Run` holds what changes."""

    recipe: Recipe
    folder: Path
    place: Place
    videos: Videos
    validated: Videos | None  # videos on which the method's own task is measured
    watched: tuple[Videos, Videos] | None  # gallery and queries of the nearest neighbours
    length: Length
    data: DataInfo
    note: str  # a warning to print before the first step; may be empty
    again: str  # how a user continues it when it was stopped, as the end of a sentence

    @classmethod
    def open(
        cls,
        recipe: Recipe,
        device: torch.device,
        folder: Path | None = None,
        inputs: Inputs | None = None,
        again: str = "",
    ) -> "Training":
        """Open the recipe's shards and select the videos, unless `inputs` holds them."""
        place = place_of(recipe, device)
        recipe.at_a_time(world())  # refuses a batch that the processes cannot share
        folder = agreed_folder(folder, recipe.method_name)
        inputs = inputs or Inputs.open(recipe)
        recipe = inputs.recipe
        demand_same(shared_by(recipe, inputs, device), "start all processes with the same command, code and videos")
        return cls(
            recipe=recipe,
            folder=folder,
            place=place,
            videos=inputs.videos,
            validated=inputs.validated if recipe.validate.every else None,
            watched=inputs.watched,
            length=recipe.length(len(inputs.videos)),
            data=DataInfo(
                name=inputs.shards.name,
                hash=inputs.videos.fingerprint,
                videos=len(inputs.videos),
                split=recipe.data.split,
                fold=recipe.data.fold,
            ),
            note="\n".join(filter(None, (inputs.note, note_about(recipe, inputs.shards)))) if rank() == 0 else "",
            again=again or f"continue with: vtrain {command_of(recipe)} --resume {folder}",
        )

    @property
    def info(self) -> RunInfo:
        recipe = self.recipe
        return RunInfo(
            method=recipe.method_name,
            protocol=registry.entry(recipe.method_name).protocol,
            backbone=recipe.backbone,
            settings=dict(recipe.backbone_settings),
            clip=list(recipe.clip),
            normalisation=recipe.method.sampling.looks[0].normalise,
            classes=self.videos.classes if recipe.learns_from_labels else None,
            data=self.data,
            recipe=as_json(recipe),
        )

    def feed(self, run: Run) -> Feed:
        """Return the batches that follow the step of `run`."""
        return feed_of(self.recipe, self.videos, run, self.place)


def shared_by(recipe: Recipe, inputs: Inputs, device: torch.device) -> dict[str, Any]:
    """Return what must be the same in all processes; the paths of the shards and the weights need not."""
    others = {name: value for name, value in listed(recipe) if name not in ("data.shards", "data.subset", "weights")}
    return {
        "the set": f"{len(inputs.videos)} videos, hash {inputs.videos.fingerprint}",
        "the device": device.type,
        **{name: installed for name, installed in versions().items() if name in ("playspeed", "torch")},
        **others,
    }


def place_of(recipe: Recipe, device: torch.device) -> Place:
    workers = recipe.workers if recipe.workers is not None else default_workers(device)
    demand_workers(workers)
    if recipe.compile == "yes":
        demand_compiler(device)
    return Place(device, precision_of(recipe, device), workers)


def precision_of(recipe: Recipe, device: torch.device) -> torch.dtype:
    return torch.bfloat16 if uses_bf16(recipe.precision, device) else torch.float32


def feed_of(recipe: Recipe, videos: Videos, run: Run | None, place: Place) -> Feed:
    """Return the batches that follow the step of `run`, which counts bad videos; without a run, all batches."""
    plan = recipe.method.plan()
    loader = Loader(
        videos, plan, batch=recipe.at_a_time(world()), seed=recipe.seed, workers=place.workers, rank=rank(),
        world=world(), position=run.step * recipe.batch if run else 0, on_error=recipe.data.on_error,
        budget=recipe.data.budget, bad=run.bad if run else None, device=place.device,
    )  # fmt: skip
    if run is not None:
        let_fetch(run, recipe, loader, place)
    return Feed(loader, Augment(plan.looks), run.fetch if run is not None else None)


def let_fetch(run: Run, recipe: Recipe, loader: Loader, place: Place) -> None:
    """Let a method that chooses clips within a step read them from the loader's videos."""
    plans = getattr(run.module, "fetched", {})
    if plans:
        run.fetch = ClipFetcher(
            loader.videos, plans, seed=recipe.seed, threads=place.workers, rank=rank(), on_error=recipe.data.on_error,
            count=loader.count, device=place.device,
        )  # fmt: skip
        cast(Any, run.module).fetch = run.fetch
