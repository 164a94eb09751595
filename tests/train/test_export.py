"""vtrain export: a backbone is written as weights, program or graph, and computes the same when it is opened again."""

import importlib.util
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import vtrain
from vprep.errors import UsageError
from vtrain.backbones import BACKBONES, backbone
from vtrain.backbones.conv import Conv3d, Size, use_kernels
from vtrain.backbones.s3dg import SamePool
from vtrain.backbones.tsm import Shift
from vtrain.weights import export, load_weights, read_weights, save_weights

Command = Callable[..., tuple[int, str, str]]
HERE = all(importlib.util.find_spec(name) for name in export.PACKAGES)
GRAPH = pytest.mark.skipif(not HERE, reason="pip install 'playspeed[onnx]' brings what reads a .onnx file")
UNIT = {"word": "unit", "scale": 1, "channels": "rgb", "mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}
RECIPE = {"method": "prp", "clip": {"frames": 8, "size": 32}, "normalisation": "unit"}
DESCRIPTION = {
    "backbone": "tiny", "settings": {"width": 8}, "dim": 64, "clip": [8, 32, 32], "normalisation": UNIT,
    "recipe": RECIPE, "step": 3,
}  # fmt: skip


def clips(batch: int = 3, frames: int = 11, size: int = 43) -> Tensor:
    """Return clips of another size than the networks here are exported for."""
    return torch.rand(batch, 3, frames, size, size, generator=torch.Generator().manual_seed(5))


def made_run(folder: Path) -> Path:
    """Write what a run of three steps leaves in its folder."""
    torch.manual_seed(1)
    net = backbone("tiny", width=8).train()
    for _ in range(3):
        net(clips())  # gives batch norm other statistics than those of a new network
    model = {f"backbone.{name}": x for name, x in net.state_dict().items()} | {"head.weight": torch.zeros(4, 64)}
    data = {"step": 3, "model": model, "backbone": "tiny", "settings": {"width": 8}, "optimizer": {"state": {}}}
    torch.save(data, folder / "last.pt")
    (folder / "recipe.json").write_text(json.dumps(RECIPE))
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_run(tmp_path_factory.mktemp("run"))


def description_in(path: Path) -> Any:  # noqa: ANN401
    """Return the description in an exported file, as a program without vtrain reads it."""
    if path.suffix == ".safetensors":
        data = path.read_bytes()
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        found = json.loads(header["__metadata__"]["vtrain"])
        assert len(found.pop("check")) == 32
        return found
    if path.suffix == ".ts":
        inside = {"vtrain.json": ""}
        with warnings.catch_warnings(action="ignore"):
            torch.jit.load(str(path), _extra_files=inside)  # type: ignore[no-untyped-call]
        return json.loads(inside["vtrain.json"])
    import onnxruntime

    return json.loads(onnxruntime.InferenceSession(str(path)).get_modelmeta().custom_metadata_map["vtrain"])


@pytest.mark.parametrize(
    "ending", [".safetensors", pytest.param(".ts", marks=pytest.mark.slow), pytest.param(".onnx", marks=GRAPH)]
)
def test_an_exported_run_holds_its_description_and_is_opened_by_the_three_lines_that_are_printed(
    ending: str, run: Path, tmp_path: Path
) -> None:
    words = ["export", str(run), "--out", f"net{ending}", "--json"]
    done = subprocess.run([sys.executable, "-m", "vtrain", *words], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    output = json.loads(done.stdout)
    error = output.pop("relative_error")
    assert error == 0 if ending == ".safetensors" else error < 1e-5
    lines = output.pop("load")
    assert output == {**DESCRIPTION, "weights": f"{run / 'last.pt'}", "out": f"net{ending}", "replaced": False}
    assert description_in(tmp_path / f"net{ending}") == DESCRIPTION
    assert os.listdir(tmp_path) == [f"net{ending}"]

    assert len(lines.splitlines()) == 3
    program = f"{lines}\nprint(list(map_BCTHW.shape))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout == "[1, 64, 1, 2, 2]\n", done.stderr


def test_the_output_says_what_was_written_and_how_to_use_it(run: Path, command: Command, tmp_path: Path) -> None:
    out = tmp_path / "net.safetensors"
    out.write_bytes(b"older")
    code, output, error = command("export", run / "last.pt", "--out", out)
    assert (code, error) == (0, "")
    assert output == (
        f"weights {run / 'last.pt'}\n"
        "backbone tiny, 64 channels, for clips of 8 x 32 x 32, normalised as 'unit'\n"
        "checked: its output is exactly the network's\n"
        f"replaced: {out}\n"
        "to use it:\n"
        "    import torch, vtrain\n"
        f"    net, info = vtrain.load_backbone('{out}')\n"
        "    map_BCTHW = net(torch.rand(1, 3, *info.clip))\n"
    )
    state = read_weights(run)[0]
    assert all(torch.equal(tensor, state[name]) for name, tensor in read_weights(out)[0].items())


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * name.startswith("s3d"))
        for name in BACKBONES
        if name != "resnet3d34"
    ],
)
def test_a_program_computes_the_same_for_any_batch_size_and_layout(name: str, tmp_path: Path) -> None:
    settings = {} if name.startswith("s3d") else {"width": 8}
    torch.manual_seed(2)
    net = backbone(name, **settings).eval()
    save_weights(tmp_path / "a.safetensors", net, {"backbone": name, "settings": settings})
    assert export.export(tmp_path / "a.safetensors", tmp_path / "a.ts", 8, 48)["relative_error"] < 1e-5
    program = export.open_program(tmp_path / "a.ts")
    with torch.no_grad():
        for x in (clips(), clips(1, 16, 64), clips().contiguous(memory_format=torch.channels_last_3d)):
            assert export.difference(program(x), net(x)) < 1e-5


@GRAPH
@pytest.mark.parametrize("name", ["r2plus1d", "tsm18"])
def test_a_graph_computes_the_same_for_any_batch_and_size(name: str, tmp_path: Path) -> None:
    torch.manual_seed(2)
    net = backbone(name, width=8).eval()
    save_weights(tmp_path / "a.safetensors", net, {"backbone": name, "settings": {"width": 8}})
    assert export.export(tmp_path / "a.safetensors", tmp_path / "a.onnx", 8, 48)["relative_error"] < 1e-5
    graph = export.open_graph(tmp_path / "a.onnx")
    with torch.no_grad():
        for x in (clips(), clips(1, 16, 64)):
            assert export.difference(graph(x), net(x)) < 1e-5


@pytest.mark.parametrize(("size", "stride"), [((1, 3, 3), (1, 2, 2)), ((3, 3, 3), (2, 2, 2)), ((2, 2, 2), (2, 2, 2))])
def test_a_pool_traced_at_one_size_is_correct_for_any_other(size: Size, stride: Size) -> None:
    pool, free = SamePool(size, stride), dict.fromkeys((2, 3, 4), torch.export.Dim.DYNAMIC)
    with export.quiet():
        program = torch.export.export(pool, (torch.rand(1, 2, 8, 12, 12),), dynamic_shapes=(free,))
    program = program.module(check_guards=False)  # those of torch 2.10 are stricter than what it computes
    for sides in ((8, 12, 12), (7, 9, 13), (5, 10, 11)):
        x = torch.rand(1, 2, *sides)
        assert torch.equal(program(x), pool(x))


def test_the_clip_is_the_commands_or_the_files_or_the_default(run: Path, tmp_path: Path) -> None:
    def clip(source: Path, *numbers: int | None) -> Any:  # noqa: ANN401
        return export.export(source, tmp_path / "out.safetensors", *numbers)["clip"]

    assert [clip(run), clip(run, 4), clip(run, None, 40)] == [[8, 32, 32], [4, 32, 32], [8, 40, 40]]
    own = tmp_path / "own.safetensors"
    for in_file, wanted in (([4, 24, 40], [4, 24, 40]), ([4, 24, -1], [16, 112, 112]), ("wide", [16, 112, 112])):
        save_weights(own, backbone("tiny", width=4), {"backbone": "tiny", "settings": {"width": 4}, "clip": in_file})
        assert clip(own) == wanted


def test_what_is_not_known_is_none(tmp_path: Path) -> None:
    save_weights(tmp_path / "a.safetensors", backbone("tiny", width=4), {"backbone": "tiny", "settings": {"width": 4}})
    result = export.export(tmp_path / "a.safetensors", tmp_path / "b.safetensors", 4, 32)
    assert (result["recipe"], result["normalisation"]) == (None, None)
    assert export.as_lines(result).splitlines()[1] == (
        "backbone tiny, 32 channels, for clips of 4 x 32 x 32, with unknown normalisation"
    )


@pytest.mark.parametrize("ending", [".safetensors", ".ts"])
def test_a_file_that_computes_something_else_is_not_kept(
    ending: str, run: Path, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = export.FORMS[ending]
    wrong = export.Form(form.write, lambda _: lambda x: x.new_ones(len(x), 64, 1, 2, 2), form.tolerance, form.usage)
    monkeypatch.setitem(export.FORMS, ending, wrong)
    out = tmp_path / f"a{ending}"
    out.write_bytes(b"older")
    code, output, error = command("export", run, "--out", out)
    assert (code, output) == (1, "")
    assert error.startswith("vtrain: the output of the written file differs from the network's (relative error ")
    assert error.endswith(f"); {out} was not written\n")
    assert (os.listdir(tmp_path), out.read_bytes()) == ([out.name], b"older")


def test_a_network_whose_output_is_not_finite_is_not_exported(tmp_path: Path) -> None:
    net = backbone("tiny", width=4)
    torch.nn.init.constant_(next(net.parameters()), 3e38)
    save_weights(tmp_path / "a.safetensors", net, {"backbone": "tiny", "settings": {"width": 4}})
    with pytest.raises(UsageError) as error:
        export.export(tmp_path / "a.safetensors", tmp_path / "a.ts", 4, 32)
    assert str(error.value) == (
        f"the network in {tmp_path}/a.safetensors gives values that are not finite; export an older state of it"
    )


@pytest.mark.parametrize(
    ("source", "words", "message"),
    [
        ("run", ("--out", "a.pt"), "--out is 'a.pt'; it must end in .safetensors or .ts or .onnx, as in --out "
         "a.safetensors"),
        ("run", ("--out", "no/a.ts"), "--out is 'no/a.ts', and there is no folder 'no'; create it first"),
        ("none", ("--out", "a.ts"), "there is no none; name a run's folder or a .safetensors file"),
        ("empty", ("--out", "a.ts"), "empty holds no last.pt; name the folder of a run that has saved, or a "
         ".safetensors file"),
        ("text.safetensors", ("--out", "a.ts"), "text.safetensors cannot be read as a checkpoint of torch (it does "
         "not begin like one); name a good file"),
        ("old.ts", ("--out", "a.ts"), "old.ts is an exported program; export the same run with --out "
         "old.safetensors"),
        ("ours.safetensors", ("--out", "ours.safetensors"), "--out is 'ours.safetensors', the file that is read; "
         "name another"),
        ("run", ("--out", "a.ts", "--frames", "1", "--size", "0"), None),
    ],
)  # fmt: skip
def test_a_wrong_argument_is_refused_in_one_sentence_and_changes_no_file(
    source: str,
    words: tuple[str, ...],
    message: str | None,
    run: Path,
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("text.safetensors").write_bytes(b"weights\n")
    Path("old.ts").write_bytes(b"")
    net = backbone("tiny", width=8)
    save_weights(Path("ours.safetensors"), net, {"backbone": "tiny", "settings": {"width": 8}})
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    code, output, error = command("export", run if source == "run" else source, *words)
    assert (code, output) == (2, "")
    assert message is None or error == f"vtrain: {message}\n"
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_an_incomplete_file_is_refused_in_one_sentence(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "cut.safetensors"
    save_weights(path, backbone("tiny", width=8), {"backbone": "tiny", "settings": {"width": 8}})
    path.write_bytes(path.read_bytes()[:-40000])
    code, output, error = command("export", path, "--out", tmp_path / "a.ts")
    assert (code, output) == (2, "")
    assert error.startswith(f"vtrain: {path} is not a readable safetensors file (")
    assert error.count("\n") == 1


def test_a_run_that_names_the_wrong_backbone_is_refused_in_one_sentence(command: Command, tmp_path: Path) -> None:
    data = torch.load(made_run(tmp_path) / "last.pt") | {"backbone": "c3d"}
    torch.save(data, tmp_path / "last.pt")
    code, output, error = command("export", tmp_path, "--out", tmp_path / "a.ts")
    assert (code, output) == (2, "")
    assert error.startswith(
        f"vtrain: {tmp_path}/last.pt does not hold a complete backbone 'c3d': 48 missing (conv1.a.conv.weight, "
    )
    assert error.count("\n") == 1


def test_a_clip_that_the_network_does_not_take_says_what_to_set(tmp_path: Path) -> None:
    save_weights(tmp_path / "a.safetensors", backbone("c3d", width=4), {"backbone": "c3d", "settings": {"width": 4}})
    with pytest.raises(UsageError) as error:
        export.export(tmp_path / "a.safetensors", tmp_path / "a.ts", 1, 32)
    output = str(error.value)
    assert output.startswith("backbone 'c3d' does not take clips of 1 x 32 x 32 (")
    assert output.endswith("); set --frames and --size")


def test_a_recipe_that_is_no_json_is_refused_in_one_sentence(tmp_path: Path) -> None:
    made_run(tmp_path)
    (tmp_path / "recipe.json").write_text("{")
    with pytest.raises(UsageError) as error:
        export.export(tmp_path, tmp_path / "a.ts")
    assert str(error.value) == (
        f"{tmp_path}/recipe.json is not JSON (Expecting property name enclosed in double quotes: line 1 column 2 "
        "(char 1)); repair it or remove it"
    )


def test_a_missing_package_is_named_with_what_installs_it(
    run: Path, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in export.PACKAGES:
        monkeypatch.setitem(sys.modules, name, None)
    assert command("export", run, "--out", tmp_path / "a.onnx") == (
        2, "", "vtrain: an .onnx file needs onnxscript, onnxruntime; install with: pip install 'playspeed[onnx]'\n"
    )  # fmt: skip


def test_an_exported_file_is_accepted_as_weights(run: Path, tmp_path: Path) -> None:
    export.export(run, tmp_path / "a.safetensors")
    net = backbone("tiny", width=8).eval()
    assert load_weights(net, "tiny", tmp_path / "a.safetensors")["recipe"] == RECIPE
    with torch.no_grad():
        assert torch.equal(net(clips()), vtrain.load_backbone(run)[0](clips()))


def test_importing_vtrain_loads_no_torch_until_a_backbone_is_asked_for() -> None:
    program = """
import sys, vtrain
assert "torch" not in sys.modules
assert not hasattr(vtrain, "load_network")
from vtrain import load_backbone
assert load_backbone is vtrain.load_backbone and "torch" in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize("frames", [5, 6, 7])
def test_s3ds_stem_learns_correctly_from_few_frames_where_torchs_kernel_overruns(
    frames: int, layout: torch.memory_format
) -> None:
    conv = Conv3d(6, 8, (7, 1, 1), (2, 1, 1), (3, 0, 0), bias=False)
    use_kernels(conv, "3d")
    x = torch.rand(2, 6, frames, 10, 10).contiguous(memory_format=layout)
    (found,) = torch.autograd.grad(conv(x).square().sum(), [conv.weight])
    padded = torch.nn.functional.pad(x, (0, 0, 0, 0, 3, 3))
    outputs = conv(x).detach()
    for tap in range(7):
        seen = padded[:, :, tap : tap + 2 * outputs.shape[2] : 2][:, :, : outputs.shape[2]]
        wanted = 2 * torch.einsum("bothw,bithw->oi", outputs, seen)
        assert export.difference(found[:, :, tap, 0, 0], wanted) < 1e-5


def test_the_shift_hands_the_gradient_back_in_the_layout_of_the_map() -> None:
    last = torch.channels_last_3d
    x = torch.rand(2, 16, 4, 6, 6).contiguous(memory_format=last).requires_grad_()
    weights = torch.rand(2, 16, 4, 6, 6).contiguous(memory_format=last)
    (gradient,) = torch.autograd.grad((Shift()(x) * weights).sum(), [x])
    assert gradient.is_contiguous(memory_format=last)
    assert torch.equal(gradient[:, :2, 1:], weights[:, :2, :-1])  # where each value went
    assert torch.equal(gradient[:, 2:4, :-1], weights[:, 2:4, 1:])
    assert torch.equal(gradient[:, 4:], weights[:, 4:])
    assert not gradient[:, :2, 0].any()
    assert not gradient[:, 2:4, -1].any()
