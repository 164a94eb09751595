"""Published checkpoints are imported completely or not at all, and then compute what the authors' networks compute."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden_networks import GOLDEN, filled, golden, shapes
from torch import Tensor, nn

from vprep.errors import UsageError
from vtrain.backbones import backbone
from vtrain.methods.prp.decoder import Decoder, RateHead
from vtrain.weights import import_weights


def light(name: str, shape: list[int]) -> Tensor:
    """Return a tensor of that shape that takes one number on the disk."""
    return torch.zeros(()).expand(shape)


def checkpoint(name: str, fill: Callable[[str, list[int]], Tensor] = light) -> dict[str, Tensor]:
    network = golden(name)
    return {network["prefix"] + key: fill(key, shape) for key, shape in shapes(network).items()}


def packed(name: str, state: dict[str, Tensor]) -> dict[str, Any]:
    """Return the state as the authors' code saves it."""
    origin, _, arch = name.partition("/")
    if origin == "rspnet":
        return {"epoch": 200, "arch": arch, "model": state, "best_loss": 1.5, "scheduler": {"last_epoch": 200}}
    return {"epoch": 18, "state_dict": state, "opt_dict": {"state": {}}} if origin == "pace" else state


def saved(path: Path, data: object, **words: bool) -> Path:
    torch.save(data, path, **words)
    return path


def agrees(found: Tensor, wanted: dict[str, Any]) -> bool:
    first = torch.tensor(wanted["first"], dtype=torch.float64)
    close = (found.flatten()[: len(first)] - first).norm() < 1e-4 * first.norm()
    numbers = [(found.double().norm().item(), wanted["norm"]), (found.double().mean().item(), wanted["mean"])]
    return (
        list(found.shape) == wanted["shape"]
        and bool(close)
        and all(abs(number - wish) < 1e-4 * abs(wish) for number, wish in numbers)
    )


@pytest.mark.parametrize(
    "name",
    # The others take one to five seconds each.
    [pytest.param(net["name"], marks=[pytest.mark.slow] * (not net["name"].endswith("s3dg"))) for net in GOLDEN],
)
def test_a_published_checkpoint_computes_here_what_the_authors_network_computes(name: str, tmp_path: Path) -> None:
    network = golden(name)
    state = checkpoint(name, filled)
    imported = import_weights(saved(tmp_path / "published.pth", packed(name, state)), name.partition("/")[0])
    net = backbone(imported.info.backbone).eval()
    net.load_state_dict(imported.state)
    clips = np.random.RandomState(11).uniform(0, 1, network["input"]).astype(np.float32)
    with torch.no_grad():
        last = net(torch.from_numpy(clips))
        found = {"gap": last.mean((2, 3, 4))}
        if name.startswith("prp/"):
            heads: dict[str, nn.Module] = {"rec": Decoder(), "cls": RateHead()}
            for (word, head), part in zip(heads.items(), ("decoder.", "rates."), strict=True):
                state = {key.removeprefix(part): x for key, x in imported.heads.items() if key.startswith(part)}
                head.load_state_dict(state)
                found[word] = head.eval()(last)
    assert found.keys() == network["outputs"].keys()
    assert [word for word, wanted in network["outputs"].items() if not agrees(found[word], wanted)] == []


def test_the_report_names_what_was_left_out(tmp_path: Path) -> None:
    encoder = checkpoint("rspnet/c3d")
    copies = {key.replace("encoder_q", "encoder_k"): x for key, x in encoder.items()}
    heads = {f"encoder_{q}.fc{n}.2.{word}": torch.zeros(1) for q in "qk" for n in (1, 2) for word in ("weight", "bias")}
    queue = {"queue": torch.zeros(128, 8), "queue_ptr": torch.zeros(1)}
    data = {"model": {**encoder, **copies, **heads, **queue}, "optimizer": {"state": {0: {"m": torch.zeros(3)}}}}
    imported = import_weights(saved(tmp_path / "a.pth.tar", data), "rspnet")
    assert imported.report == (
        "rspnet: 56 tensors loaded, 71 skipped (encoder_k, fc1, fc2, linear, optimizer, queue, queue_ptr)"
    )
    assert imported.info == {
        "backbone": "c3d", "settings": {}, "dim": 512, "origin": "rspnet", "clip": [16, 112, 112], "file": "a.pth.tar",
        "normalisation": {
            "word": "imagenet",
            "scale": 1, "channels": "rgb", "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)
        },
    }  # fmt: skip


def test_a_fine_tuned_checkpoint_is_imported_too(tmp_path: Path) -> None:
    ours = {name.replace("encoder_q.", ""): x for name, x in checkpoint("rspnet/resnet18").items()}
    tuned = saved(tmp_path / "a.pth", {"model": ours | {"fc.weight": torch.zeros(101, 512)}})
    assert import_weights(tuned, "rspnet").report == "rspnet: 120 tensors loaded, 3 skipped (fc)"
    theirs = {name.replace("base_network.", ""): x for name, x in checkpoint("prp/r21d").items()}
    linear = {"module.linear.weight": torch.zeros(101, 512)}
    bare = {name: x for name, x in theirs.items() if name.removeprefix("module.").startswith(("conv1.", "bn1."))}
    bare |= {name: x for name, x in theirs.items() if ".block1." in name}
    imported = import_weights(saved(tmp_path / "b.pth", bare | linear), "prp")
    assert imported.report == "prp: 144 tensors loaded, 1 skipped (linear)"


def test_a_checkpoint_of_vcop_is_read_by_its_own_prefix(tmp_path: Path) -> None:
    state = {f"base_network.{name}": x for name, x in checkpoint("pace/r3d").items() if "linear" not in name}
    path = saved(tmp_path / "a.pt", state | {"fc7.weight": torch.zeros(512, 3072), "fc8.weight": torch.zeros(6, 512)})
    assert import_weights(path, "vcop").report == "vcop: 72 tensors loaded, 2 skipped (fc7, fc8)"


def test_the_counters_that_old_files_lack_are_zero(tmp_path: Path) -> None:
    state = {name: x for name, x in checkpoint("prp/c3d").items() if not name.endswith("num_batches_tracked")}
    imported = import_weights(saved(tmp_path / "a.pth", state), "prp")
    assert imported.state["conv1.a.bn.num_batches_tracked"].item() == 0
    assert imported.state.keys() == backbone("c3d", width=1).state_dict().keys()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"extra.weight": [3]}, "1 unknown (extra.weight)"),
        ({"module.conv5b.bias": None}, "1 missing (conv5.b.conv.bias)"),
        ({"module.bn1.bias": [63]}, "1 of another shape (conv1.a.bn.bias: [63] instead of [64])"),
        ({"conv2.bias": [128]}, "1 unknown (state_dict.conv2.bias)"),
        ({"module.conv5b.bias": None, "a": [1], "b": [1]}, "1 missing (conv5.b.conv.bias); 2 unknown (a, b)"),
    ],
)
def test_an_import_is_strict_in_both_directions(
    change: dict[str, list[int] | None], reason: str, tmp_path: Path
) -> None:
    state = {f"module.{name}": x for name, x in checkpoint("pace/c3d").items()}
    for name, shape in change.items():
        if shape is None:
            del state[name]
        else:
            state[name] = torch.zeros(shape)
    path = saved(tmp_path / "a.pth", {"state_dict": state})
    with pytest.raises(UsageError) as error:
        import_weights(path, "pace")
    assert str(error.value) == (
        f"{path} holds none of the networks of pace (c3d, r3d, r2plus1d, s3dg_pace); it differs from c3d by: {reason}"
    )


def test_an_unknown_origin_says_which_there_are(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        import_weights(tmp_path / "a.pth", "coclr")
    assert str(error.value) == "no origin 'coclr'; there are rspnet, prp, pace, vcop, torchvision"
