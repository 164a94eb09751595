"""The losses of a training, what stops it, and that measurements during it change nothing.

`python tests/train/test_training.py` writes golden/losses.json anew. It does not ask whether the new losses are right.
"""

import io
import json
import sys
import tarfile
import threading
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import pytest
import torch

from vprep.errors import WorkError
from vprep.index import index

SUPPORT = str(Path(__file__).parents[1] / "support")
sys.path += [] if SUPPORT in sys.path else [SUPPORT]  # pytest has it there; the program has not

from small_recipes import FRAMES, METHODS, SIZE, assert_same, lines, saved, small  # noqa: E402

from vtrain.data import EvenClips, Loader  # noqa: E402
from vtrain.data.augment.apply import Augment  # noqa: E402
from vtrain.data.augment.config import AugmentConfig  # noqa: E402
from vtrain.data.dataset import held_out  # noqa: E402
from vtrain.data.shard_set import ShardSet  # noqa: E402
from vtrain.overrides import change  # noqa: E402
from vtrain.recipes.recipe import for_classes  # noqa: E402
from vtrain.training.run import Observation, Place, Run, targets_of  # noqa: E402
from vtrain.training.train import make, train  # noqa: E402
from vtrain.training.training import Training, feed_of  # noqa: E402
from vtrain.training.validation import validation, watching  # noqa: E402

LOSSES = Path(__file__).parent / "golden" / "losses.json"
AS_IT_IS = [cv2.IMWRITE_JPEG_QUALITY, 100, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
OF_ITS_OWN = {"supervised": ["classes=5", "dropout=0"], "rspnet": ["tau=1", "margin=4", "bn_groups=1", "size=24"]}
CASES = {**{method: (method,) for method in METHODS}, "ascnet with clips": ("ascnet", "memory=clip")}
HERE = Place(torch.device("cpu"), torch.float32, 0)
Losses = dict[str, dict[str, list[float]]]


def blocks(folder: Path) -> Path:
    """A set of ten videos of moving blocks of colour, which any JPEG library reads in the same way."""
    folder.mkdir()
    with tarfile.open(folder / "blocks.tar", "w") as tar:
        for number in range(10):
            rng = np.random.default_rng(number)
            picture = rng.integers(0, 256, (3, 4, 3), np.uint8).repeat(8, 0).repeat(8, 1)
            frames = [np.roll(picture, 8 * shift, 1) for shift in range(16)]
            jpegs = [cv2.imencode(".jpg", frame, AS_IT_IS)[1].tobytes() for frame in frames]
            for ending, data in (("mjpeg", b"".join(jpegs)), ("cls", str(number % 5).encode())):
                info = tarfile.TarInfo(f"{number}.{ending}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    index(folder)
    return folder


def five_steps(case: str, folder: Path) -> dict[str, list[float]]:
    """The numbers of five steps: the loss and its parts."""
    # Small steps and batches that are not too small: else a rounding is a hundred times as large five steps later.
    method, *changes = CASES[case]
    settings = [*changes, "steps=5", "batch=8", "schedule.lr=0.001", *OF_ITS_OWN.get(method, [])]
    train(small(method, blocks(folder / "set"), *settings), folder / "run")
    found = lines(folder / "run")
    names = sorted(found[0].keys() - {"step", "epoch", "lr", "skipped"})
    return {name: [line[name] for line in found] for name in names}


@pytest.mark.parametrize("case", CASES)
def test_five_steps_of_every_method_give_the_losses_they_gave_before(case: str, tmp_path: Path) -> None:
    """To a tolerance, because kinds of processors add in different orders."""
    wanted = json.loads(LOSSES.read_text())[case]
    found = five_steps(case, tmp_path)
    assert found.keys() == wanted.keys()
    for name, numbers in wanted.items():
        assert found[name] == pytest.approx(numbers, rel=1e-4, abs=1e-6), name


# What is not finite


@pytest.mark.parametrize(("method", "log_every"), list(zip(METHODS, cycle((1, 100)), strict=False)))
def test_a_training_that_explodes_stops_and_the_last_good_state_is_named(
    method: str, log_every: int, shards: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    recipe = small(method, shards, "steps=2", "save_every=2", "optim.name=sgd")
    train(recipe, folder)
    settings = ["steps=60", "schedule.lr=1e30", f"log_every={log_every}", "save_every=12"]
    before = (folder / "last.pt").read_bytes()
    with pytest.raises(WorkError) as error:
        train(change(recipe, settings), folder, resume=True)
    said, _, rest = str(error.value).partition("; ")
    assert said.startswith("the loss or the weights are not finite since step ")
    assert 2 <= int(said.split()[-1]) < 12
    assert rest == (f"the last good state is {folder / 'last.pt'}, of step 2: lower schedule.lr or add schedule.warmup")
    assert (folder / "last.pt").read_bytes() == before
    assert "NaN" not in (folder / "metrics.jsonl").read_text()


@pytest.mark.parametrize("where", ["weight", "statistics of batch norm", "momentum"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_any_value_of_a_state_that_is_not_finite_is_found(where: str, value: float, shards: Path) -> None:
    run = made("supervised", shards)
    weight = next(run.module.parameters())
    run.optimizer.state[weight]["momentum_buffer"] = torch.full_like(weight, 3e38)
    assert run.finite()
    spoilt = {
        "weight": weight.detach(),
        "statistics of batch norm": next(one for one in run.module.buffers() if one.is_floating_point()),
        "momentum": run.optimizer.state[weight]["momentum_buffer"],
    }
    spoilt[where].flatten()[1] = value
    assert not run.finite()


def made(method: str, shards: Path, *changes: str) -> Run:
    recipe = for_classes(small(method, shards, *changes), 5)
    run = make(recipe, HERE)
    feed_of(recipe, ShardSet.open(shards).select("train"), run, HERE)  # ASCNet reads clips within a step
    return run


# Measurements between steps


LOOKS = ("validate.every=0.5", "watch.every=0.5")


@pytest.mark.parametrize("method", METHODS)
def test_measuring_on_other_videos_changes_nothing_of_a_training(method: str, shards: Path, tmp_path: Path) -> None:
    """Neither its weights, statistics, queue or memory, nor its random numbers."""
    recipe = small(method, shards, "steps=4", "data.hold_out=7")
    train(recipe, tmp_path / "one")
    train(change(recipe, LOOKS), tmp_path / "two")
    found = lines(tmp_path / "two")
    own = [{name: number for name, number in line.items() if not is_seen(name)} for line in found]
    assert own == lines(tmp_path / "one")
    seen = [sorted(filter(is_seen, line)) for line in found]
    assert seen[0] == []  # 13 videos are 3.25 steps
    assert seen[1] == seen[3]
    assert {"held_out_loss", "watch_top1"} < set(seen[1])
    one, two = saved(tmp_path / "one"), saved(tmp_path / "two")
    assert len(two["validation_losses"]) == 2
    for name in ("model", "optimizer", "step", "sums"):
        assert_same(two[name], one[name])


def is_seen(name: str) -> bool:
    return name.startswith(("held_out_", "watch_"))


def observations(method: str, shards: Path, *words: str, workers: int = 0) -> list[Observation]:
    """Return the measurements during such a training: on held-out videos, of nearest neighbours."""
    training = Training.open(small(method, shards, *words, f"workers={workers}"), HERE.device, Path("none"))
    return [found for found in (validation(training), watching(training)) if found is not None]


@pytest.mark.parametrize("method", METHODS)
def test_a_measurement_on_held_out_videos_is_the_same_whenever_it_is_taken(method: str, shards: Path) -> None:
    run = made(method, shards, "data.hold_out=7", *LOOKS)
    looks = {workers: observations(method, shards, "data.hold_out=7", *LOOKS, workers=workers) for workers in (0, 1)}
    before = {name: tensor.clone() for name, tensor in run.module.state_dict().items()}
    first = [look(run) for look in looks[0]]
    torch.manual_seed(7)
    torch.rand(100)
    assert [look(run) for look in looks[0]] == first
    assert [look(run) for look in looks[1]] == first
    assert all(module.training for module in run.module.modules())
    assert_same(dict(run.module.state_dict()), before)


def test_held_out_numbers_are_means_over_the_videos(shards: Path) -> None:
    """The last batch is a short one: 7 videos in batches of 4."""
    run = made("supervised", shards)
    held = held_out(ShardSet.open(shards).select(split="train"), 7)[1]
    recipe = small("supervised", shards)
    found = observations("supervised", shards, "data.hold_out=7", "validate.every=1")[0](run)
    loader = Loader(held, recipe.method.plan(), batch=1, epochs=1, shuffled=False)
    run.module.eval()
    augment = Augment(recipe.method.plan().looks)
    with torch.no_grad():
        each = [run.method(augment(one.clips, one.augmentation), targets_of(one)) for one in loader]
    assert len(each) == 7
    for name, number in found.items():
        assert number == pytest.approx(sum(one[name].item() for one in each) / 7, rel=1e-5), name


def test_watching_a_split_against_itself_finds_each_video(shards: Path) -> None:
    (watch,) = observations("pace", shards, "watch.every=1", "watch.gallery=test", "watch.queries=test")
    assert watch(made("pace", shards)) == {"top1": 100.0}


def test_watching_finds_the_nearest_neighbour_in_the_other_split(shards: Path) -> None:
    run = made("pace", shards)
    found = observations("pace", shards, "watch.every=1")[0](run)["top1"]
    run.module.eval()
    sides = []
    look = AugmentConfig(size=SIZE, crop="centre", flip=0.0)
    for split in ("train", "test"):
        loader = Loader(
            ShardSet.open(shards).select(split=split),
            EvenClips(clips=2, frames=FRAMES, looks=(look,)),
            batch=1,
            epochs=1,
            shuffled=False,
        )
        rows = []
        for one in loader:
            with torch.no_grad():
                clips = run.method.backbone(Augment((look,))(one.clips, one.augmentation)[0]).mean((2, 3, 4))
            rows.append((clips.mean(0), int(one.label)))
        sides.append(rows)
    right = 0
    for feature, label in sides[1]:
        similar = [torch.cosine_similarity(feature, other, 0).item() for other, _ in sides[0]]
        right += sides[0][similar.index(max(similar))][1] == label
    assert found == pytest.approx(100 * right / 10)


def test_a_program_may_train_in_a_thread(shards: Path, tmp_path: Path) -> None:
    """Python delivers no signals to a thread, so they do not stop it."""
    thread = threading.Thread(target=train, args=(small("supervised", shards, "steps=2"), tmp_path / "run"))
    thread.start()
    thread.join()
    assert saved(tmp_path / "run")["step"] == 2


def write_losses() -> None:
    torch.set_num_threads(1)
    found: Losses = {}
    for case in CASES:
        with TemporaryDirectory() as folder:
            found[case] = five_steps(case, Path(folder))
    LOSSES.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    write_losses()
