"""A network with its heads comes from a run, from the authors' file, or from a recipe; anything else is refused."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from golden_networks import filled, golden, shapes
from small_recipes import small
from torch import Tensor

from veval.look.trained import trained
from vprep.errors import UsageError
from vtrain.training.train import train
from vtrain.weights import load_backbone, save_weights

Fill = Callable[[str, list[int]], Tensor]


@pytest.fixture(scope="module")
def runs(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of RSPNet, of Pace, and of PRP with a decoder and without one."""
    folder = tmp_path_factory.mktemp("runs")
    changes: dict[str, tuple[str, ...]] = {"rspnet": (), "pace": (), "prp": (), "prp-dp": ("branches=DP",)}
    for name, words in changes.items():
        train(small(name.partition("-")[0], shards, "steps=2", *words), folder / name)
    return folder


@pytest.mark.parametrize("method", ["rspnet", "prp"])
def test_a_run_gives_all_of_its_network_in_eval_mode(method: str, runs: Path) -> None:
    found = trained(str(runs / method), method)
    saved = torch.load(runs / method / "last.pt", weights_only=True)["model"]
    state = found.module.state_dict()
    assert state.keys() == saved.keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in saved.items())
    assert not any(module.training for module in found.module.modules())
    assert (found.info.method, found.info.step, found.info.normalisation) == (
        method, 2, "imagenet" if method == "rspnet" else "unit"
    )  # fmt: skip


def test_random_weights_like_those_of_a_run_follow_from_the_seed(runs: Path) -> None:
    first, again, other = (trained(f"random:{runs / 'prp'}", "prp", seed=seed) for seed in (1, 1, 2))
    states = [found.module.state_dict() for found in (first, again, other)]
    assert all(torch.equal(states[0][name], tensor) for name, tensor in states[1].items())
    for name in ("decoder.up1.up.weight", "backbone.conv1.conv.weight"):
        assert not torch.equal(states[0][name], states[2][name])
    assert trained("random:rspnet-tiny", "rspnet").config.dim == 128


def published(name: str, fill: Fill = filled) -> dict[str, Tensor]:
    network = golden(name)
    return {network["prefix"] + key: fill(key, shape) for key, shape in shapes(network).items()}


@pytest.mark.slow
def test_the_authors_file_of_rspnet_gives_network_heads_and_momentum_copy(tmp_path: Path) -> None:
    network = published("rspnet/s3dg")
    copy = {name.replace("encoder_q.", "encoder_k."): 2 * tensor for name, tensor in network.items()}
    heads = {
        f"encoder_{side}.fc{number}.2.{word}": filled(f"{side}{number}{word}", [128, 1024][: 1 + (word == "weight")])
        for side in "qk" for number in (1, 2) for word in ("weight", "bias")
    }  # fmt: skip
    torch.save({"epoch": 200, "arch": "s3dg", "model": {**network, **copy, **heads}}, tmp_path / "a.pth.tar")
    found = trained(str(tmp_path / "a.pth.tar"), "rspnet")
    module, weight = found.module, "encoder_{}.fc{}.2.weight"
    assert torch.equal(module.heads.appearance[2].weight, heads[weight.format("q", 1)])
    assert torch.equal(module.heads.motion[2].weight, heads[weight.format("q", 2)])
    assert torch.equal(module.key_heads.motion[2].weight, heads[weight.format("k", 2)])
    first = "conv1.spatial.conv.weight"
    ours, theirs = module.backbone.state_dict()[first], module.key_backbone.state_dict()[first]
    assert torch.equal(2 * ours, theirs)
    assert found.info.clip == [16, 224, 224]
    torch.save({"model": {**network, **heads}}, tmp_path / "half.pth.tar")
    with pytest.raises(UsageError, match="holds no complete momentum copy"):
        trained(str(tmp_path / "half.pth.tar"), "rspnet")
    torch.save({"model": {**network, **copy}}, tmp_path / "bare.pth.tar")
    with pytest.raises(UsageError, match="does not hold a complete network of its method: 8 missing"):
        trained(str(tmp_path / "bare.pth.tar"), "rspnet")


@pytest.mark.slow
def test_the_authors_file_of_prp_gives_its_decoder(tmp_path: Path) -> None:
    torch.save(published("prp/r3d"), tmp_path / "a.pth")
    found = trained(str(tmp_path / "a.pth"), "prp")
    assert found.config.sampling.rate == 2
    assert torch.equal(found.module.decoder.up4.weight, filled("up4_1.weight", [64, 64, 2, 2, 2]))


def test_what_has_no_such_heads_is_refused_in_one_sentence(runs: Path, tmp_path: Path) -> None:
    net, info = load_backbone(runs / "rspnet")
    save_weights(tmp_path / "bare.safetensors", net, {"backbone": info.backbone, "settings": info.settings})
    state = torch.load(runs / "rspnet" / "last.pt", weights_only=True)
    del state["model"]["key_heads.motion.2.bias"]
    torch.save(state, tmp_path / "half.pt")
    torch.save({"a": torch.zeros(2)}, tmp_path / "other.pth")
    for word, method, said in (
        (
            runs / "pace",
            "rspnet",
            "is of pace, and this picture needs the heads of rspnet; name a run of vtrain rspnet",
        ),
        (runs / "prp" / "last.pt", "rspnet", "is of prp, and this picture needs the heads of rspnet"),
        (f"random:{runs / 'pace'}", "prp", "is of pace, and this picture needs the heads of prp"),
        (tmp_path / "bare.safetensors", "rspnet", "holds only a backbone, and this needs the heads of rspnet, too"),
        (tmp_path / "half.pt", "rspnet", "1 missing (key_heads.motion.2.bias); take another state of it"),
        (tmp_path / "other.pth", "prp", "holds none of the networks of prp"),
        (tmp_path / "nix", "prp", "there is no "),
    ):
        with pytest.raises(UsageError) as caught:
            trained(str(word), method)
        assert said in str(caught.value)
