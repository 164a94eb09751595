"""Files with weights: ours go out and come back, old ones are read, and none is trusted."""

import argparse
import collections
import functools
import io
import json
import os
import pickle
import pickletools
import random
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from vprep.errors import UsageError
from vtrain.backbones import backbone
from vtrain.weights import load_backbone, load_weights, read_checkpoint, read_weights, safetensors, save_weights

LEGACY = {"_use_new_zipfile_serialization": False}  # the format of PyTorch 0.4
FORMATS = [pytest.param(LEGACY, id="legacy"), pytest.param({}, id="zip")]
FACTS = {
    "backbone": "tiny",
    "settings": {"width": 8},
    "recipe": {"method": "pace", "steps": 3},
    "clip": [8, 56, 56],
    "normalisation": {"scale": 255, "channels": "bgr", "mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]},
}


def saved(path: Path, data: object, words: dict[str, bool] | None = None) -> Path:
    torch.save(data, path, **(words or {}))
    return path


def message(read: Callable[[], object]) -> str:
    with pytest.raises(UsageError) as error:
        read()
    return str(error.value)


class Evil:
    """Runs a command when a careless reader opens the file it was saved in."""

    def __init__(self, call: Callable[..., object], *args: object) -> None:
        self.what = call, args

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.what


@pytest.mark.parametrize("words", FORMATS)
@pytest.mark.parametrize(
    ("call", "name"),
    [(os.system, "posix.system"), (eval, "builtins.eval"), (os.mkdir, "posix.mkdir"), (getattr, "builtins.getattr")],
)
def test_a_checkpoint_that_tries_to_execute_code_is_refused_and_executes_nothing(
    call: Callable[..., object], name: str, words: dict[str, bool], tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    order = {"system": f"touch {mark}", "eval": f"open({str(mark)!r}, 'w')", "mkdir": str(mark)}
    args = (os, "system") if call is getattr else (order[call.__name__],)
    if call is getattr:
        args = ("", "upper")  # modules cannot be pickled; the call alone is enough
    hidden = argparse.Namespace(deep=[{"down": Evil(call, *args)}])
    path = saved(tmp_path / "a.pth.tar", {"model": {"w": torch.zeros(3)}, "args": hidden}, words)
    assert message(lambda: read_checkpoint(path)) == (
        f"{path} wants {name} to be called when it is read; nothing was called, and the file is not used: "
        "take weights from a file that holds only tensors and plain values"
    )
    assert not mark.exists()


def test_the_test_file_is_a_real_danger(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    path = saved(tmp_path / "a.pth", {"x": Evil(os.mkdir, str(mark))})
    torch.load(path, weights_only=False)
    assert mark.exists()


@pytest.mark.parametrize("place", range(5))
def test_no_pickle_of_a_legacy_file_is_executed(place: int, tmp_path: Path) -> None:
    """There are five: magic number, version, system, data, names of storages."""
    buffer = io.BytesIO()
    torch.save({"w": torch.zeros(3)}, buffer, **LEGACY)
    buffer.seek(0)
    pieces = []
    for _ in range(5):
        begin = buffer.tell()
        assert all(pickletools.genops(buffer))  # goes on to the pickle's end
        pieces.append(buffer.getvalue()[begin : buffer.tell()])
    pieces[place] = pickle.dumps(Evil(os.mkdir, str(tmp_path / "mark")), protocol=2)
    path = tmp_path / "a.pth"
    path.write_bytes(b"".join(pieces) + buffer.read())
    assert "nothing was called" in message(lambda: read_checkpoint(path))
    assert not (tmp_path / "mark").exists()


def test_a_pickle_cannot_change_the_functions_that_read_it(tmp_path: Path) -> None:
    """BUILD sets attributes of whatever is on the stack, so nothing that can be changed may get there."""
    target = b"ctorch._utils\n_rebuild_tensor_v2\n"
    attack = b"\x80\x02" + target + b"(N}X\x0c\x00\x00\x00__defaults__)s\x86b."
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", attack)
        archive.writestr("a/version", "3")
    assert "cannot be read as a checkpoint" in message(lambda: read_checkpoint(path))
    assert torch._utils._rebuild_tensor_v2.__defaults__ == (None,)


class Setting:
    """Of a class that whoever opens the file does not have."""

    lr = 0.1


@pytest.mark.parametrize("words", FORMATS)
def test_a_checkpoint_with_foreign_objects_gives_its_tensors(words: dict[str, bool], tmp_path: Path) -> None:
    weights = torch.nn.Parameter(torch.randn(4, 3))
    momentum = torch.optim.SGD([weights], lr=0.1, momentum=0.9)
    weights.sum().backward()
    momentum.step()
    half, table = torch.randn(6).half(), torch.arange(12)
    data = {
        "state_dict": collections.OrderedDict(w=weights, half=half[2:5], t=table.view(3, 4).t(), empty=torch.zeros(0)),
        "optimizer": momentum,  # the object itself, as 0.4-era code often saved it
        "opt_dict": momentum.state_dict(),
        "args": argparse.Namespace(lr=0.1, more=[Setting(), functools.partial]),
        "best": __import__("numpy").float64(71.5),
        "seen": {1, 2},
        "at": Path("somewhere"),
    }
    found = read_checkpoint(saved(tmp_path / "a.pth", data, words))
    assert found.keys() == {
        "state_dict.w", "state_dict.half", "state_dict.t", "state_dict.empty", "opt_dict.state.0.momentum_buffer"
    }  # fmt: skip
    assert torch.equal(found["state_dict.w"], weights.detach())
    assert not found["state_dict.w"].requires_grad
    assert torch.equal(found["state_dict.half"], half[2:5])
    assert found["state_dict.half"].dtype == torch.float16
    assert torch.equal(found["state_dict.t"], table.view(3, 4).t())


def test_a_file_of_pytorch_0_4_without_foreign_objects_is_read_too(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pt", {"module.w": torch.arange(5)}, LEGACY)
    assert read_checkpoint(path)["module.w"].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "Ran out of input"), (b"GIF89a" * 9, "invalid load key"), (pickle.dumps(3), "it does not begin as one")],
)
def test_what_is_no_checkpoint_is_one_sentence(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(content)
    said = message(lambda: read_checkpoint(path))
    assert said.startswith(f"{path} cannot be read as a checkpoint of torch (")
    assert reason in said


def test_a_missing_file_and_one_without_tensors_are_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    assert message(lambda: read_checkpoint(path)) == f"{path} is not a file"
    assert message(lambda: read_checkpoint(saved(path, {"epoch": 3}))) == f"{path} holds no tensors"


@pytest.mark.parametrize("kind", ["legacy", "zip", "safetensors"])
def test_a_damaged_file_is_a_sentence_or_still_has_its_tensors(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    data = {"w": torch.randn(7, 5), "b": torch.randn(5), "n": torch.tensor(3)}
    if kind == "safetensors":
        safetensors.write(path, data, {})
    else:
        saved(
            path,
            data if kind == "zip" else data | {"args": argparse.Namespace(a=1)},
            LEGACY if kind == "legacy" else {},
        )
    whole, rng = path.read_bytes(), random.Random(7)
    for number in range(150):
        broken = bytearray(whole[: rng.randrange(len(whole))] if number % 3 == 0 else whole)
        for _ in range(number % 3):
            broken[rng.randrange(len(broken))] = rng.randrange(256)
        path.write_bytes(broken)
        try:
            found = read_checkpoint(path)
        except UsageError:
            continue
        assert all(isinstance(tensor, Tensor) for tensor in found.values())


@pytest.mark.parametrize("words", FORMATS)
def test_a_storage_that_claims_more_than_the_file_holds_is_refused(words: dict[str, bool], tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pth", {"w": torch.zeros(1000), "args": argparse.Namespace()}, words)
    whole = path.read_bytes()
    claim = b"M" + struct.pack("<H", 1000)  # how pickle writes 1000
    assert claim in whole
    path.write_bytes(
        whole.replace(claim, b"J" + struct.pack("<i", 2**31 - 1), 1) if words else whole.replace(claim, b"M\xff\xff")
    )
    assert "cannot be read as a checkpoint" in message(lambda: read_checkpoint(path))


def header(path: Path, facts: dict[str, Any] | str, body: bytes = b"\0" * 8) -> Path:
    text = (facts if isinstance(facts, str) else json.dumps(facts)).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)
    return path


def part(dtype: str, shape: list[Any], begin: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"a": part("F32", [2], 0, 8), "b": part("F32", [1], 4, 8)}, "tensor 'b' is said to lie in bytes [4, 8)"),
        ({"a": part("F32", [1], 4, 8)}, "tensor 'a' is said to lie in bytes [4, 8), which cannot be"),
        ({"a": part("F32", [3], 0, 8)}, "tensor 'a' is said to lie in bytes [0, 8), which cannot be"),
        ({"a": part("F32", [4], 0, 16)}, "tensor 'a' is said to lie in bytes [0, 16), which cannot be"),
        ({"a": part("F32", [1], 0, 4)}, "4 bytes behind the last tensor belong to none"),
        ({"a": part("F32", [-1, -2], 0, 8)}, "(a shape or an offset is no whole number)"),
        ({"a": part("F32", [True, 2], 0, 8)}, "(a shape or an offset is no whole number)"),
        ({"a": part("F33", [2], 0, 8)}, "its header is not that of a safetensors file ('F33')"),
        ({"a": {"dtype": "F32"}}, "its header is not that of a safetensors file ('data_offsets')"),
        ('{"a": 1, "a": 2}', "(a name is there twice)"),
        ("{" + "[" * 50, "its header is not that of a safetensors file"),
        ('{"__metadata__": []}', "its header is not that of a safetensors file"),
    ],
)  # fmt: skip
def test_a_safetensors_file_that_is_not_exactly_right_is_refused(
    facts: dict[str, Any] | str, reason: str, tmp_path: Path
) -> None:
    assert reason in message(lambda: read_checkpoint(header(tmp_path / "a.safetensors", facts)))


def test_a_header_longer_than_its_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes((2**62).to_bytes(8, "little") + b"{}")
    assert message(lambda: read_checkpoint(path)) == (
        f"{path}: its header of {2**62} bytes is not there; the file is cut or no safetensors file"
    )


def test_a_safetensors_file_written_by_others_is_read(tmp_path: Path) -> None:
    facts = {"b": part("F32", [1], 3, 7), "a": part("U8", [3], 0, 3), "__metadata__": {"format": "pt"}}
    body = bytes([1, 2, 3]) + struct.pack("<f", 2.5)
    found = read_checkpoint(header(tmp_path / "a.safetensors", facts, body))
    assert found["a"].tolist() == [1, 2, 3]
    assert found["b"].tolist() == [2.5]


def test_every_dtype_and_shape_comes_back_as_it_went(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    tensors = {str(dtype): torch.ones(2, 3, dtype=dtype) for dtype in safetensors.WORDS}
    tensors |= {"scalar": torch.tensor(7), "none": torch.zeros(0, 4), "turned": torch.randn(3, 4).t()}
    safetensors.write(path, tensors, {"a": "b"})
    found, metadata = safetensors.read(path)
    assert metadata == {"a": "b"}
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], x) and found[name].dtype == x.dtype for name, x in tensors.items())


def test_a_saved_backbone_is_back_in_one_call_with_its_facts(tmp_path: Path) -> None:
    net = backbone("tiny", width=8)
    save_weights(tmp_path / "a.safetensors", net, FACTS)
    back, facts = load_backbone(tmp_path / "a.safetensors")
    assert facts == FACTS | {"dim": 64}
    assert not back.training
    clips = torch.rand(1, 3, 4, 32, 32)
    with torch.no_grad():
        assert torch.equal(back(clips), net.eval()(clips))
    assert all(parameter.requires_grad for parameter in back.parameters())


def test_loading_a_backbone_draws_no_random_numbers(tmp_path: Path) -> None:
    save_weights(tmp_path / "a.safetensors", backbone("tiny", width=8), FACTS)
    before = torch.get_rng_state()
    load_backbone(tmp_path / "a.safetensors")
    assert torch.equal(torch.get_rng_state(), before)


def test_weights_that_are_not_the_backbones_are_not_written(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"as it was")
    said = message(lambda: save_weights(path, {"w": torch.zeros(1)}, {"backbone": "tiny"}))
    assert said.startswith(f"{path} is not written: no weights of backbone 'tiny': 72 missing (conv1.conv.weight, ")
    assert said.endswith("; 1 unknown (w)")
    assert path.read_bytes() == b"as it was"


def test_a_runs_own_checkpoint_is_taken_by_file_and_by_folder(tmp_path: Path) -> None:
    net = backbone("tiny", width=8)
    model = {f"backbone.{name}": x for name, x in net.state_dict().items()} | {"head.weight": torch.zeros(4, 64)}
    data = {"step": 3, "model": model, "backbone": "tiny", "settings": {"width": 8}, "optimizer": {"state": {}}}
    saved(tmp_path / "last.pt", data)
    for path in (tmp_path, tmp_path / "last.pt"):
        state, facts = read_weights(path)
        assert (facts["backbone"], facts["settings"], facts["dim"], facts["step"]) == ("tiny", {"width": 8}, 64, 3)
        assert all(torch.equal(state[name], x) for name, x in net.state_dict().items())
        assert state.keys() == net.state_dict().keys()


def test_weights_of_another_backbone_are_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_weights(path, backbone("tiny", width=8), FACTS)
    assert message(lambda: load_weights(backbone("r3d", width=8), "r3d", path)) == (
        f"{path} holds weights of backbone 'tiny', wanted is 'r3d'; set backbone=tiny or take other weights"
    )
    said = message(lambda: load_weights(backbone("tiny", width=4), "tiny", path))
    assert said.startswith(f"{path} holds backbone 'tiny' with settings {{'width': 8}}: ")
    load_weights(backbone("tiny", width=8), "tiny", path)


def test_a_published_file_given_as_weights_says_how_to_bring_it_in(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pth", {"model": {"w": torch.zeros(1)}})
    assert message(lambda: load_backbone(path)) == (
        f"{path} does not say of which backbone it holds weights; what others have published comes in with "
        f"`vtrain import {path} --from rspnet|prp|pace|vcop|torchvision --out FILE.safetensors`"
    )


def test_settings_that_no_network_has_are_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    safetensors.write(path, {"w": torch.zeros(1)}, {"vtrain": '{"backbone": "tiny", "settings": {"width": "wide"}}'})
    assert message(lambda: load_backbone(path)) == f"{path}: no backbone 'tiny' has settings {{'width': 'wide'}}"
    safetensors.write(path, {"w": torch.zeros(1)}, {"vtrain": '{"backbone": "tiny", "settings": {"depth": 3}}'})
    assert message(lambda: load_backbone(path)) == "backbone 'tiny' has no setting 'depth'; it has width"
