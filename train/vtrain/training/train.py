"""One training, from a recipe to a folder with weights.

    recipe -> videos -> loader -> augment -> method -> loop -> last.pt

`train` is what the command `vtrain METHOD` calls, and any program may.
"""

import atexit
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from vprep.errors import UsageError, WorkError
from vtrain import run_folder
from vtrain.backbones import backbone
from vtrain.data.augment.apply import Augment
from vtrain.data.dataset import Videos, choose, held_out
from vtrain.data.loader import Loader
from vtrain.data.shard_spec import absolute, enlarged, read_spec, set_name, smallest_side
from vtrain.distributed import rank, world
from vtrain.doctor import refuse_bad_torch
from vtrain.inference import uses_bf16
from vtrain.machine import environment, keep_memory
from vtrain.methods import METHODS
from vtrain.optim.optimizers import build
from vtrain.overrides import as_json, from_json
from vtrain.recipes.recipe import Length, Recipe, for_classes
from vtrain.training.log import note
from vtrain.training.loop import Feed
from vtrain.training.loop import train as loop
from vtrain.training.monitor import Book
from vtrain.training.run import Observation, Place, Run
from vtrain.training.sync_batch_norm import synced
from vtrain.training.validation import validation, watching
from vtrain.weights import load_weights

Facts = dict[str, Any]

# Groups of processes, kept until all that used them is gone. Where DDP is the last to let go of one, torch (2.13)
# waits for gloo's threads without letting go of Python's lock, which these may want: some trainings never ended. And
# where it happens while Python itself goes, some aborted.
GROUPS: list[Any] = []
atexit.register(GROUPS.clear)


def train(recipe: Recipe, folder: Path | None = None, *, resume: bool = False) -> Facts:
    """Train as `recipe` says, and keep all of it in `folder`. What comes back is its end in short."""
    refuse_bad_torch(torch.__version__)
    with processes() as device, ExitStack() as stack:
        workers = recipe.workers if recipe.workers is not None else default_workers(device)
        place = Place(device, precision_of(recipe, device), workers)
        at_a_time = recipe.at_a_time(world())
        folder = agreed_folder(folder, recipe.method_name)
        recipe = resolved(recipe)
        videos, held = chosen(recipe)
        recipe = for_classes(recipe, len(videos.classes or ()))
        looks = observations(recipe, held, place)
        note(enlarged(smallest_side(recipe.data.shards), max(look.size for look in recipe.method.plan().looks)))
        if not resume:
            first_decides(lambda: begin_folder(folder))
        length = recipe.length(len(videos))
        run = make(recipe, place)
        first_decides(lambda: stack.enter_context(run_folder.alone(folder)))
        facts = facts_of_run(recipe, videos)
        if resume:
            go_on(run, folder, facts)
        elif rank() == 0:
            run_folder.write_json(folder / run_folder.RECIPE, as_json(recipe))
        if rank() == 0:
            note_environment(folder, run.step)
        feed = feed_of(recipe, videos, run.step, at_a_time, place)
        return carry_out(run, feed, recipe, length, folder, facts, place, looks)


def carry_out(
    run: Run, feed: Feed, recipe: Recipe, length: Length, folder: Path, facts: Facts, place: Place,
    looks: tuple[Observation | None, Observation | None],
) -> Facts:  # fmt: skip
    began, first = time.perf_counter(), run.step
    validate, watch = looks
    book = Book(folder, recipe, length, feed, facts, place.device, first=first, validate=validate, watch=watch)
    try:
        with book.progress:
            done = loop(run, feed, recipe, length, book, place)
    finally:
        book.close()
    if not done:
        again = f"vtrain {recipe.method_name} --resume --out {folder}"
        raise WorkError(f"stopped at step {run.step} of {length.steps}, which is saved; go on with: {again}")
    seconds = time.perf_counter() - began
    return {
        "run": str(folder),
        "method": recipe.method_name,
        "recipe": recipe.name,
        "steps": run.step,
        "seconds": round(seconds, 1),
        "clips_per_s": round((run.step - first) * recipe.batch / seconds, 2),
        **{name: value for name, value in book.last.items() if name not in ("step", "clips_per_s")},
    }


def make(recipe: Recipe, place: Place) -> Run:
    """The method with its network, its optimiser, and all that goes with several processes."""
    torch.manual_seed(recipe.seed)
    try:
        net = backbone(recipe.backbone, **recipe.backbone_settings)
    except (TypeError, ValueError, RuntimeError) as error:
        said = str(error).splitlines()[0]
        raise UsageError(
            f"backbone_settings are {recipe.backbone_settings}, of which backbone '{recipe.backbone}' cannot be made "
            f"({said}); change them"
        ) from None
    if recipe.weights is not None:
        load_weights(net, recipe.backbone, Path(recipe.weights))
    module: nn.Module = METHODS[recipe.method_name](net, recipe.method).to(place.device)
    if place.device.type == "cuda":
        torch.backends.cudnn.benchmark = True
        module.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    if recipe.batch_norm == "sync":
        module = synced(module, place.device)
    optimizer = build(module, recipe.optim, getattr(module, "lr_factors", {}))
    if recipe.compile == "yes":
        module.compile(dynamic=False)
    model = module
    if world() > 1:
        # Each rank's batch norm has statistics of its own; those of the first are saved.
        devices = [place.device] if place.device.type == "cuda" else None
        # Said of 1x1x1 convolutions, whose weights lie in memory in the same way whatever their strides are called.
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        with warnings.catch_warnings():
            # Newer torch has another word for it, which 2.10 does not know.
            warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
            model = DistributedDataParallel(module, devices, broadcast_buffers=False, gradient_as_bucket_view=True)
    return Run(module, model, optimizer, place.device)


def chosen(recipe: Recipe) -> tuple[Videos, Videos | None]:
    """The videos that are learned from, and those that are validated on, if any."""
    data = recipe.data
    subset = None if data.subset is None else Path(data.subset)
    split = None if data.split in ("all", "") else data.split
    videos = choose(data.shards, subset=subset, split=split, fold=data.fold)
    if recipe.validate.split:
        return videos, choose(data.shards, split=recipe.validate.split, fold=data.fold)
    if not data.hold_out:
        return videos, None
    return held_out(videos, data.hold_out, data.hold_out_by, recipe.seed)


def observations(recipe: Recipe, held: Videos | None, place: Place) -> tuple[Observation | None, Observation | None]:
    """What is looked at during the training: the task on held-out videos, and nearest neighbours."""
    validate = validation(recipe, held, place) if held is not None and recipe.validate.every else None
    return validate, watching(recipe, place) if recipe.watch.every else None


def feed_of(recipe: Recipe, videos: Videos, step: int, at_a_time: int, place: Place) -> Feed:
    plan = recipe.method.plan()
    loader = Loader(
        videos, plan, batch=at_a_time, seed=recipe.seed, workers=place.workers, rank=rank(), world=world(),
        position=step * recipe.batch, on_error=recipe.data.on_error, budget=recipe.data.budget, device=place.device,
    )  # fmt: skip
    return Feed(loader, Augment(plan.looks))


def default_workers(device: torch.device) -> int:
    """On a CPU the network needs the processors itself; beside a GPU all of them are free for decoding."""
    mine = len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    return max(1, min(16, mine - 1)) if device.type == "cuda" else max(1, mine // 4)


def precision_of(recipe: Recipe, device: torch.device) -> torch.dtype:
    return torch.bfloat16 if uses_bf16(recipe.precision, device) else torch.float32


def facts_of_run(recipe: Recipe, videos: Videos) -> Facts:
    """What is saved beside the weights, so that they can be used without the recipe's file."""
    return {
        "format": 1,
        "method": recipe.method_name,
        "backbone": recipe.backbone,
        "settings": dict(recipe.backbone_settings),
        "clip": list(recipe.clip),
        "normalisation": recipe.method.sampling.looks[0].normalise,
        "classes": videos.classes if recipe.method_name == "supervised" else None,
        "data": {
            "name": set_name(recipe.data.shards),
            "hash": videos.fingerprint,
            "videos": len(videos),
            "split": recipe.data.split,
            "fold": recipe.data.fold,
        },
        "recipe": as_json(recipe),
    }


def agreed_folder(folder: Path | None, method: str) -> Path:
    """The same on all ranks."""
    named = [str(folder or Path("runs") / f"{method}-{time.strftime('%Y%m%d-%H%M%S')}")]
    if world() > 1:
        dist.broadcast_object_list(named)
    return Path(named[0])


def first_decides(act: Callable[[], object]) -> None:
    """`act` is done by the first rank; what it refuses, all refuse."""
    refused: list[str | None] = [None]
    if rank() == 0:
        try:
            act()
        except UsageError as error:
            refused = [str(error)]
    if world() > 1:
        dist.broadcast_object_list(refused)
    if refused[0] is not None:
        raise UsageError(refused[0])


def begin_folder(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is there already; go on with it by --resume, or take another --out")
    folder.mkdir(parents=True, exist_ok=True)


def go_on(run: Run, folder: Path, facts: Facts) -> None:
    """Bring `run` to where the folder's last state is."""
    state = run_folder.load(folder)
    if state["data"]["hash"] != facts["data"]["hash"]:
        raise UsageError(
            f"{folder} was trained on {state['data']['videos']} videos of other shards than these "
            f"{facts['data']['videos']}; give it its own, or start from its weights: --weights {folder}"
        )
    try:
        run.load(state)
    except (RuntimeError, ValueError, KeyError) as error:  # torch has many words for it
        raise UsageError(
            f"{folder / run_folder.LAST} was not saved by a training as {run_folder.RECIPE} says "
            f"({str(error).splitlines()[0]}); bring back the recipe that it began with"
        ) from None


def note_environment(folder: Path, step: int) -> None:
    """Beside that of the beginning, that of each time it went on."""
    path, here = folder / run_folder.ENVIRONMENT, {"step": step, **environment()}
    before = run_folder.read_json(path) if path.exists() else []
    run_folder.write_json(path, [*before, here] if isinstance(before, list) else [here])


def recipe_in(folder: Path) -> Recipe:
    """The recipe that a run was trained by."""
    return from_json(Recipe, run_folder.read_json(folder / run_folder.RECIPE))


def resolved(recipe: Recipe) -> Recipe:
    """With all said that depends on the data and on where this is: paths in full, and the split."""
    data, spec = recipe.data, absolute(recipe.data.shards)
    split = data.split
    if split == "auto":
        splits = [part.facts.get("splits", {}).get(f"split{data.fold}", {}) for part in read_spec(spec)]
        split = "train" if any("train" in one for one in splits) else "all"
    subset = None if data.subset is None else str(Path(data.subset).absolute())
    weights = None if recipe.weights is None else str(Path(recipe.weights).absolute())
    return replace(recipe, data=replace(data, shards=spec, split=split, subset=subset), weights=weights)


@contextmanager
def processes() -> Iterator[torch.device]:
    """This process' device; with torchrun, among the others."""
    local = int(os.environ.get("LOCAL_RANK", 0))
    device = torch.device("cuda", local) if torch.cuda.is_available() else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    else:
        keep_memory()
    mine = int(os.environ.get("WORLD_SIZE", 1)) > 1 and not dist.is_initialized()
    if mine:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        # All are there before one of them may refuse and leave, which would look like a failure to the others.
        dist.barrier(device_ids=[device.index] if device.type == "cuda" else None)
        GROUPS.append(dist.group.WORLD)
    try:
        yield device
    finally:
        if mine:
            dist.destroy_process_group()
