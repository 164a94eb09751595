"""What is evaluated: weights, by what a person calls them, and the videos of some shards; and what is known of each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import environ
from pathlib import Path
from typing import Any

import torch
import xxhash

from vprep.errors import UsageError
from vtrain.backbones import Backbone
from vtrain.backbones import backbone as new
from vtrain.data.dataset import NO_LABEL, Videos
from vtrain.data.shard_set import ShardSet
from vtrain.run_folder import newest
from vtrain.weights import load_backbone
from vtrain.weights.normalisation import WORDS as NORMALISATIONS
from vtrain.weights.normalisation import spelled

RUNS = Path("runs")
SHARDS = Path("data_shards")
RANDOM = "random"
LIKE = f"{RANDOM}:"
LARGEST = "largest"  # square of a frame
RANDOM_BACKBONE = "r3d"  # with which VCOP, PRP and Pace show what untrained networks come to
DATASET = "dataset.json"
KEPT = ("backbone", "settings", "dim", "step", "epochs", "clip")  # of a file's facts, as they are
KINETICS = (0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)  # mean and deviation of torchvision's networks

Facts = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Weights:
    """A backbone in eval mode. `facts` go into results."""

    net: Backbone
    facts: Facts


def weights(word: str | None = None, *, backbone: str | None = None, seed: int = 0) -> Weights:
    """The weights that `word` names: a run's folder, a file, the newest run; `random`, or `random:RUN`, which is the
    network of a run before it has learned, to be shown what the run is shown."""
    if word == RANDOM:
        return random_weights(backbone or RANDOM_BACKBONE, seed)
    if word is not None and word.startswith(LIKE):
        return random_weights(backbone, seed, weights(word.removeprefix(LIKE)).facts)
    path = newest_run() if word is None else Path(word)
    net, found = load_backbone(path)
    if backbone not in (None, found["backbone"]):
        raise UsageError(
            f"{path} holds weights of backbone '{found['backbone']}', wanted is '{backbone}'; leave out --backbone"
        )
    return Weights(ready(net), facts_of(file_of(path), found))


def random_weights(backbone: str | None, seed: int, like: Facts | None = None) -> Weights:
    """A network that has learned nothing; the same one for the same seed."""
    like = like or {}
    name = backbone or str(like.get("backbone"))
    settings = like.get("settings") or {} if name == like.get("backbone") else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = new(name, **settings)
    state = xxhash.xxh3_128()
    for tensor in net.state_dict().values():
        state.update(tensor.numpy().tobytes())
    facts: Facts = {
        **dict.fromkeys((*KEPT, "recipe", "data")),
        **{name: like.get(name) for name in ("clip", "crop", "normalisation")},
        "like": like.get("method"),
        "path": RANDOM,
        "hash": state.hexdigest(),
        "method": RANDOM,
        "backbone": name,
        "settings": settings,
        "dim": net.dim,
        "seed": seed,
    }
    return Weights(ready(net), facts)


def newest_run(runs: Path = RUNS) -> Path:
    """The run that was saved last."""
    found = newest(runs)
    if found is None:
        raise UsageError(
            f"no run in {runs}/ here; name weights by --weights RUN|FILE|random, or train some: "
            "vtrain METHOD --shards SPEC"
        )
    return found


def data(
    shards: str | Sequence[str] | None,
    splits: Sequence[str] | None,
    *,
    fold: int = 1,
    subset: Path | None = None,
) -> tuple[dict[str, Videos], Facts]:
    """The videos of each split, and what is known of them; None: all videos, as split "all"."""
    opened = ShardSet.open(shards or sets_here())
    wanted = {"all": None} if splits is None else {split: split for split in splits}
    videos = {name: opened.select(split, subset=subset, fold=fold) for name, split in wanted.items()}
    facts: Facts = {
        "shards": opened.spec,
        "name": opened.name,
        "side": opened.smallest_side,
        "hash": opened.fingerprint,
        "split": ",".join(videos),
        "fold": fold,
        "subset": None if subset is None else str(subset),
        "videos": {split: len(some) for split, some in videos.items()},
        "fingerprints": {split: some.fingerprint for split, some in videos.items()},
    }
    return videos, facts


def sets_here(folder: Path = SHARDS) -> str:
    """The set in the folder where shards go by default, or the only one in a folder of it."""
    inside = sorted(path.parent for path in folder.glob(f"*/{DATASET}"))
    if (folder / DATASET).exists() or not inside:
        return str(folder)  # what is not there, the reader of it says
    if len(inside) > 1:
        raise UsageError(
            f"there are {len(inside)} sets in {folder}: {', '.join(map(str, inside))}; name one by --shards"
        )
    return str(inside[0])


def demand_labels(videos: Videos, facts: Facts) -> None:
    """Every number of an evaluation compares labels."""
    if (videos.label == NO_LABEL).all():
        why = "the sets disagree on the classes" if videos.classes is None else "its videos were sharded without"
        raise UsageError(f"{facts['shards']} has no labels ({why}); shard it with --labels FILE, or name one set alone")


def device(word: str = "") -> torch.device:
    """The device of that name; without one, this process' GPU, or the CPU where there is none."""
    if not word:
        word = f"cuda:{environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"
    try:
        found = torch.device(word)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"there is no device '{word}' ({str(error).splitlines()[0]}); write cpu or cuda") from None
    return found


def ready(net: Any) -> Any:  # noqa: ANN401  a module of any class, which stays what it is
    """In eval mode, and in the layout that 3D convolutions are fastest in."""
    return net.eval().requires_grad_(False).to(memory_format=torch.channels_last_3d)


def file_of(path: Path) -> Path:
    return path / "last.pt" if path.is_dir() else path


def facts_of(path: Path, found: Mapping[str, Any]) -> Facts:
    """What results say of weights."""
    recipe = found.get("recipe")
    recipe = recipe if isinstance(recipe, dict) else {}
    return {
        "path": str(path),
        "hash": hash_file(path),
        "method": found.get("method") or found.get("origin"),
        "recipe": recipe.get("name"),
        **{name: found.get(name) for name in KEPT},
        "seed": recipe.get("seed"),
        "crop": crop_of(recipe),
        "normalisation": normalisation(found.get("normalisation")),
        "data": found.get("data"),
    }


def crop_of(recipe: Facts) -> int | str | None:
    """The side in stored pixels of what the network was trained on; None where the recipe does not say."""
    try:
        look = recipe["method"]["sampling"]["looks"][0]
        side: int | None = None if look["crop"] == "area" else look["crop_size"]
    except (KeyError, TypeError, IndexError):
        return None
    return LARGEST if side is None else side


def normalisation(found: Any) -> str | None:  # noqa: ANN401  whatever a file says
    """The word for it; None where nothing is said. What no word is for cannot be shown to the network."""
    said = spelled(found)
    if said is None or said["word"]:
        return None if said is None else str(said["word"])
    plain = said["scale"] == 1 and said["channels"] == "rgb"
    if plain and (tuple(said["mean"]), tuple(said["std"])) == KINETICS:
        return "kinetics"
    raise UsageError(
        f"the weights want clips normalised by {found}; there are {', '.join((*NORMALISATIONS, 'kinetics'))}"
    )


def hash_file(path: Path) -> str:
    """XXH3 with 128 bits, in hexadecimal digits."""
    state = xxhash.xxh3_128()
    with path.open("rb") as file:
        while piece := file.read(1 << 22):
            state.update(piece)
    return state.hexdigest()
