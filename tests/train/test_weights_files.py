"""Files with weights: those written here are read back, old ones are read too, and none is trusted."""

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
from vtrain.torch_file.unpickler import STORAGES
from vtrain.weights import WeightsInfo, load_backbone, load_weights, read_checkpoint, read_weights, save_weights
from vtrain.weights.backbone_file import write_safetensors
from vtrain.weights.checkpoint_file import read

LEGACY = {"_use_new_zipfile_serialization": False}  # the format of PyTorch 0.4
FORMATS = [pytest.param(LEGACY, id="legacy"), pytest.param({}, id="zip")]
INFO = {
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
    """Calls a function when a careless reader opens the file it was saved in."""

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
        f"{path} cannot be read as a checkpoint of torch (it asks for {name} to be called when it is read; nothing was "
        "called); name a good file"
    )
    assert not mark.exists()


def test_the_test_file_is_a_real_danger(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    path = saved(tmp_path / "a.pth", {"x": Evil(os.mkdir, str(mark))})
    torch.load(path, weights_only=False)
    assert mark.exists()


@pytest.mark.parametrize("position", range(5))
def test_no_pickle_of_a_legacy_file_is_executed(position: int, tmp_path: Path) -> None:
    """It holds five: magic number, version, system, data, names of storages."""
    buffer = io.BytesIO()
    torch.save({"w": torch.zeros(3)}, buffer, **LEGACY)
    buffer.seek(0)
    pieces = []
    for _ in range(5):
        begin = buffer.tell()
        assert all(pickletools.genops(buffer))  # goes on to the pickle's end
        pieces.append(buffer.getvalue()[begin : buffer.tell()])
    pieces[position] = pickle.dumps(Evil(os.mkdir, str(tmp_path / "mark")), protocol=2)
    path = tmp_path / "a.pth"
    path.write_bytes(b"".join(pieces) + buffer.read())
    assert "nothing was called" in message(lambda: read_checkpoint(path))
    assert not (tmp_path / "mark").exists()


def test_a_pickle_cannot_change_the_functions_that_read_it(tmp_path: Path) -> None:
    """BUILD sets attributes of the object on the stack, so a function must never get there."""
    target = b"ctorch._utils\n_rebuild_tensor_v2\n"
    attack = b"\x80\x02" + target + b"(N}X\x0c\x00\x00\x00__defaults__)s\x86b."
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", attack)
        archive.writestr("a/version", "3")
    assert "cannot be read as a checkpoint" in message(lambda: read_checkpoint(path))
    assert torch._utils._rebuild_tensor_v2.__defaults__ == (None,)


class Setting:
    """A class that is not there where the file is opened."""

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
    [
        (b"", "it does not begin like one"),
        (b"GIF89a" * 9, "it does not begin"),
        (pickle.dumps(3), "before seeing STOP"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_refused_in_one_sentence(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(content)
    text = message(lambda: read_checkpoint(path))
    assert text.startswith(f"{path} cannot be read as a checkpoint of torch (")
    assert reason in text


def test_a_missing_file_and_one_without_tensors_are_refused_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    assert message(lambda: read_checkpoint(path)) == f"{path} is not a file"
    assert message(lambda: read_checkpoint(saved(path, {"epoch": 3}))) == f"{path} holds no tensors"


@pytest.mark.parametrize("kind", ["legacy", "zip", "safetensors"])
def test_a_damaged_file_is_refused_in_one_sentence_or_still_gives_tensors(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    data = {"w": torch.randn(7, 5), "b": torch.randn(5), "n": torch.tensor(3)}
    if kind == "safetensors":
        write_safetensors(path, data, "{}")
    else:
        saved(
            path,
            data if kind == "zip" else data | {"args": argparse.Namespace(a=1)},
            LEGACY if kind == "legacy" else {},
        )
    intact, rng = path.read_bytes(), random.Random(7)
    for number in range(150):
        broken = bytearray(intact[: rng.randrange(len(intact))] if number % 3 == 0 else intact)
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
    intact = path.read_bytes()
    claim = b"M" + struct.pack("<H", 1000)  # how pickle writes 1000
    assert claim in intact
    larger = b"M\xff\xff" if not words else b"J" + struct.pack("<i", 2**31 - 1)
    path.write_bytes(intact.replace(claim, larger, 1 if words else -1))
    assert "cannot be read as a checkpoint" in message(lambda: read_checkpoint(path))


def with_header(path: Path, header: dict[str, Any] | str, body: bytes = b"\0" * 8) -> Path:
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)
    return path


def part(dtype: str, shape: list[Any], begin: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    "header",
    [
        {"a": part("F32", [2], 0, 8), "b": part("F32", [1], 4, 8)},  # an overlap
        {"a": part("F32", [1], 4, 8)},  # a gap
        {"a": part("F32", [3], 0, 8)},  # a shape that is too large
        {"a": part("F32", [4], 0, 16)},  # more bytes than there are
        {"a": part("F32", [1], 0, 4)},  # fewer bytes than there are
        {"a": part("F32", [-1, -2], 0, 8)},
        {"a": part("F32", [True, 2], 0, 8)},
        {"a": part("F32", [2**40, 2**40], 0, 8)},
        {"a": part("F33", [2], 0, 8)},
        {"a": {"dtype": "F32"}},
        '{"a": 1, "a": 2}',
        "{" + "[" * 50,
        '{"__metadata__": []}',
    ],
    ids=str,
)
def test_a_safetensors_file_with_a_wrong_header_is_refused(header: dict[str, Any] | str, tmp_path: Path) -> None:
    path = with_header(tmp_path / "a.safetensors", header)
    text = message(lambda: read_checkpoint(path))
    assert text.startswith(f"{path} is not a readable safetensors file (")
    assert text.endswith("); use a good copy of it")


def test_a_header_longer_than_its_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes((2**62).to_bytes(8, "little") + b"{}")
    assert message(lambda: read_checkpoint(path)).startswith(f"{path} is not a readable safetensors file (")


def test_a_safetensors_file_written_by_others_is_read(tmp_path: Path) -> None:
    header = {"b": part("F32", [1], 3, 7), "a": part("U8", [3], 0, 3), "__metadata__": {"format": "pt"}}
    body = bytes([1, 2, 3]) + struct.pack("<f", 2.5)
    found = read_checkpoint(with_header(tmp_path / "a.safetensors", header, body))
    assert found["a"].tolist() == [1, 2, 3]
    assert found["b"].tolist() == [2.5]


def test_a_file_with_other_metadata_and_an_empty_tensor_is_read_with_its_description(tmp_path: Path) -> None:
    """Such files were written before the package `safetensors` was used here."""
    header = {
        "__metadata__": {"format": "pt", "vtrain": '{"backbone": "tiny"}'},
        "n": part("I64", [], 0, 8),
        "b": part("F32", [1], 8, 12),
        "empty": part("F32", [0, 4], 12, 12),
        "half": part("F16", [1], 12, 14),
    }
    body = struct.pack("<qfe", 3, 2.5, 0.5)
    found = read(with_header(tmp_path / "a.safetensors", header, body))
    assert found.values == {"format": "pt", "vtrain": '{"backbone": "tiny"}'}
    assert {name: x.tolist() for name, x in found.tensors.items()} == {"n": 3, "b": [2.5], "empty": [], "half": [0.5]}


def test_every_dtype_and_shape_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    tensors = {str(dtype): torch.ones(2, 3, dtype=dtype) for dtype in STORAGES.values()}
    tensors |= {"scalar": torch.tensor(7), "none": torch.zeros(0, 4), "transposed": torch.randn(3, 4).t()}
    tensors |= {"shared": tensors["transposed"], "expanded": torch.ones(()).expand(2, 2)}
    write_safetensors(path, tensors, '{"a": "b"}')
    found = read(path)
    assert found.values == {"vtrain": '{"a": "b"}'}
    assert found.tensors.keys() == tensors.keys()
    assert all(
        torch.equal(found.tensors[name], x) and found.tensors[name].dtype == x.dtype for name, x in tensors.items()
    )


def test_every_tensor_starts_at_a_multiple_of_its_items_size(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    tensors = {str(number): torch.ones(3, dtype=dtype) for number, dtype in enumerate(STORAGES.values())}
    write_safetensors(path, tensors, "{}")
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    assert length % 8 == 0
    for name, tensor in tensors.items():
        begin, _ = json.loads(data[8 : 8 + length])[name]["data_offsets"]
        assert begin % tensor.element_size() == 0


def test_numbers_that_no_network_computes_with_are_neither_written_nor_read(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    assert message(lambda: write_safetensors(path, {"w": torch.zeros(2, dtype=torch.complex128)}, "{}")) == (
        f"{path}: tensor 'w' is complex128; convert it to float32 first"
    )
    assert not path.exists()
    with_header(path, {"w": part("F8_E4M3", [8], 0, 8)})
    assert message(lambda: read_checkpoint(path)) == f"{path}: tensor 'w' is float8_e4m3fn; convert it to float32 first"


def test_the_same_weights_give_the_same_bytes(tmp_path: Path) -> None:
    """The package writes several keys of metadata in an order that changes from file to file."""
    net, path = backbone("tiny", width=8), tmp_path / "a.safetensors"
    found = set()
    for _ in range(20):
        save_weights(path, net, INFO)
        found.add(path.read_bytes())
    assert len(found) == 1


def test_a_flipped_bit_in_tensors_or_description_is_noticed_by_the_hash(tmp_path: Path) -> None:
    path, rng = tmp_path / "a.safetensors", random.Random(3)
    save_weights(path, backbone("tiny", width=8), INFO)
    good = path.read_bytes()
    data = 8 + int.from_bytes(good[:8], "little")
    clip = good.index(b"56, 56")
    for at in (clip, *(rng.randrange(data, len(good)) for _ in range(40))):
        broken = bytearray(good)
        broken[at] ^= 1 << rng.randrange(2)
        path.write_bytes(broken)
        assert message(lambda: load_backbone(path)) == (
            f"{path} is damaged: its content is not what its hash says; use a good copy"
        )


def test_a_file_without_a_hash_is_read_as_before(tmp_path: Path) -> None:
    path, net = tmp_path / "a.safetensors", backbone("tiny", width=8)
    write_safetensors(path, dict(net.state_dict()), json.dumps({**INFO, "dim": net.dim}))
    assert load_backbone(path)[1]["recipe"] == INFO["recipe"]


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_and_the_file_is_named(number: float, tmp_path: Path) -> None:
    net = backbone("tiny", width=8)
    torch.nn.init.constant_(next(net.parameters()), number)
    path = tmp_path / "a.safetensors"
    save_weights(path, net, INFO)
    said = (
        f"{path}: weights are not finite (tensor 'conv1.conv.weight'); take an older state of its run, or a good copy"
    )
    assert message(lambda: load_backbone(path)) == said
    assert message(lambda: load_weights(backbone("tiny", width=8), "tiny", path)) == said


@pytest.mark.parametrize("depth", [5_000, 200_000])
def test_a_description_of_deep_brackets_is_refused_in_one_sentence(depth: int, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_safetensors(path, {"w": torch.zeros(2)}, "[" * depth + "]" * depth)
    assert message(lambda: load_backbone(path)).startswith(f"{path}: the description of its weights is damaged (")


def test_a_saved_backbone_is_loaded_in_one_call_with_what_is_known_of_it(tmp_path: Path) -> None:
    net = backbone("tiny", width=8)
    save_weights(tmp_path / "a.safetensors", net, INFO)
    back, info = load_backbone(tmp_path / "a.safetensors")
    assert dict(info) == INFO | {"dim": 64}
    assert not back.training
    clips = torch.rand(1, 3, 4, 32, 32)
    with torch.no_grad():
        assert torch.equal(back(clips), net.eval()(clips))
    assert all(parameter.requires_grad for parameter in back.parameters())


def test_loading_a_backbone_uses_no_random_numbers(tmp_path: Path) -> None:
    save_weights(tmp_path / "a.safetensors", backbone("tiny", width=8), INFO)
    before = torch.get_rng_state()
    load_backbone(tmp_path / "a.safetensors")
    assert torch.equal(torch.get_rng_state(), before)


def test_tensors_that_are_not_the_backbones_are_not_written(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"as it was")
    text = message(lambda: save_weights(path, {"w": torch.zeros(1)}, {"backbone": "tiny"}))
    assert text.startswith(
        f"{path} was not written: the tensors are not those of backbone 'tiny': 72 missing (conv1.conv.weight, "
    )
    assert text.endswith("; 1 unknown (w)")
    assert path.read_bytes() == b"as it was"


def test_a_runs_checkpoint_is_read_by_its_file_and_by_its_folder(tmp_path: Path) -> None:
    net = backbone("tiny", width=8)
    model = {f"backbone.{name}": x for name, x in net.state_dict().items()} | {"head.weight": torch.zeros(4, 64)}
    data = {"step": 3, "model": model, "backbone": "tiny", "settings": {"width": 8}, "optimizer": {"state": {}}}
    saved(tmp_path / "last.pt", data)
    for path in (tmp_path, tmp_path / "last.pt"):
        state, info = read_weights(path)
        assert (info.backbone, info.settings, info.dim, info.step) == ("tiny", {"width": 8}, 64, 3)
        assert all(torch.equal(state[name], x) for name, x in net.state_dict().items())
        assert state.keys() == net.state_dict().keys()


def test_weights_of_another_backbone_are_refused_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_weights(path, backbone("tiny", width=8), INFO)
    assert message(lambda: load_weights(backbone("r3d", width=8), "r3d", path)) == (
        f"{path} holds weights of backbone 'tiny', and the backbone is 'r3d'; set backbone=tiny or name other weights"
    )
    text = message(lambda: load_weights(backbone("tiny", width=4), "tiny", path))
    assert text.startswith(f"{path} holds backbone 'tiny' with settings {{'width': 8}}, which differ from those here: ")
    load_weights(backbone("tiny", width=8), "tiny", path)


def test_a_published_file_given_as_weights_says_how_to_import_it(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pth", {"model": {"w": torch.zeros(1)}})
    assert message(lambda: load_backbone(path)) == (
        f"{path} does not name a backbone; weights that others published are imported by "
        f"`vtrain import {path} --from rspnet|prp|pace|vcop|torchvision --out FILE.safetensors`"
    )


def test_weights_of_a_backbone_that_is_not_installed_here_name_it(tmp_path: Path) -> None:
    path = saved(tmp_path / "last.pt", {"backbone": "plainnet", "model": {"w": torch.zeros(1)}})
    wanted = f"{path} is of backbone 'plainnet', which is not known here; install the package that offers it"
    assert message(lambda: load_backbone(path)) == wanted
    assert message(lambda: load_backbone(tmp_path)) == wanted


def test_settings_that_the_backbone_does_not_have_are_refused_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_safetensors(path, {"w": torch.zeros(1)}, '{"backbone": "tiny", "settings": {"width": "wide"}}')
    assert message(lambda: load_backbone(path)) == (
        f"{path}: backbone 'tiny' cannot be built with settings {{'width': 'wide'}}"
    )
    write_safetensors(path, {"w": torch.zeros(1)}, '{"backbone": "tiny", "settings": {"depth": 3}}')
    assert message(lambda: load_backbone(path)) == "backbone 'tiny' has no setting 'depth'; it has width"


def test_a_description_that_is_no_json_is_refused_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_safetensors(path, {"w": torch.zeros(1)}, "{")
    text = message(lambda: load_backbone(path))
    assert text.startswith(f"{path}: the description of its weights is damaged (")
    assert text.endswith("); use a good copy")
    saved(tmp_path / "a.pt", {"vtrain": 3, "w": torch.zeros(1)})
    assert "the description of its weights is damaged" in message(lambda: load_backbone(tmp_path / "a.pt"))


def test_what_is_known_is_read_by_attribute_and_by_key_and_what_is_not_is_absent() -> None:
    info = WeightsInfo.read(INFO | {"steps": 9}, 64)
    assert info.clip == info["clip"] == [8, 56, 56]
    assert info.origin is info.get("origin") is None
    assert list(info) == ["backbone", "settings", "dim", "clip", "normalisation", "recipe"]
    for name in ("origin", "steps", "read"):
        with pytest.raises(KeyError):
            info[name]


def test_what_a_file_says_in_another_type_counts_as_unknown() -> None:
    wrong = {"clip": "wide", "recipe": [3], "step": "3", "classes": "abc", "normalisation": 3, "data": None}
    assert dict(WeightsInfo.read({"backbone": "tiny"} | wrong, 64)) == {"backbone": "tiny", "settings": {}, "dim": 64}


def test_a_run_is_described_by_its_last_state(tmp_path: Path) -> None:
    model = {f"backbone.{name}": x for name, x in backbone("tiny").state_dict().items()}
    info = {"method": "supervised", "backbone": "tiny", "settings": {}, "clip": [4, 16, 16], "classes": ["a", "b"]}
    info |= {"data": {"name": "UCF101", "hash": "0"}, "epochs": 1.5, "step": 3, "normalisation": "unit"}
    saved(tmp_path / "last.pt", {**info, "format": 1, "model": model, "bad": []})
    assert load_backbone(tmp_path)[1] == info | {"dim": 128}
