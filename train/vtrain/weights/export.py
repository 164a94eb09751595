"""Export a backbone as weights, as a TorchScript program or as an ONNX graph, each with its description inside.

The written file is opened again and compared with the network before it gets its name. All three take any batch size,
number of frames and size of a clip; `clip` only describes the clips that the network was trained on.
"""

import importlib.util
import io
import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import prod, sqrt
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from vprep import plugins
from vprep.atomic import DRAFT, atomic_write, move_into_place
from vprep.errors import UsageError, WorkError, about
from vprep.memory import memory_with_swap
from vprep.memory import size as as_size
from vtrain.backbones import Backbone
from vtrain.backbones.conv import use_kernels
from vtrain.run_folder import BEST, LAST, weights_file
from vtrain.weights import load_backbone, save_weights
from vtrain.weights.backbone_file import METADATA_KEY, on_meta
from vtrain.weights.info import WeightsInfo, clip_of
from vtrain.weights.location import EXPORTS, check_target
from vtrain.weights.normalisation import as_words, spelled

CLIP = [16, 112, 112]  # when neither the file nor the command names a clip
ALWAYS = ("backbone", "settings", "dim", "clip", "normalisation", "recipe")  # null in the description when unknown
PACKAGES = ("onnxscript", "onnxruntime")  # the extra `onnx`; the first brings onnx itself
IN_PROGRAM = f"{METADATA_KEY}.json"  # the file in a .ts that holds the description
Run = Callable[[Tensor], Tensor]
Description = dict[str, Any]  # of a backbone, as it is written into the file


@dataclass(frozen=True, slots=True)
class Form:
    """A kind of file: how to write and open it, and how close to the network its output must be."""

    write: Callable[[Path, Backbone, Description, Tensor], None]
    open: Callable[[Path], Run]
    tolerance: float  # relative
    usage: str  # lines of plain Python that run it


def export(source: Path, out: Path, frames: int | None = None, size: int | None = None) -> dict[str, Any]:
    """Write the backbone of a run or of a file with weights to `out`, in the form that its ending names."""
    if source.is_dir() and (chosen := weights_file(source)).is_file():
        source = chosen  # once: a training may save a better epoch meanwhile
    check_target(out, source, EXPORTS)
    form = FORMS[out.suffix]
    if out.suffix == ".onnx":
        check_packages()
    net, found = load_backbone(source)
    info = described(source, found, frames, size)
    description = {name: info.get(name) for name in ALWAYS} | dict(info)
    clips = two_clips(info)
    with torch.no_grad():
        net.float()
        wanted = {batch: net(clips[:batch]) for batch in (1, 2)}
        if not wanted[2].isfinite().all():
            raise UsageError(f"the network in {source} gives values that are not finite; export an older state of it")
        with draft_of(out) as draft:
            form.write(draft, net, description, clips)
            run = form.open(draft)
            error = max(difference(run(clips[:batch]), output) for batch, output in wanted.items())
            if not error <= form.tolerance:
                raise WorkError(
                    f"the output of the written file differs from the network's (relative error {error:.1e}); "
                    f"{out} was not written"
                )
            replaced = out.exists()
            move_into_place(draft, out)
    usage = form.usage.format(path=str(out), clip=", ".join(map(str, clips.shape[2:])), allow=allowing(info.backbone))
    weights = f"{source}{f' ({found.epoch})' if found.epoch else ''}"
    return {
        **description,
        "weights": weights,
        "out": str(out),
        "replaced": replaced,
        "relative_error": error,
        "load": usage,
    }


def as_lines(result: dict[str, Any]) -> str:
    """Return the result of `export` as text for people."""
    clip, normalised = " x ".join(map(str, result["clip"])), as_words(result["normalisation"])
    error = result["relative_error"]
    same = f"its output differs from the network's by {error:.0e}" if error else "its output is exactly the network's"
    return "\n".join((
        f"weights {result['weights']}",
        f"backbone {result['backbone']}, {result['dim']} channels, for clips of {clip}, {normalised}",
        f"checked: {same}",
        f"{'replaced' if result['replaced'] else 'written'}: {result['out']}",
        "to use it:",
        *(f"    {line}" for line in result["load"].splitlines()),
    ))  # fmt: skip


def described(source: Path, found: WeightsInfo, frames: int | None, size: int | None) -> WeightsInfo:
    """Return the description that is written with the weights, completed from the run's recipe."""
    recipe = found.recipe or recipe_of(source)
    known: dict[str, Any] = {**(recipe or {}), **found}
    time, height, width = clip_of(known.get("clip")) or CLIP
    return replace(
        found,
        clip=[frames or time, size or height, size or width],
        normalisation=spelled(known.get("normalisation")),
        recipe=recipe,
        epochs=None,
        data=None,
        classes=None,
    )


def recipe_of(source: Path) -> dict[str, Any] | None:
    """Return the recipe that a run keeps beside its weights; None when there is none."""
    beside = (source if source.is_dir() else source.parent) / "recipe.json"
    if not (source.is_dir() or source.name in (LAST, BEST)) or not beside.is_file():
        return None
    try:
        found = json.loads(beside.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{beside} is not JSON ({error}); repair it or remove it") from None
    return found if isinstance(found, dict) else None


def two_clips(info: WeightsInfo) -> Tensor:
    """Return two random clips for the backbone; their size is first tried without memory."""
    shape = (2, 3, *(info.clip or CLIP))
    needed, room = prod(shape) * torch.float32.itemsize, memory_with_swap()
    if needed > room:
        most = int(shape[3] * sqrt(0.5 * room / needed))
        fitting = f"--size {most}" if most else f"--frames {int(shape[2] * 0.5 * room / needed)}"
        raise UsageError(
            f"two clips of {' x '.join(map(str, shape[2:]))}, with which the file is checked, need {as_size(needed)} "
            f"of memory, and this machine has {as_size(room)}; {fitting} would fit"
        )
    try:
        on_meta(info.backbone, info.settings).eval()(torch.empty(shape, device="meta"))
    except (RuntimeError, ValueError) as error:
        clip, reason = " x ".join(map(str, shape[2:])), str(error).splitlines()[0]
        raise UsageError(
            f"backbone '{info.backbone}' does not take clips of {clip} ({reason}); set --frames and --size"
        ) from None
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


def difference(found: Tensor, wanted: Tensor) -> float:
    """Return the relative difference; infinity when the two cannot be compared."""
    if found.shape != wanted.shape or not found.isfinite().all():
        return float("inf")
    return float((found - wanted).norm() / wanted.norm().clamp_min(1e-30))


def allowing(name: str) -> str:
    """Return the lines of Python that allow the import of backbone `name`; none when it needs no permission."""
    return f"import vtrain.backbones\nvtrain.backbones.allow({name!r})\n" if plugins.named(name) else ""


def check_packages() -> None:
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"an .onnx file needs {', '.join(missing)}; install with: pip install 'playspeed[onnx]'")


@contextmanager
def draft_of(out: Path) -> Iterator[Path]:
    """Yield a path beside `out`; when the block ends, remove a file that is still there."""
    draft = out.with_name(f".{out.name}.{os.getpid()}.export{DRAFT}")
    draft.unlink(missing_ok=True)  # were it a link, another file would be written
    try:
        with about(out, draft):
            yield draft
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the exporters' warnings about torch itself: TorchScript's age, torchvision's absence."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def write_weights(path: Path, net: Backbone, description: Description, clips: Tensor) -> None:
    save_weights(path, net, description)


def open_weights(path: Path) -> Run:
    return load_backbone(path)[0]


def write_program(path: Path, net: Backbone, description: Description, clips: Tensor) -> None:
    # Traced in channels-last, the program uses the 2D kernels for clips of any layout. S3D-G on one thread of a CPU
    # takes 180 ms so; a contiguous trace with the 3D kernels takes 440 ms.
    last = torch.channels_last_3d
    net.to(memory_format=last)  # type: ignore[call-overload]
    buffer = io.BytesIO()
    with quiet():
        example = clips.contiguous(memory_format=last)
        program = torch.jit.trace(net, example, check_trace=False)  # type: ignore[no-untyped-call]
        torch.jit.save(program, buffer, _extra_files={IN_PROGRAM: json.dumps(description)})
    with atomic_write(path) as file:
        file.write(buffer.getbuffer())


def open_program(path: Path) -> Run:
    with quiet():
        run: Run = torch.jit.load(str(path))  # type: ignore[no-untyped-call]
    return run


def write_graph(path: Path, net: Backbone, description: Description, clips: Tensor) -> None:
    use_kernels(net, "3d")  # the plain graph; the runtime chooses how to compute it
    free = {0: "batch", 2: "frames", 3: "height", 4: "width"}
    with quiet():
        program = torch.onnx.export(
            net, (clips,), dynamo=True, verbose=False, dynamic_shapes=(free,),
            input_names=["clips"], output_names=["map"],
        )  # fmt: skip
    program = cast(torch.onnx.ONNXProgram, program)  # None only when it writes a file itself
    program.model.metadata_props[METADATA_KEY] = json.dumps(description)
    with atomic_write(path) as file:
        file.write(program.model_proto.SerializeToString())


def open_graph(path: Path) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda clips: torch.from_numpy(session.run(None, {"clips": clips.numpy()})[0])


FORMS = {
    ".safetensors": Form(
        write_weights, open_weights, 0.0,
        "import torch, vtrain\n{allow}"
        "net, info = vtrain.load_backbone({path!r})\n"
        "map_BCTHW = net(torch.rand(1, 3, *info.clip))",
    ),
    ".ts": Form(
        write_program, open_program, 1e-5,
        "import torch\n"
        "net = torch.jit.load({path!r}, _extra_files=(info := {{'vtrain.json': ''}}))\n"
        "map_BCTHW = net(torch.rand(1, 3, {clip}))",
    ),
    ".onnx": Form(
        write_graph, open_graph, 1e-5,
        "import numpy, onnxruntime\n"
        "net = onnxruntime.InferenceSession({path!r})\n"
        "(map_BCTHW,) = net.run(None, {{'clips': numpy.zeros((1, 3, {clip}), 'float32')}})",
    ),
}  # fmt: skip
