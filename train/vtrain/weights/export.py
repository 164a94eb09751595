"""A backbone for others to use: weights, a TorchScript program or an ONNX graph, each with its facts inside.

What was written is opened again and run beside the network before it gets its name. In all three, the batch, the
number of frames and the size of a clip are free; `clip` is only what the network was made for.
"""

import importlib.util
import io
import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from vprep.atomic import DRAFT, atomic_write, move_into_place
from vprep.errors import UsageError, WorkError
from vtrain.backbones import Backbone
from vtrain.backbones.conv import use_kernels
from vtrain.weights import load_backbone, save_weights
from vtrain.weights.backbone_file import IN_HEADER, Facts, blank, check_target
from vtrain.weights.normalisation import as_words, spelled

CLIP = (16, 112, 112)  # where a file does not say
KEPT = ("origin", "file", "method", "step")  # of the facts, beside those that every export has
PACKAGES = ("onnxscript", "onnxruntime")  # the extra `onnx`; the first brings onnx itself
IN_PROGRAM = f"{IN_HEADER}.json"  # the file in a .ts that holds the facts
Run = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Form:
    """A kind of file: how it is written and opened, and how close to the network it has to come."""

    write: Callable[[Path, Backbone, Facts, Tensor], None]
    open: Callable[[Path], Run]
    close: float
    three_lines: str  # of plain Python that run it


def export(source: Path, out: Path, frames: int | None = None, size: int | None = None) -> dict[str, Any]:
    """Write the backbone of a run or of a file with weights to `out`, in the form that its ending says."""
    check_target(out, source / "last.pt" if source.is_dir() else source, tuple(FORMS))
    form = FORMS[out.suffix]
    if out.suffix == ".onnx":
        check_packages()
    net, given = load_backbone(source)
    facts = described(source, given, frames, size)
    clips = two_clips(facts)
    with torch.no_grad():
        net.float()
        wanted = {batch: net(clips[:batch]) for batch in (1, 2)}
        if not wanted[2].isfinite().all():
            raise UsageError(f"the network in {source} gives no finite numbers; export an older state of it")
        with draft_of(out) as draft:
            form.write(draft, net, facts, clips)
            run = form.open(draft)
            error = max(difference(run(clips[:batch]), found) for batch, found in wanted.items())
            if not error <= form.close:
                raise WorkError(
                    f"what was written computes something else (relative error {error:.1e}); {out} is not made"
                )
            replaced = out.exists()
            move_into_place(draft, out)
    lines = form.three_lines.format(path=str(out), clip=", ".join(map(str, facts["clip"])))
    return {**facts, "out": str(out), "replaced": replaced, "relative_error": error, "load": lines}


def as_lines(facts: dict[str, Any]) -> str:
    """The same for people."""
    clip, seen = " x ".join(map(str, facts["clip"])), as_words(facts["normalisation"])
    error = facts["relative_error"]
    same = f"what the network does, but for {error:.0e} of it" if error else "exactly what the network does"
    return "\n".join((
        f"backbone {facts['backbone']}, {facts['dim']} channels, for clips of {clip}, {seen}",
        f"opened again, it computes {same}",
        f"{'replaced' if facts['replaced'] else 'written'}: {facts['out']}",
        "to use it:",
        *(f"    {line}" for line in facts["load"].splitlines()),
    ))  # fmt: skip


def described(source: Path, given: Facts, frames: int | None, size: int | None) -> Facts:
    """What goes into the file; what neither the weights nor the run's recipe say is None."""
    recipe = given.get("recipe", recipe_of(source))
    known = {**(recipe if isinstance(recipe, dict) else {}), **given}
    time, height, width = clip_of(known.get("clip"))
    return {
        "backbone": given["backbone"],
        "settings": given["settings"],
        "dim": given["dim"],
        "clip": [frames or time, size or height, size or width],
        "normalisation": spelled(known.get("normalisation")),
        "recipe": recipe,
        **{name: given[name] for name in KEPT if name in given},
    }


def recipe_of(source: Path) -> Any:  # noqa: ANN401  what JSON holds
    """A run keeps its recipe beside its weights."""
    beside = (source if source.is_dir() else source.parent) / "recipe.json"
    if not (source.is_dir() or source.name == "last.pt") or not beside.is_file():
        return None
    try:
        return json.loads(beside.read_bytes())
    except ValueError as error:
        raise UsageError(f"{beside} is no JSON ({error}); mend it or take it away") from None


def clip_of(found: Any) -> tuple[int, int, int]:  # noqa: ANN401  whatever a file says
    """[frames, height, width], or a recipe's frames and size."""
    if isinstance(found, dict):
        found = [found.get("frames"), found.get("size"), found.get("size")]
    if isinstance(found, list | tuple) and len(found) == 3 and all(type(x) is int and x > 0 for x in found):
        return found[0], found[1], found[2]
    return CLIP


def two_clips(facts: Facts) -> Tensor:
    """Noise that the backbone can look at; tried without memory first."""
    shape = (2, 3, *facts["clip"])
    try:
        blank(facts["backbone"], facts["settings"]).eval()(torch.empty(shape, device="meta"))
    except (RuntimeError, ValueError) as error:
        clip, said = " x ".join(map(str, facts["clip"])), str(error).splitlines()[0]
        raise UsageError(
            f"backbone '{facts['backbone']}' cannot look at clips of {clip} ({said}); set --frames and --size"
        ) from None
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


def difference(found: Tensor, wanted: Tensor) -> float:
    """Relative; infinite where they cannot be compared."""
    if found.shape != wanted.shape or not found.isfinite().all():
        return float("inf")
    return float((found - wanted).norm() / wanted.norm().clamp_min(1e-30))


def check_packages() -> None:
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"an .onnx file needs {', '.join(missing)}; install with: pip install 'playspeed[onnx]'")


@contextmanager
def draft_of(out: Path) -> Iterator[Path]:
    """A path beside `out` that is gone at the end."""
    draft = out.with_name(f".{out.name}.{os.getpid()}.export{DRAFT}")
    try:
        yield draft
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def quiet() -> Iterator[None]:
    """Both exporters speak of what is torch's and not the user's: TorchScript's age, torchvision's absence."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def write_weights(path: Path, net: Backbone, facts: Facts, clips: Tensor) -> None:
    save_weights(path, net, facts)


def open_weights(path: Path) -> Run:
    return load_backbone(path)[0]


def write_program(path: Path, net: Backbone, facts: Facts, clips: Tensor) -> None:
    # Traced in channels-last, the program takes the 2D kernels, for clips of any layout: of S3D-G on one thread of a
    # CPU it takes 180 ms, where a contiguous trace of the 3D kernels takes 440.
    last = torch.channels_last_3d
    net.to(memory_format=last)  # type: ignore[call-overload]
    buffer = io.BytesIO()
    with quiet():
        example = clips.contiguous(memory_format=last)
        program = torch.jit.trace(net, example, check_trace=False)  # type: ignore[no-untyped-call]
        torch.jit.save(program, buffer, _extra_files={IN_PROGRAM: json.dumps(facts)})
    with atomic_write(path) as file:
        file.write(buffer.getbuffer())


def open_program(path: Path) -> Run:
    with quiet():
        run: Run = torch.jit.load(str(path))  # type: ignore[no-untyped-call]
    return run


def write_graph(path: Path, net: Backbone, facts: Facts, clips: Tensor) -> None:
    use_kernels(net, "3d")  # the plain graph; how it is computed is for whoever runs it
    free = {0: "batch", 2: "frames", 3: "height", 4: "width"}
    with quiet():
        made = torch.onnx.export(
            net, (clips,), dynamo=True, verbose=False, dynamic_shapes=(free,),
            input_names=["clips"], output_names=["map"],
        )  # fmt: skip
    made = cast(torch.onnx.ONNXProgram, made)  # None only where it writes a file itself
    made.model.metadata_props[IN_HEADER] = json.dumps(facts)
    with atomic_write(path) as file:
        file.write(made.model_proto.SerializeToString())


def open_graph(path: Path) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda clips: torch.from_numpy(session.run(None, {"clips": clips.numpy()})[0])


FORMS = {
    ".safetensors": Form(
        write_weights, open_weights, 0.0,
        "import torch, vtrain\n"
        "net, facts = vtrain.load_backbone({path!r})\n"
        "map_BCTHW = net(torch.rand(1, 3, *facts['clip']))",
    ),
    ".ts": Form(
        write_program, open_program, 1e-5,
        "import torch\n"
        "net = torch.jit.load({path!r}, _extra_files=(facts := {{'vtrain.json': ''}}))\n"
        "map_BCTHW = net(torch.rand(1, 3, {clip}))",
    ),
    ".onnx": Form(
        write_graph, open_graph, 1e-5,
        "import numpy, onnxruntime\n"
        "net = onnxruntime.InferenceSession({path!r})\n"
        "(map_BCTHW,) = net.run(None, {{'clips': numpy.zeros((1, 3, {clip}), 'float32')}})",
    ),
}  # fmt: skip
