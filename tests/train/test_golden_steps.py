"""Three training steps of RSPNet, PRP and Pace give the numbers that the authors' own code gives, in float64.

golden/steps.json holds those numbers. Weights and clips follow from a rule; weights come through the importer's names.
Ours are the method's module, the optimiser's builder and `after_step`. In float64 torch's 3D convolutions are slow, and
those marked `big` take minutes and up to 14 GB of memory: `make test-golden` runs all.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from golden_networks import FOLDER, filled, golden, shapes
from numpy.random import RandomState
from torch import Tensor, nn

from vtrain.backbones import backbone
from vtrain.data.sampling import Video
from vtrain.methods import pace, prp, rspnet
from vtrain.methods.pace.network import Pace
from vtrain.methods.prp.network import PRP
from vtrain.methods.rspnet.network import RSPNet
from vtrain.optim.config import Optim
from vtrain.optim.optimizers import build, set_lr
from vtrain.weights import ORIGINS, import_weights
from vtrain.weights.origins.origin import rename

STEPS = json.loads((FOLDER / "steps.json").read_text())
MARKS = {
    "pace/s3dg": [],
    "prp/c3d": [pytest.mark.big],
    "prp/r3d": [pytest.mark.big],
    "prp/r21d": [pytest.mark.big],
}
CLASSIFIER = ("linear.", "fc.")  # of Pace
OF_HEADS = (*CLASSIFIER, "fc1.", "fc2.", "fc8.")
CLOSE = 1e-6  # relative to the largest number of a list
KEYS = {False: "", True: "key."}  # the key network has weights of its own
# The layers of RSPNet's heads: the authors' name -> its number here, when there is a name.
LAYERS = {"conv": {"conv1": 0, "conv2": 2, "linear": 5}, "convbn": {"conv1": 0, "bn": 1, "linear": 5}}
Entry = dict[str, Any]
Facts = dict[str, Any]
Step = tuple[Tensor, dict[str, Tensor]]


def double(numbers: np.typing.NDArray[np.float64]) -> Tensor:
    """Return the numbers, rounded to float32, in float64."""
    return torch.from_numpy(numbers.astype(np.float32)).double()


# Our modules with the authors' weights


def imported(entry: Entry, folder: Path, *, key: bool = False) -> tuple[str, dict[str, Tensor], dict[str, Tensor]]:
    """Return the name of our backbone, its state, and the state of those heads that the importer knows."""
    network = golden(entry["network"])
    state = {network["prefix"] + name: filled(KEYS[key] + name, shape) for name, shape in shapes(network).items()}
    torch.save({"model": state} if entry["method"] == "rspnet" else state, folder / "published.pth")
    found = import_weights(folder / "published.pth", entry["method"])
    return found.info.backbone, found.state, found.heads


def head_name(entry: Entry, name: str) -> str:
    """Return our name of a tensor of RSPNet's heads or of Pace's classifier."""
    if entry["method"] == "pace":
        return re.sub(r"^(linear|fc)\.", "head.", name)
    which, layer, rest = name.split(".", 2)
    number = LAYERS.get(entry["head"], {}).get(layer, layer)
    return f"heads.{'appearance' if which == 'fc1' else 'motion'}.{number}.{rest}"


def made(entry: Entry, folder: Path) -> nn.Module:
    """Return our module of the entry's method, with the weights that follow from the names, in float64."""
    name, state, heads = imported(entry, folder)
    net = backbone(name)
    module: nn.Module
    if entry["method"] == "prp":
        module = PRP(net, prp.Config(sampling=prp.Sampling(short="loop")))
        state = {f"backbone.{name}": x for name, x in state.items()} | heads
    elif entry["method"] == "pace":
        module = Pace(net, pace.Config())
        ours = {key: shape for key, shape in shapes(golden(entry["network"])).items() if key.startswith(CLASSIFIER)}
        state = {f"backbone.{name}": x for name, x in state.items()} | head_state(entry, ours)
    else:
        module = RSPNet(net, rspnet_config(entry))
        state = {f"backbone.{name}": x for name, x in state.items()} | head_state(entry, entry["heads"])
        _, of_key, _ = imported(entry, folder, key=True)
        state |= {f"key_backbone.{name}": x for name, x in of_key.items()}
        state |= {f"key_{name}": x for name, x in head_state(entry, entry["heads"], key=True).items()}
        state |= {name: x for name, x in module.state_dict().items() if name.startswith("queue.")}
    module.load_state_dict(state)
    return module.double().train()


def rspnet_config(entry: Entry) -> rspnet.Config:
    return rspnet.Config(
        sampling=rspnet.Sampling(frames=entry["frames"]),
        head=entry["head"],
        dim=entry["dim"],
        queue=entry["queue"],
        tau=entry["T"],
        margin=entry["margin"],
        appearance_weight=entry["A"],
        motion_weight=entry["M"],
        momentum=entry["key_momentum"],
        bn_groups=1,
    )


def head_state(entry: Entry, wanted: dict[str, list[int]], *, key: bool = False) -> dict[str, Tensor]:
    return {head_name(entry, name): filled(KEYS[key] + name, shape) for name, shape in wanted.items()}


def our_name(entry: Entry, name: str, module: nn.Module) -> str:
    """Return our module's name of one of the authors' tensors: the only one that a table of the importer gives."""
    origin = ORIGINS[entry["method"]]
    if name.startswith(OF_HEADS):
        return rename(name, origin.heads) if entry["method"] == "prp" else head_name(entry, name)
    bare = re.sub(f"^{origin.prefix}", "", name)
    names = {rename(bare, origin.heads), *(f"backbone.{rename(bare, table)}" for table in origin.renames.values())}
    (ours,) = names & dict(module.named_parameters()).keys()
    return ours


# Clips


def rspnet_clips(entry: Entry, rng: RandomState) -> Iterator[Step]:
    shape = (entry["batch"], 2, 3, entry["raw_frames"], *entry["size"])
    for _ in range(3):
        noise = rng.standard_normal(shape)
        yield double(noise + 2 * rng.standard_normal((entry["batch"], 1, 3, 1, 1, 1))), {}


def prp_clips(entry: Entry, rng: RandomState) -> Iterator[Step]:
    """The plan chooses the frames to show; the raw clip and one frame are the video that it sees."""
    plan, speeds = prp.Sampling(short="loop"), entry["speeds"]
    for rates in entry["rates"]:
        clips = []
        for speed in rates:
            raw = double(rng.uniform(0, 1, (3, 16 * speed, *entry["size"])))
            samples = (plan(Video("v", 16 * speed + 1, 25.0, 112, 112), Random(seed)) for seed in count())
            sample = next(sample for sample in samples if sample.targets["rate"] == speeds.index(speed))
            clips.append(raw[:, sample.views[0].frames][None])
        targets = {"rate": torch.tensor([speeds.index(speed) for speed in rates])}
        yield torch.stack(clips), targets | {"speed": torch.tensor(rates, dtype=torch.float32)[:, None]}


def pace_clips(entry: Entry, rng: RandomState) -> Iterator[Step]:
    for labels in entry["labels"]:
        clips = double(rng.uniform(0, 255, (entry["batch"], 3, entry["frames"], *entry["size"])))
        yield clips[:, None], {"pace": torch.tensor(labels)[:, None]}


# Facts


def norm(tensors: Iterable[Tensor]) -> float:
    return float(torch.stack([x.detach().norm() for x in tensors]).norm())


def first6(tensor: Tensor) -> list[float]:
    return tensor.detach().flatten()[:6].tolist()  # type: ignore[no-any-return]


def statistics(net: nn.Module, name: str) -> float:
    return norm(x for key, x in net.named_buffers() if key.endswith(name))


def rspnet_parts(entry: Entry, found: dict[str, Tensor], far: float) -> Facts:
    return {
        "loss": found["loss"], "loss_A": found["appearance"], "loss_M": found["motion"],
        "accuracy_A": found["contrast_accuracy"], "accuracy_A_far": far, "accuracy_M": found["rsp_accuracy"],
    }  # fmt: skip


def other_parts(entry: Entry, found: dict[str, Tensor], far: float) -> Facts:
    if entry["method"] == "pace":
        return {"loss": found["loss"], "accuracy": found["pace_accuracy"]}
    return {
        "loss": found["loss"], "loss_reconstruction": found["reconstruction"],
        "loss_rate": found["rate"], "accuracy_rate": found["rate_accuracy"],
    }  # fmt: skip


def of_gradients(entry: Entry, module: Any) -> Facts:  # noqa: ANN401  a method's module
    names = {name: our_name(entry, name, module) for name in entry["facts"]["step1"]["grad_norm"]}
    gradients = {name: module.get_parameter(ours).grad for name, ours in names.items()}
    return {
        "backbone_grad_norm": norm(x.grad for x in module.backbone.parameters()),
        "grad_norm": {name: norm([x]) for name, x in gradients.items()},
        "grad_first6": {name: first6(x) for name, x in gradients.items()},
    }


def of_weights(entry: Entry, module: Any) -> Facts:  # noqa: ANN401
    wanted = entry["facts"]["after3"]
    found = {
        "backbone_weight_norm": norm(module.backbone.parameters()),
        "first6": {name: first6(module.get_parameter(our_name(entry, name, module))) for name in wanted["first6"]},
        "running_mean_norm": statistics(module.backbone, "running_mean"),
        "running_var_norm": statistics(module.backbone, "running_var"),
    }
    if entry["method"] != "rspnet":
        return found
    keys, copy = module.queue["keys"], module.key_backbone
    of_copy = {name: module.get_parameter(f"key_{our_name(entry, name, module)}") for name in wanted["key_first6"]}
    return found | {
        "queue_norm": norm([keys]),
        "queue_sum": float(keys.sum()),
        "queue_first6": first6(keys[0]),
        "queue_of_last_step_first6": first6(keys[2 * entry["batch"] % entry["queue"]]),
        "queue_next": int(module.queue.cursor),
        "key_weight_norm": norm(copy.parameters()),
        "key_first6": {name: first6(x) for name, x in of_copy.items()},
        "key_head_norm": norm(module.key_heads.parameters()),
        "key_running_mean_norm": statistics(copy, "running_mean"),
    }


def far_is_nearest(module: Any) -> Callable[[], float]:  # noqa: ANN401
    """Return a function that says how often, in the last step, the far key was above the queue before that step."""
    seen: dict[str, Any] = {"keys": []}
    if not isinstance(module, RSPNet):
        return lambda: 0.0
    module.register_forward_pre_hook(lambda net, given: seen.update(queue=net.queue["keys"].clone(), keys=[]))
    module.key_heads.register_forward_hook(lambda net, given, out: seen["keys"].append(out[0]))
    module.heads.register_forward_hook(lambda net, given, out: seen.update(query=out[0].detach()))

    def share() -> float:
        far = (seen["query"] * seen["keys"][0]).sum(1)
        return float((far > (seen["query"] @ seen["queue"].T).amax(1)).double().mean())

    return share


def three_steps(entry: Entry, folder: Path) -> Facts:
    module: Any = made(entry, folder)
    settings, rng = entry["optimiser"], RandomState(STEPS["clips_seed"])
    optimizer = build(
        module, Optim(momentum=settings["momentum"], weight_decay=settings["weight_decay"]),
        getattr(module, "lr_factors", {}),
    )  # fmt: skip
    set_lr(optimizer, settings["lr"])
    clips_of = {"rspnet": rspnet_clips, "prp": prp_clips, "pace": pace_clips}[entry["method"]]
    parts_of = rspnet_parts if entry["method"] == "rspnet" else other_parts
    if entry["method"] == "rspnet":
        rows = rng.standard_normal((entry["queue"], entry["dim"]))
        module.queue["keys"].copy_(torch.from_numpy(rows / np.linalg.norm(rows, axis=1, keepdims=True)))
        module.after_step(0.0)  # the authors' code has the copy follow before each step, and not after the last
    share = far_is_nearest(module)
    facts: Facts = {"steps": []}
    for number, (clips, targets) in enumerate(clips_of(entry, rng), 1):
        outputs = module(clips, targets)
        outputs["loss"].backward()
        outputs["loss"].detach_()
        facts["steps"].append({name: float(x) for name, x in parts_of(entry, outputs, share()).items()})
        if number == 1:
            facts["step1"] = of_gradients(entry, module)
        optimizer.step()
        optimizer.zero_grad()
        if number < 3:
            module.after_step(number / 3)
    return facts | {"after3": of_weights(entry, module)}


def compared(found: Any, wanted: Any, name: str = "") -> Iterator[tuple[str, float]]:  # noqa: ANN401  JSON
    """Yield each fact's name and how far it is off, relative to the largest number of its list."""
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys(), name
        for key in wanted:
            yield from compared(found[key], wanted[key], f"{name}/{key}")
    elif isinstance(wanted, list) and isinstance(wanted[0], dict):
        for number, (one, other) in enumerate(zip(found, wanted, strict=True)):
            yield from compared(one, other, f"{name}/{number}")
    else:
        ours, theirs = np.atleast_1d(found), np.atleast_1d(wanted)
        largest = float(np.abs(theirs).max())
        yield name, float(np.abs(ours - theirs).max()) / (largest or 1.0)


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param(entry, id=entry["name"], marks=MARKS.get(entry["name"], [pytest.mark.slow]))
        for entry in STEPS["entries"]
    ],
)
def test_three_steps_give_what_the_authors_code_gives(entry: Entry, tmp_path: Path) -> None:
    found = dict(compared(three_steps(entry, tmp_path), entry["facts"]))
    assert len(found) >= 16
    assert {name: off for name, off in found.items() if not off < CLOSE} == {}


@pytest.mark.slow
def test_the_first_losses_of_prp_are_those_of_the_authors_code(tmp_path: Path) -> None:
    """Without gradients, which take a minute."""
    entry = next(entry for entry in STEPS["entries"] if entry["name"] == "prp/r21d")
    clips, targets = next(prp_clips(entry, RandomState(STEPS["clips_seed"])))
    with torch.no_grad():
        outputs = made(entry, tmp_path)(clips, targets)
    parts = {name: float(x) for name, x in other_parts(entry, outputs, 0.0).items()}
    found = dict(compared(parts, entry["facts"]["steps"][0]))
    assert len(found) == 4
    assert max(found.values()) < CLOSE
