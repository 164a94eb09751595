"""Features, retrieval and a test of whole videos give on every device what they give on the CPU.

Features agree to FAR of their norm: a GPU adds in another order, and convolutions are computed without TF32.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from devices import CPU, comparable, every_device
from small_recipes import small

from veval import commands, inputs
from veval.evaluation import Evaluation, Execution, Info, Weights
from veval.features import extract
from veval.features.feature_file import read
from veval.protocol import for_weights
from veval.tasks import video_accuracy
from veval.tasks.classifier import load_classifier
from veval.tasks.finetune import FineTuning, recipe_for
from vtrain.overrides import change
from vtrain.training.train import train

FAR = 1e-4


def on(device: torch.device) -> Execution:
    """Full precision; on the CPU one video at a time, elsewhere several, read by a worker."""
    if device == CPU:
        return Execution(device=device, precision="float32", batch=1)
    return Execution(device=device, precision="float32", batch=5, workers=1)


@pytest.fixture(scope="module")
def runs(grey: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a pre-training and a training on labels, of two steps each."""
    folder = tmp_path_factory.mktemp("runs")
    for method in ("pace", "supervised"):
        train(small(method, grey, "steps=2"), folder / method)
    return folder


def features_on(device: torch.device, runs: Path, shards: Path) -> Evaluation[Weights]:
    network = inputs.weights(str(runs / "pace"))
    return Evaluation(
        network=network,
        data=inputs.open_data(str(shards), ("test", "train")),
        protocol=for_weights("features", network.info, None, ["clips=3"]),
        execution=on(device),
    )


@every_device
def test_features_are_those_of_the_cpu(device: torch.device, runs: Path, shards: Path, tmp_path: Path) -> None:
    with comparable():
        for place, name in ((CPU, "wanted"), (device, "found")):
            extract.write(extract.work_of(features_on(place, runs, shards)), tmp_path / f"{name}.npz")
    wanted, found = (read(tmp_path / f"{name}.npz") for name in ("wanted", "found"))
    assert (found.keys, found.label.tolist(), found.split.tolist()) == (
        wanted.keys, wanted.label.tolist(), wanted.split.tolist(),
    )  # fmt: skip
    for pool, array in wanted.arrays.items():
        assert np.linalg.norm(found.arrays[pool] - array) < FAR * np.linalg.norm(array), pool


@every_device
def test_retrieval_finds_the_neighbours_that_the_cpu_finds(device: torch.device, runs: Path, shards: Path) -> None:
    with comparable():
        wanted, found = (commands.retrieval(features_on(place, runs, shards)) for place in (CPU, device))
    assert wanted is not None
    assert found is not None
    assert found["videos"] == wanted["videos"]
    assert [found[f"top{k}"] for k in (1, 5, 10)] == [wanted[f"top{k}"] for k in (1, 5, 10)]


@every_device
@pytest.mark.parametrize("crops", [("crop=centre",), ("crop=ten", "crop_size=21")], ids=["one crop", "ten crops"])
def test_a_test_of_whole_videos_predicts_what_the_cpu_predicts(
    crops: tuple[str, ...], device: torch.device, runs: Path, grey: Path
) -> None:
    network, data = load_classifier(str(runs / "supervised")), inputs.open_data(str(grey), None)
    protocol = for_weights("testing", network.info, None, ["clips=3", *crops], network.trained_on)
    numbers: list[Info] = []
    with comparable():
        for place in (CPU, device):
            evaluation = Evaluation(network=network, data=data, protocol=protocol, execution=on(place))
            found = video_accuracy.measure(evaluation)
            assert found is not None
            numbers.append(found)
    assert numbers[1] == numbers[0]


@every_device
def test_fine_tuning_learns_on_the_device_and_tests_what_it_learned(
    device: torch.device, grey: Path, tmp_path: Path
) -> None:
    """The class is how bright a video is; `vtrain` itself takes the GPU where there is one."""
    start, data = inputs.weights("random", backbone="tiny"), inputs.open_data(str(grey), None)
    recipe, _ = recipe_for(start.info, data.info.name)
    words = [
        f"data.shards={grey}",
        "data.split=all",
        "frames=4",
        "size=16",
        "batch=9",
        "steps=40",
        "workers=1",
        "log_every=1",
    ]
    tuning = FineTuning(
        weights=start, recipe=change(recipe, words), folder=tmp_path / "run", data=data,
        execution=Execution(device=device, workers=1), words=["clips=2"],
    )  # fmt: skip
    found = commands.finetune(tuning)
    assert found is not None
    assert found["precision"] == ("bf16" if device.type == "cuda" else "float32")
    assert found["top1"] > 80
