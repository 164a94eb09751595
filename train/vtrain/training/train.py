"""A training, from a recipe to a folder with weights.

    recipe -> videos -> loader -> augment -> method -> loop -> last.pt, best.pt

The command `vtrain METHOD` calls `train`, and programs may call it, too.
"""

import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from vprep import signals
from vprep.errors import StoppedError, UsageError, writing
from vtrain import run_folder
from vtrain.backbones import Backbone, backbone
from vtrain.backbones.batch_norm import make_exact, why_not_fused
from vtrain.distributed import rank, world
from vtrain.doctor import refuse_bad_torch
from vtrain.machine import environment
from vtrain.methods import registry
from vtrain.optim.optimizers import build
from vtrain.overrides import as_json
from vtrain.recipes.recipe import Recipe
from vtrain.training.advice import computing, epochs_in_a_step
from vtrain.training.inputs import Inputs, recipe_in, shards_of
from vtrain.training.lengths import with_length
from vtrain.training.log import note
from vtrain.training.loop import train as loop
from vtrain.training.memory_estimate import demand_memory
from vtrain.training.monitor import Monitor
from vtrain.training.outputs import errors_named
from vtrain.training.processes import first_decides, processes
from vtrain.training.resume import demand_same_state, load, refuse_other_videos, restore_best, state_in
from vtrain.training.run import Place, Run
from vtrain.training.sync_batch_norm import synced
from vtrain.training.training import Training
from vtrain.training.validation import validation, watching
from vtrain.weights import load_weights
from vtrain.weights.tensor_hash import hash_tensors

Summary = dict[str, Any]


def train(
    recipe: Recipe, folder: Path | None = None, *, resume: bool = False, inputs: Inputs | None = None,
    on_keep: Callable[[], None] | None = None, again: str = "",
) -> Summary:  # fmt: skip
    """Train by `recipe`, save everything in `folder`, and return a short summary of the result.

    `inputs` are the recipe's shards and videos if they are open already. The first rank calls `on_keep` when it has
    kept a state. `again` is what a stopped training says about how a user continues it.
    """
    refuse_bad_torch(torch.__version__)
    with processes() as device, ExitStack() as stack:
        if resume and folder is not None:
            inputs = inputs or Inputs.open(recipe, shards_of(recipe, folder))
        training = Training.open(recipe, device, folder, inputs, again)
        del inputs  # its index need not stay in memory
        note(demand_memory(training.recipe, training.videos, training.place, training.length.steps, module_of))
        note(epochs_in_a_step(training.recipe.batch, len(training.videos)))
        validate = validation(training)
        watch = watching(training)
        note(training.note)
        saved = first_decides(lambda: claim(stack, training.folder, resume))
        training, run = continued(training) if saved else (training, make(training.recipe, training.place))
        if saved and run.step == training.length.steps:
            return summary_of(training, run, run.step, 0.0)
        if rank() == 0:
            write_down(training, run.step)
        note(computing(run.module, training.place, training.recipe.compile == "yes"))
        feed = training.feed(run)
        monitor = Monitor(training, feed, first=run.step, validate=validate, watch=watch, on_keep=on_keep)
        return carry_out(training, run, monitor)


def claim(stack: ExitStack, folder: Path, resume: bool) -> bool:
    """Keep the folder for this training until `stack` is closed; return whether a state is saved there.

    A new run takes an empty folder, or that of a run that stopped before it saved. Such a run is also begun again by
    `resume`.
    """
    if not resume:
        run_folder.refuse_used(folder)  # before its lock is written there
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
    stack.enter_context(run_folder.alone(folder))
    if resume:
        saved = run_folder.has_state(folder)
        note("" if saved else f"the run in {folder} stopped before it saved: it begins again by its recipe")
        return saved
    run_folder.refuse_used(folder)  # another training may have begun and ended meanwhile
    if run_folder.unsaved(folder):
        note(f"the run in {folder} stopped before it saved; this run takes its place")
        run_folder.clear_unsaved(folder)
    return False


def continued(training: Training) -> tuple[Training, Run]:
    """Return the training with its length so far noted, and its run as the last state in the folder has it."""
    folder = training.folder
    demand_same_state(folder)
    state = state_in(folder)
    refuse_other_videos(state, folder, training.data)
    begun = recipe_in(folder) if (folder / run_folder.RECIPE).exists() else training.recipe
    recipe, lengthened = with_length(training.recipe, begun, state["step"], len(training.videos))
    training = replace(training, recipe=recipe, length=recipe.length(len(training.videos)))
    # The state has its weights; those that it began with may be gone by now.
    run = make(replace(recipe, weights=None), training.place)
    load(run, state, folder)
    noted, run.best = run.best, first_decides(lambda: kept_best(training, state))
    if noted is not None and run.best is None:
        note(f"{folder / run_folder.BEST} is not there any more; the best of the epochs to come will be kept")
    note(lengthened)
    return training, run


def kept_best(training: Training, state: run_folder.State) -> run_folder.Best | None:
    return restore_best(training.folder, state) if training.recipe.keep == "best" else None


def write_down(training: Training, step: int) -> None:
    """Write the recipe and this start's environment.

    Of a resumed run, only its length, its set's place and what happens to bad videos are new.
    """
    path, recipe = training.folder / run_folder.RECIPE, training.recipe
    if step and path.exists():
        begun = recipe_in(training.folder)
        new = {name: getattr(recipe.data, name) for name in ("shards", "subset", "on_error", "budget")}
        data = replace(begun.data, **new)
        length = {name: getattr(recipe, name) for name in ("steps", "epochs", "earlier_lengths")}
        recipe = replace(begun, data=data, **length)
        if recipe == begun:
            return note_environment(training.folder, step)
    run_folder.write_json(path, as_json(recipe))
    return note_environment(training.folder, step)


def carry_out(training: Training, run: Run, monitor: Monitor) -> Summary:
    """Train `run` to its last step. If it is stopped before, it is saved, and a WorkError says how to continue."""
    recipe, length = training.recipe, training.length
    began, first = time.perf_counter(), run.step
    try:
        with monitor.progress, signals.explained(lambda: at_once(training)):
            stopped_by = loop(run, monitor.feed, recipe, length, monitor, training.place)
    finally:
        monitor.close()
    if stopped_by:
        saved = f"stopped at step {run.step} of {length.steps}, which is saved"
        raise StoppedError(f"{saved}; {training.again}", stopped_by)
    return summary_of(training, run, first, time.perf_counter() - began) | {
        name: value for name, value in monitor.last.items() if name not in ("step", "clips_per_s")
    }


def summary_of(training: Training, run: Run, first: int, seconds: float) -> Summary:
    """Return what a training did since step `first`."""
    recipe, trained = training.recipe, run.step - first
    return {
        "run": str(training.folder),
        "method": recipe.method_name,
        "backbone": recipe.backbone,
        "recipe": recipe.name,
        "shards": recipe.data.shards,
        "steps": run.step,
        "trained": trained,
        "seconds": round(seconds, 1),
        **({} if run.best is None else {"best": asdict(run.best)}),
        "clips_per_s": round(trained * recipe.batch / seconds, 2) if trained else 0.0,
    }


def module_of(recipe: Recipe) -> nn.Module:
    """Return the recipe's method with its backbone, both with random weights."""
    return method_of(recipe, network_of(recipe))


def at_once(training: Training) -> str:
    """Return what a training says that is stopped without a save, by a second Ctrl-C."""
    return f"stopped at once; {run_folder.standing(training.folder)}: {training.again}"


def make(recipe: Recipe, place: Place) -> Run:
    """Build the method with its backbone and its optimiser, wrapped where there are several processes."""
    torch.manual_seed(recipe.seed)
    net, initial = network_of(recipe), None
    if recipe.weights is not None:
        epoch = load_weights(net, recipe.backbone, Path(recipe.weights)).epoch
        note(f"initial weights: {recipe.weights} ({epoch})" if epoch else "")
        initial = hash_tensors(net.state_dict())
    module = method_of(recipe, net).to(place.device)
    if place.device.type == "cuda":
        module.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    if place.device.type == "cpu" or recipe.batch_norm == "own":  # torch's own SyncBatchNorm replaces others on a GPU
        make_exact(module)
    if place.device.type == "cuda" and place.precision != torch.float32:
        why_not_fused(place.device)  # tries it, which waits for the device: not within a step
    if recipe.batch_norm == "sync":
        module = synced(module, place.device)
    optimizer = build(module, recipe.optim, getattr(module, "lr_factors", {}))
    if recipe.compile == "yes":
        module.compile(dynamic=False)
    run = Run(module, over_processes(module, place.device), optimizer, place.device)
    run.initial = initial
    return run


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


def note_environment(folder: Path, step: int) -> None:
    """Add the environment of this start to those of earlier ones."""
    path, here = folder / run_folder.ENVIRONMENT, {"step": step, **environment()}
    before = run_folder.read_json(path) if path.exists() else []
    run_folder.write_json(path, [*before, here] if isinstance(before, list) else [here])
