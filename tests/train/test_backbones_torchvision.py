"""torchvision's networks and ours give the same outputs with the same weights."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from vtrain.backbones import backbone
from vtrain.weights import import_weights

# Operators of torchvision's compiled half, which a build for another torch cannot load; no video network uses them.
OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


def video_models() -> ModuleType:
    try:
        return importlib.import_module("torchvision.models.video")
    except ModuleNotFoundError:
        pytest.skip("torchvision is not installed: pip install --no-deps torchvision (and pillow)")
    except RuntimeError:  # "operator torchvision::nms does not exist"
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        for operator in OPERATORS:
            torch.library.define(f"torchvision::{operator.partition('(')[0]}", operator[operator.index("(") :])
        return importlib.import_module("torchvision.models.video")


@pytest.mark.parametrize(
    ("theirs", "ours", "report"),
    [
        ("r3d_18", "r3d18", "torchvision: 120 tensors loaded, 2 skipped (fc)"),
        ("r2plus1d_18", "r2plus1d18", "torchvision: 222 tensors loaded, 2 skipped (fc)"),
        ("s3d", "s3d", "torchvision: 462 tensors loaded, 2 skipped (classifier)"),
    ],
)
def test_a_network_of_torchvision_computes_the_same_here(theirs: str, ours: str, report: str, tmp_path: Path) -> None:
    models = video_models()
    torch.manual_seed(1)
    net = getattr(models, theirs)(weights=None)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm3d):  # as after training: a network as made hides a wrong eps
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
            torch.nn.init.normal_(module.running_mean, std=0.1)
            torch.nn.init.normal_(module.bias, std=0.1)
    torch.save(net.state_dict(), tmp_path / "theirs.pth")
    imported = import_weights(tmp_path / "theirs.pth", "torchvision")
    assert (imported.backbone, imported.report) == (ours, report)
    mine = backbone(ours).eval()
    mine.load_state_dict(imported.state)
    layers = ["features"] if theirs == "s3d" else ["stem", "layer1", "layer2", "layer3", "layer4"]
    trunk = torch.nn.Sequential(*(net.get_submodule(layer) for layer in layers))
    clips = torch.rand(2, 3, 16, 64, 64)
    with torch.no_grad():
        found, wanted = mine(clips), trunk.eval()(clips)
    assert ((found - wanted).norm() / wanted.norm()).item() < 1e-5


def test_a_new_network_is_initialised_as_torchvisions() -> None:
    models = video_models()
    for theirs, ours in (("r3d_18", "r3d18"), ("r2plus1d_18", "r2plus1d18")):
        spreads = [
            sorted(weight.std().item() for weight in net.parameters() if weight.dim() == 5)
            for net in (getattr(models, theirs)(weights=None), backbone(ours))
        ]
        assert spreads[0] == pytest.approx(spreads[1], rel=0.1)
