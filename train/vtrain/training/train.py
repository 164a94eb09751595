"""A training, from a recipe to a folder with weights.

    recipe -> videos -> loader -> augment -> method -> loop -> last.pt, best.pt

The command `vtrain METHOD` calls `train`, and programs may call it, too.
"""

import time
import warnings
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from vprep.errors import UsageError, WorkError
from vtrain import run_folder
from vtrain.backbones import Backbone, backbone
from vtrain.backbones.batch_norm import make_exact
from vtrain.distributed import rank, world
from vtrain.doctor import refuse_bad_torch
from vtrain.machine import environment
from vtrain.methods import registry
from vtrain.optim.optimizers import build
from vtrain.overrides import as_json
from vtrain.recipes.recipe import Recipe
from vtrain.training.advice import computing, epochs_in_a_step
from vtrain.training.inputs import Inputs, command_of
from vtrain.training.log import note
from vtrain.training.loop import train as loop
from vtrain.training.memory import demand_memory
from vtrain.training.monitor import Monitor
from vtrain.training.outputs import errors_named
from vtrain.training.processes import first_decides, processes
from vtrain.training.run import Place, Run
from vtrain.training.sync_batch_norm import synced
from vtrain.training.training import DataInfo, Training
from vtrain.training.validation import validation, watching
from vtrain.weights import load_weights

Summary = dict[str, Any]


def train(recipe: Recipe, folder: Path | None = None, *, resume: bool = False, inputs: Inputs | None = None) -> Summary:
    """Train by `recipe`, save everything in `folder`, and return a short summary of the result.

    `inputs` are the recipe's shards and videos if they are open already.
    """
    refuse_bad_torch(torch.__version__)
    with processes() as device, ExitStack() as stack:
        training = Training.open(recipe, device, folder, inputs)
        del inputs  # its index need not stay in memory
        folder = training.folder
        note(demand_memory(training.recipe, training.videos, training.place, training.length.steps, module_of))
        note(epochs_in_a_step(training.recipe.batch, len(training.videos)))
        validate = validation(training)
        watch = watching(training)
        note(training.note)
        if not resume:
            first_decides(lambda: begin_folder(folder))
        # A resumed run has its weights in its state; those that it began with may be gone by then.
        run = make(replace(training.recipe, weights=None) if resume else training.recipe, training.place)
        first_decides(lambda: stack.enter_context(run_folder.alone(folder)))
        if resume:
            load_last(run, folder, training.data)
        elif rank() == 0:
            run_folder.write_json(folder / run_folder.RECIPE, as_json(training.recipe))
        if rank() == 0:
            note_environment(folder, run.step)
        note(computing(run.module, training.place, training.recipe.compile == "yes"))
        feed = training.feed(run)
        monitor = Monitor(training, feed, first=run.step, validate=validate, watch=watch)
        return carry_out(training, run, monitor)


def carry_out(training: Training, run: Run, monitor: Monitor) -> Summary:
    """Train `run` to its last step. If it is stopped before, it is saved, and a WorkError says how to continue."""
    recipe, length = training.recipe, training.length
    began, first = time.perf_counter(), run.step
    try:
        with monitor.progress:
            done = loop(run, monitor.feed, recipe, length, monitor, training.place)
    finally:
        monitor.close()
    if not done:
        again = f"vtrain {command_of(recipe)} --resume --out {training.folder}"
        raise WorkError(f"stopped at step {run.step} of {length.steps}, which is saved; continue with: {again}")
    seconds = time.perf_counter() - began
    return {
        "run": str(training.folder),
        "method": recipe.method_name,
        "backbone": recipe.backbone,
        "recipe": recipe.name,
        "steps": run.step,
        "seconds": round(seconds, 1),
        **({} if run.best is None else {"best": asdict(run.best)}),
        "clips_per_s": round((run.step - first) * recipe.batch / seconds, 2),
        **{name: value for name, value in monitor.last.items() if name not in ("step", "clips_per_s")},
    }


def module_of(recipe: Recipe) -> nn.Module:
    """Return the recipe's method with its backbone, both with random weights."""
    return method_of(recipe, network_of(recipe))


def make(recipe: Recipe, place: Place) -> Run:
    """Build the method with its backbone and its optimiser, wrapped where there are several processes."""
    torch.manual_seed(recipe.seed)
    net = network_of(recipe)
    if recipe.weights is not None:
        epoch = load_weights(net, recipe.backbone, Path(recipe.weights)).epoch
        note(f"initial weights: {recipe.weights} ({epoch})" if epoch else "")
    module = method_of(recipe, net).to(place.device)
    if place.device.type == "cuda":
        module.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    if place.device.type == "cpu" or recipe.batch_norm == "own":  # torch's own SyncBatchNorm replaces others on a GPU
        make_exact(module)
    if recipe.batch_norm == "sync":
        module = synced(module, place.device)
    optimizer = build(module, recipe.optim, getattr(module, "lr_factors", {}))
    if recipe.compile == "yes":
        module.compile(dynamic=False)
    return Run(module, over_processes(module, place.device), optimizer, place.device)


def network_of(recipe: Recipe) -> Backbone:
    """Return the recipe's backbone with random weights."""
    try:
        return backbone(recipe.backbone, **recipe.backbone_settings)
    except (TypeError, ValueError, RuntimeError) as error:
        overflow = "overflow" in str(error)
        reason = "some of its weights would take more than 2**63 bytes" if overflow else str(error).splitlines()[0]
        raise UsageError(
            f"backbone '{recipe.backbone}' cannot be made with backbone_settings {recipe.backbone_settings} "
            f"({reason}); change them"
        ) from None


def method_of(recipe: Recipe, net: Backbone) -> nn.Module:
    """Return the recipe's method on this backbone."""
    with errors_named("building the module", recipe.method_name):
        module = registry.entry(recipe.method_name).module(net, recipe.method)
    if not isinstance(module, nn.Module) or not isinstance(getattr(module, "backbone", None), nn.Module):
        raise UsageError(f"method '{recipe.method_name}' keeps no backbone; it must be an nn.Module with self.backbone")
    if not callable(getattr(module, "after_step", None)):
        raise UsageError(f"method '{recipe.method_name}' has no after_step(progress); add one, which may do nothing")
    return module


def over_processes(module: nn.Module, device: torch.device) -> nn.Module:
    """Return the module to call: with several processes, it is wrapped so that gradients are averaged over them."""
    if world() == 1:
        return module
    with warnings.catch_warnings():
        # Newer torch has another name for it, which 2.10 does not know.
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
        # Each rank's batch norm has its own statistics; the first rank's are saved.
        return DistributedDataParallel(
            module, [device] if device.type == "cuda" else None, broadcast_buffers=False, gradient_as_bucket_view=True
        )


def begin_folder(folder: Path) -> None:
    """Make the folder of a new run; refuse a folder that holds more than a run that stopped before it saved."""
    if run_folder.clear_unsaved(folder):
        note(f"the run in {folder} stopped before it saved; this run takes its place")
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} exists already; continue its run with --resume, or choose another --out")
    folder.mkdir(parents=True, exist_ok=True)


def load_last(run: Run, folder: Path, data: DataInfo) -> None:
    """Load the last state in the folder into `run`; `data` must be the videos that it was trained on."""
    state = run_folder.load(folder)
    if state["data"]["hash"] != data.hash:
        raise UsageError(
            f"{folder} was trained on {state['data']['videos']} videos of other shards than these "
            f"{data.videos}; name its own shards, or start from its weights: --weights {folder}"
        )
    try:
        run.load(state)
    except (RuntimeError, ValueError, KeyError) as error:  # torch raises any of these
        raise UsageError(
            f"{folder / run_folder.LAST} was not saved by a training with {run_folder.RECIPE} "
            f"({str(error).splitlines()[0]}); restore the recipe that the run began with"
        ) from None
    noted, run.best = run.best, first_decides(lambda: run_folder.restore_best(folder))
    if noted is not None and run.best is None:
        note(f"{folder / run_folder.BEST} is not there any more; the best of the epochs to come will be kept")


def note_environment(folder: Path, step: int) -> None:
    """Add the environment of this start to those of earlier ones."""
    path, here = folder / run_folder.ENVIRONMENT, {"step": step, **environment()}
    before = run_folder.read_json(path) if path.exists() else []
    run_folder.write_json(path, [*before, here] if isinstance(before, list) else [here])
