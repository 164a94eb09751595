"""States of a training, checkpoints of others, and .safetensors files."""

import functools
import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mutate import mutate_bytes, mutate_text, mutate_value, mutate_zip
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from fuzzed import Kind
from veval import inputs
from veval.tasks.classifier import load_classifier
from vtrain import run_folder
from vtrain.backbones import backbone
from vtrain.methods.supervised import Config
from vtrain.overrides import as_json
from vtrain.weights import import_weights, load_backbone, read_checkpoint, save_weights
from vtrain.weights.backbone_file import CHECK, METADATA_KEY, check_of

CLASSES = ["a", "b", "c"]


def state() -> dict[str, Any]:
    """Return a state as a fine-tuning saves it."""
    torch.manual_seed(0)
    net, head = backbone("tiny", width=4), torch.nn.Linear(64, 3)
    model = {f"backbone.{name}": tensor for name, tensor in net.state_dict().items()}
    return {
        "step": 7,
        "model": {**model, "head.weight": torch.randn(3, net.dim), "head.bias": head.bias.detach()},
        "optimizer": {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
        "method": "supervised",
        "backbone": "tiny",
        "settings": {"width": 4},
        "clip": [4, 32, 32],
        "normalisation": "unit",
        "classes": CLASSES,
        "best": {"by": "loss", "value": 0.5, "step": 7},
        "epochs": 2.0,
        "data": {"name": "UCF101", "hash": "x", "videos": 12},
        "recipe": {"name": "tiny", "seed": 5, "method": {"name": "supervised", **as_json(Config(classes=3))}},
    }


def make_state(folder: Path, *, legacy: bool = False) -> Path:
    torch.save(state(), folder / "last.pt", _use_new_zipfile_serialization=not legacy)
    (folder / "recipe.json").write_text("{}")
    return folder / "last.pt"


def make_safetensors(folder: Path) -> Path:
    path = folder / "a.safetensors"
    save_weights(path, backbone("tiny", width=4), {"backbone": "tiny", "settings": {"width": 4}, "clip": [4, 32, 32]})
    return path


def as_values(found: Any, tensors: list[Tensor]) -> Any:  # noqa: ANN401
    """Return a saved object as a JSON value, in which a text stands for each tensor; these are added to `tensors`."""
    if isinstance(found, Tensor):
        tensors.append(found)
        return f"tensor {len(tensors) - 1}"
    if isinstance(found, dict):
        return {str(key): as_values(value, tensors) for key, value in found.items()}
    return [as_values(value, tensors) for value in found] if isinstance(found, list | tuple) else found


def with_tensors(value: Any, tensors: list[Tensor], rng: random.Random) -> Any:  # noqa: ANN401
    """Return the value with its tensors, some of them changed."""
    if isinstance(value, dict):
        return {key: with_tensors(inner, tensors, rng) for key, inner in value.items()}
    if isinstance(value, list):
        return [with_tensors(inner, tensors, rng) for inner in value]
    number = value.removeprefix("tensor ") if isinstance(value, str) else ""
    if not number.isdigit() or int(number) >= len(tensors):
        return value
    return changed(tensors[int(number)], rng) if rng.randrange(20) == 0 else tensors[int(number)]


def changed(tensor: Tensor, rng: random.Random) -> Tensor:
    other: list[Callable[[], Tensor]] = [
        lambda: tensor.double(), lambda: tensor.to(torch.complex64), lambda: tensor.to(torch.int8),
        lambda: torch.full_like(tensor, 1).float() * float("nan"), lambda: tensor.float() + 3e38,
        lambda: tensor.flatten()[:1].expand(10**12), lambda: tensor.flatten()[0].expand(tensor.shape),
        lambda: tensor[..., None], lambda: torch.zeros(0), lambda: torch.tensor(3), lambda: tensor.to("meta"),
    ]  # fmt: skip
    return rng.choice(other)() if tensor.numel() else tensor


@functools.cache
def loaded(good: bytes) -> dict[str, Any]:
    return torch.load(io.BytesIO(good), weights_only=True)  # type: ignore[no-any-return]


def mutate_state(good: bytes, seed: int, *, legacy: bool = False) -> bytes:
    """Return a state in which bytes, members of the zip, or values are changed, with right checksums."""
    rng = random.Random(f"state {seed}")
    how = rng.randrange(4)
    if how == 0:
        return mutate_bytes(good, seed)
    if how == 1 and not legacy:
        return mutate_zip(good, seed, mutate_pickle)
    tensors: list[Tensor] = []
    values = mutate_value(as_values(loaded(good), tensors), seed)
    sink = io.BytesIO()
    torch.save(with_tensors(values, tensors, rng), sink, _use_new_zipfile_serialization=not legacy)
    return sink.getvalue()


def mutate_pickle(name: str, content: bytes, seed: int) -> bytes:
    """Change the bytes of a member, of a pickle often only one."""
    rng = random.Random(f"pickle {seed}")
    if not name.endswith(".pkl") or rng.randrange(2):
        return mutate_bytes(content, seed)
    at = rng.randrange(len(content))
    return content[:at] + bytes([rng.choice((*b"hjrqQRbaesut()]}0.2", rng.randrange(256)))]) + content[at + 1 :]


def mutate_safetensors(good: bytes, seed: int) -> bytes:
    """Return a file in which bytes, the header or the description are changed, with right lengths and hashes."""
    rng = random.Random(f"safetensors {seed}")
    how, length = rng.randrange(3), int.from_bytes(good[:8], "little")
    if how == 0:
        return mutate_bytes(good, seed)
    header = json.loads(good[8 : 8 + length])
    if how == 1:
        text = mutate_text(header, seed)
        return len(text).to_bytes(8, "little") + text + good[8 + length :]
    described = json.loads(header["__metadata__"][METADATA_KEY])
    described.pop(CHECK)
    text = mutate_text(described, seed)
    tensors = load_tensors(good)
    try:
        value = json.loads(text)
        check = {CHECK: check_of(tensors, value)} if isinstance(value, dict) and rng.randrange(4) else {}
        text = json.dumps({**value, **check}).encode()
    except (ValueError, TypeError, RecursionError):
        pass  # not JSON, or no object
    return save_tensors(tensors, {METADATA_KEY: text.decode("utf-8", "replace")})


def of_folder(read: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda path: read(path.parent)


def describe(path: Path) -> object:
    return inputs.weights(str(path)).info.as_dict()


STATE = {
    "weights": describe,
    "classifier": lambda path: load_classifier(str(path)),
    "folder": of_folder(describe),
    "header": run_folder.header,
    "newest": lambda path: run_folder.newest(path.parent.parent),
}
KINDS = [
    Kind(name="state", make=make_state, mutate=mutate_state, readers=STATE),
    Kind(
        name="legacy",
        make=functools.partial(make_state, legacy=True),
        mutate=functools.partial(mutate_state, legacy=True),
        readers={"tensors": read_checkpoint, "import": lambda path: import_weights(path, "pace"), "weights": describe},
    ),
    Kind(
        name="safetensors",
        make=make_safetensors,
        mutate=mutate_safetensors,
        readers={"backbone": load_backbone, "weights": describe},
    ),
]
