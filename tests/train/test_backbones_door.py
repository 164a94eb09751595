"""Backbones from outside the package: how they are named, what becomes of their output, and what is never imported."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_recipes import small

import vtrain
from vprep.errors import UsageError
from vtrain import backbones
from vtrain.backbones import BACKBONES, allow, backbone, known
from vtrain.inference import Features
from vtrain.training.train import train
from vtrain.weights import save_weights
from vtrain.weights.export import export

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
LAST = torch.channels_last_3d

NETS = """
import torch
from torch import nn

class Vector(nn.Module):
    def __init__(self, width=6):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3)

    def forward(self, clips):
        return self.conv(clips.mean(2)).mean((2, 3))

class OnlyWithNumbers(Vector):
    def forward(self, clips):
        assert clips.sum().item() == clips.sum().item()  # a tensor on the meta device has no numbers
        return super().forward(clips)

class OneSize(Vector):
    def forward(self, clips):
        assert clips.shape[2:] == (16, 224, 224), "wrong size"
        return super().forward(clips)

class NoSize(Vector):
    def forward(self, clips):
        raise ValueError("never")

class Words(Vector):
    def forward(self, clips):
        return {"map": clips}

class Frames(Vector):
    def forward(self, clips):
        return clips.mean((3, 4))

number = 3
def text():
    return "a network"

NET = Vector()
def needs(width):
    return Vector(width)

class Lacks(Vector):
    def forward(self, clips):
        return self.convolution(clips)

def fails():
    return "a" + 1
"""


@pytest.fixture(autouse=True)
def examples(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder with nets.py that is searched for modules, as are the examples."""
    (tmp_path / "nets.py").write_text(NETS)
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("nets", None)
    monkeypatch.setattr(backbones, "_allowed", set())  # what a test allows is not allowed in the next
    for word in ("my_nets:build", "nets:Vector", "nets:OnlyWithNumbers", "nets:OneSize"):
        allow(word)
    return tmp_path


def message(call: Callable[[], object]) -> str:
    with pytest.raises(UsageError) as error:
        call()
    return str(error.value)


def in_a_new_process(program: str, *path: Path) -> subprocess.CompletedProcess[str]:
    """Run a program that nobody has allowed to import a backbone."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join([*map(str, path), *filter(None, sys.path)])}
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, env=env)


def test_the_example_is_a_backbone_whose_last_map_is_conv5() -> None:
    net = backbone("my_nets:build", width=8).eval()
    maps = net.maps(torch.rand(2, 3, 16, 32, 32))
    assert {name: tuple(x.shape) for name, x in maps.items()} == {"conv5": (2, 64, 8, 2, 2)}
    assert net.dim == 64
    assert message(lambda: backbone("my_nets:build", depth=2)) == (
        "backbone 'my_nets:build' has no setting 'depth'; it has width"
    )


def test_a_vector_becomes_a_map_of_one_position() -> None:
    net = backbone("nets:Vector", width=5)
    assert net.dim == 5
    assert net(torch.rand(2, 3, 4, 8, 8)).shape == (2, 5, 1, 1, 1)


def test_the_weights_of_2d_convolutions_go_to_channels_last_too() -> None:
    net = backbone("nets:Vector").to(memory_format=LAST)  # type: ignore[call-overload]
    x = torch.rand(2, 3, 4, 8, 8)
    state = {name: x.clone() for name, x in net.state_dict().items()}
    assert state["conv5.net.conv.weight"].shape == (6, 3, 3, 3)
    assert torch.allclose(net(x), net.to(torch.float64)(x.double()).float(), atol=1e-5)


@pytest.mark.parametrize("name", ["nets:OnlyWithNumbers", "nets:OneSize"])
def test_the_channels_are_found_where_only_some_clips_or_only_real_ones_are_taken(name: str) -> None:
    assert backbone(name, width=7).dim == 7


def test_finding_the_channels_leaves_the_network_and_the_random_numbers_alone() -> None:
    torch.manual_seed(1)
    net = backbone("my_nets:build", width=4)
    after = torch.get_rng_state()
    torch.manual_seed(1)
    from my_nets import build  # type: ignore[import-not-found]

    plain = build(width=4)
    assert torch.equal(torch.get_rng_state(), after)
    wanted = [(name.removeprefix("conv5.net."), x.tolist()) for name, x in net.state_dict().items()]
    assert wanted == [(name, x.tolist()) for name, x in plain.state_dict().items()]
    assert all(module.training for module in net.modules())


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Words", "returns a dict; it must return a feature map [B, D, T, H, W] or a vector [B, D] for clips "
         "[B, 3, T, H, W]"),
        ("Frames", "returns a tensor with 3 axes; it must return a feature map [B, D, T, H, W] or a vector [B, D] for "
         "clips [B, 3, T, H, W]"),
        ("NoSize", "takes no clips of 8 x 64 x 64, 16 x 112 x 112, 16 x 224 x 224, 32 x 224 x 224, 8 x 224 x 224; the "
         "last error is ValueError (never) at {folder}/nets.py, line 25"),
        ("Lacks", "raised AttributeError ('Lacks' object has no attribute 'convolution') at {folder}/nets.py, line 45; "
         "correct it there"),
        ("fails", "cannot be made with backbone_settings {}: TypeError (can only concatenate str (not \"int\") to str) "
         "at {folder}/nets.py, line 48; correct it there, or change the settings"),
        ("text", "gives a str; it must give a torch.nn.Module"),
        ("number", "is a int; it must be a function that builds a module"),
        ("NET", "is a module; name a function that returns one"),
        ("needs", "needs a value for `width`; write backbone_settings.width=VALUE, or give `width` a default"),
    ],
)  # fmt: skip
def test_what_is_no_backbone_is_refused_with_what_it_must_be(name: str, said: str, examples: Path) -> None:
    allow(f"nets:{name}")
    said = said.replace("{folder}", str(examples))
    assert message(lambda: backbone(f"nets:{name}")) == f"backbone 'nets:{name}' {said}"


def test_a_pool_of_conv4_says_that_the_backbone_has_none() -> None:
    net = backbone("nets:Vector")
    assert Features(net, ["gap", "pool5"]).dims((4, 8, 8)) == {"gap": 6, "pool5": 6}
    assert message(lambda: Features(net, ["p4"])) == (
        "pool 'p4' needs the map of conv4, which this backbone does not have; take gap, spatial-max, pool5"
    )


def test_names_of_modules_and_of_backbones_here_are_known() -> None:
    assert known("r3d18")
    assert known("anything:at_all")
    assert not known("r3d_18")


def test_a_module_that_nobody_has_allowed_is_not_imported(tmp_path: Path) -> None:
    (tmp_path / "trap.py").write_text(f"import pathlib\npathlib.Path({str(tmp_path / 'sprung')!r}).touch()\n")
    assert message(lambda: backbone("trap:build")) == (
        "backbone 'trap:build' is code from outside vtrain, which a name in a file does not import; if you trust it, "
        "allow it: on a command line by --backbone trap:build, in Python by vtrain.backbones.allow('trap:build')"
    )
    assert "trap" not in sys.modules
    assert not (tmp_path / "sprung").exists()
    allow("trap:build")
    assert "there is no 'build' in trap" in message(lambda: backbone("trap:build"))
    assert (tmp_path / "sprung").exists()


def test_it_trains_and_its_weights_come_back_only_where_it_is_allowed(shards: Path, tmp_path: Path) -> None:
    recipe = replace(small("pace", shards), backbone="my_nets:build", backbone_settings={"width": 4}, steps=2)
    train(recipe, tmp_path / "run")
    losses = [json.loads(line)["loss"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert len(losses) == 2
    net, _ = vtrain.load_backbone(tmp_path / "run")
    assert net.dim == 32
    assert net(torch.rand(1, 3, 4, 16, 16)).shape == (1, 32, 2, 1, 1)
    loading = (
        f"import sys, vtrain\ntry: vtrain.load_backbone({str(tmp_path / 'run')!r})\nexcept Exception as e: print(e)"
    )
    done = in_a_new_process(f"{loading}\nassert 'my_nets' not in sys.modules", EXAMPLES)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("backbone 'my_nets:build' is code from outside vtrain"), done.stderr


def test_another_backbone_than_that_of_the_weights_is_refused_before_anything_is_imported(examples: Path) -> None:
    path = examples / "a.safetensors"
    save_weights(path, backbone("nets:Vector"), {"backbone": "nets:Vector"})
    backbones._allowed.clear()
    assert message(lambda: vtrain.load_backbone(path, expected="nets:OneSize")) == (
        f"{path} has the backbone nets:Vector, and --backbone names nets:OneSize; write --backbone nets:Vector"
    )


def test_the_lines_that_export_prints_load_it_in_a_new_process(examples: Path) -> None:
    net = backbone("nets:Vector", width=5)
    save_weights(examples / "a.safetensors", net, {"backbone": "nets:Vector", "settings": {"width": 5}})
    lines = export(examples / "a.safetensors", examples / "b.safetensors", frames=4, size=16)["load"]
    assert lines == (
        "import torch, vtrain\n"
        "import vtrain.backbones\n"
        "vtrain.backbones.allow('nets:Vector')\n"
        f"net, info = vtrain.load_backbone('{examples}/b.safetensors')\n"
        "map_BCTHW = net(torch.rand(1, 3, *info.clip))"
    )
    done = in_a_new_process(f"{lines}\nprint(list(map_BCTHW.shape))", examples)
    assert done.stdout == "[1, 5, 1, 1, 1]\n", done.stderr


def test_an_installed_package_gives_its_backbone_a_plain_name(tmp_path: Path) -> None:
    package = tmp_path / "mobile3d-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: mobile3d\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[playspeed.backbones]\nmobile3d = my_nets:build\ntiny = my_nets:none\n")
    program = """
from vtrain.backbones import backbone, known
print(known("mobile3d"), backbone("mobile3d", width=4).dim)
try:
    backbone("mobile2d")
except Exception as error:
    print(error)
"""
    done = in_a_new_process(program, EXAMPLES, tmp_path)
    assert done.returncode == 0, done.stderr
    found, unknown = done.stdout.splitlines()
    assert found == "True 32"
    assert unknown == (
        f"no backbone 'mobile2d'; did you mean 'mobile3d'? there are {', '.join(BACKBONES)}, from installed packages "
        "mobile3d, or module:name for one of your own; a package offers tiny too, and the built-in backbone of that "
        "name wins"
    )
