"""Find weights and videos by the names that users write."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from veval.evaluation import RANDOM, Data, DataInfo, Weights, WeightsInfo
from vprep.errors import UsageError
from vprep.hashing import hash_of
from vtrain.backbones import backbone as new
from vtrain.data.dataset import NO_LABEL, Videos
from vtrain.data.shard_set import FOLDS, ShardSet
from vtrain.methods import METHODS, registry
from vtrain.overrides import as_json
from vtrain.recipes import named
from vtrain.recipes.names import split
from vtrain.recipes.recipe import Recipe
from vtrain.run_folder import LAST, header, newest
from vtrain.weights.location import file_of
from vtrain.weights.normalisation import WORDS as NORMALISATIONS
from vtrain.weights.normalisation import spelled

if TYPE_CHECKING:
    from torch import nn

    from vtrain.weights import WeightsInfo as FileInfo

RUNS = Path("runs")
TUNED = RUNS / "finetuned"
SHARDS = Path("data_shards")
LIKE = f"{RANDOM}:"
ADVICE = (  # where a split has no videos
    "name splits that it has with --split and --gallery, or make it again with lists: vprep shard VIDEOS --splits LISTS"
)
LARGEST = "largest"  # square of a frame
RANDOM_BACKBONE = "r3d"  # VCOP, PRP and Pace report results of this network without training
DATASET = "dataset.json"
KINETICS = (0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)  # mean and deviation of torchvision's networks


def weights(word: str | None = None, *, backbone: str | None = None, seed: int = 0) -> Weights:
    """Return the weights that `word` names: a run's folder, a file, `random`, or `random:RUN`; None: the newest run.

    `random:RUN` is the network of a run before training, which gets the same clips as the run. RUN may also be the name
    of a recipe, for the network that a run of this recipe begins with.
    """
    if word == RANDOM:
        return random_weights(backbone or RANDOM_BACKBONE, seed)
    if word is not None and word.startswith(LIKE):
        return random_weights(backbone, seed, represented(word.removeprefix(LIKE)))
    path = file_of(newest_run() if word is None else Path(word))
    from vtrain.weights import load_backbone

    net, found = load_backbone(path, expected=backbone)
    info = info_of(path, found, net)
    return Weights(inference_ready(net), info)


def random_weights(backbone: str | None, seed: int, like: WeightsInfo | None = None) -> Weights:
    """Return a network without training, the same for the same seed; `like` describes the run that it represents."""
    import torch

    name = backbone or (like.backbone if like else RANDOM_BACKBONE)
    settings = like.settings if like and name == like.backbone else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = new(name, **settings)
    info = WeightsInfo(
        path=RANDOM,
        hash=hash_of(b"".join(tensor.numpy().tobytes() for tensor in net.state_dict().values())),
        method=RANDOM,
        backbone=name,
        settings=settings,
        dim=net.dim,
        seed=seed,
        clip=like.clip if like else None,
        crop=like.crop if like else None,
        normalisation=like.normalisation if like else None,
        like=like.method if like else None,
        like_recipe=like.recipe if like else None,
        protocol=like.protocol if like else None,
    )
    return Weights(inference_ready(net), info)


def represented(word: str) -> WeightsInfo:
    """Return the description of a run's weights, or of those that a recipe with this name would train."""
    return weights(word).info if names_run(word) else info_of_recipe(named(word))


def names_run(word: str) -> bool:
    """Return whether `word` is the path of a run or a file, and not the name of a recipe."""
    return Path(word).exists() or len(Path(word).parts) > 1


def info_of_recipe(recipe: Recipe) -> WeightsInfo:
    """Return the description of the weights that a recipe trains, as far as it is known before the training."""
    found = as_json(recipe)
    start, method = split(recipe.name).start, recipe.method_name
    outside = None if method in METHODS else registry.entry(method).protocol
    return WeightsInfo(
        path=recipe.name,
        hash="",
        method=start.removeprefix("finetune-") if start.startswith("finetune-") else method,
        recipe=recipe.name,
        backbone=recipe.backbone,
        settings=dict(recipe.backbone_settings),
        dim=0,
        epochs=recipe.epochs,
        clip=list(recipe.clip),
        seed=recipe.seed,
        crop=crop_of(found),
        normalisation=recipe.method.sampling.looks[0].normalise,
        protocol=outside,
    )


def newest_run(runs: Path = RUNS) -> Path:
    """Return the folder of the run that was saved last."""
    found = newest(runs)
    if found is None:
        raise UsageError(
            f"there is no run in {runs}/; name weights with --weights RUN|FILE|random, or train some: "
            "vtrain METHOD --shards SPEC"
        )
    return found


def newest_tuned() -> str | None:
    """Return the fine-tuned run in the default folder that was saved last; None where there is none."""
    found = newest(TUNED)
    return None if found is None else str(found)


def open_shards(spec: str | Sequence[str] | None) -> ShardSet:
    """Open the shards that `spec` names; without one, the set in the default folder."""
    return ShardSet.open(spec or sets_here())


def open_data(
    spec: str | Sequence[str] | None, splits: Sequence[str] | None, *, fold: int = 1, subset: Path | None = None
) -> Data:
    """Open shards and select the videos of each split; without `splits` all videos."""
    opened = open_shards(spec)
    try:
        return Data.select(opened, splits, fold=fold, subset=subset)
    except UsageError as error:
        if fold not in FOLDS or all(opened.has_split(split, fold) for split in splits or ()):
            raise
        raise UsageError(f"{error}; {ADVICE}") from None


def sets_here(folder: Path = SHARDS) -> str:
    """Return the default folder for shards if it holds a set, or its only subfolder with one."""
    inside = sorted(path.parent for path in folder.glob(f"*/{DATASET}"))
    if (folder / DATASET).exists() or not inside:
        return str(folder)  # opening it raises the error for a missing folder
    if len(inside) > 1:
        raise UsageError(
            f"there are {len(inside)} sets in {folder}: {', '.join(map(str, inside))}; choose one with --shards"
        )
    return str(inside[0])


def demand_labels(videos: Videos, info: DataInfo) -> None:
    """Refuse videos without labels, which every number of an evaluation needs."""
    if (videos.label == NO_LABEL).all():
        why = "its sets have different classes" if videos.classes is None else "its videos were sharded without"
        raise UsageError(f"{info.shards} has no labels ({why}); shard it with --labels FILE, or name a single set")


def inference_ready(net: Any) -> Any:  # noqa: ANN401  a module of any class, whose class stays the same
    """Return the network in eval mode, in the memory layout and with the batch norm that are fastest."""
    import torch

    from vtrain.backbones.batch_norm import make_exact

    make_exact(net)
    return net.eval().requires_grad_(False).to(memory_format=torch.channels_last_3d)


def info_of(path: Path, found: "FileInfo", net: "nn.Module") -> WeightsInfo:
    """Return the description of the weights in `path` for results; `found` is that in their file, `net` has them.

    Steps and epochs are those of the training, which for a best epoch are in the last state beside it.
    """
    from vtrain.weights.tensor_hash import hash_tensors

    recipe = found.recipe or {}
    trained = header(path.with_name(LAST)) if found.is_best else {}
    return WeightsInfo(
        path=str(path),
        hash=hash_tensors(net.state_dict()),
        method=found.method or found.origin,
        recipe=recipe.get("name"),
        backbone=found.backbone,
        settings=found.settings,
        dim=found.dim,
        step=trained.get("step", found.step),
        epochs=trained.get("epochs", found.epochs),
        kept=found.best["by"] if found.best and found.is_best else None,
        kept_step=found.step if found.is_best else None,
        clip=found.clip,
        seed=recipe.get("seed"),
        crop=crop_of(recipe),
        normalisation=normalisation_of(found.normalisation),
        data=found.data,
        protocol=found.protocol,
        epoch=found.epoch,
    )


def first_augmentation(recipe: Any) -> Mapping[str, Any] | None:  # noqa: ANN401  any value of a file
    """Return the augmentation of a recipe's first view; None where the recipe does not say."""
    try:
        augmentation: Mapping[str, Any] = recipe["method"]["sampling"]["looks"][0]
    except (KeyError, TypeError, IndexError):
        return None
    return augmentation if isinstance(augmentation, dict) and {"crop", "crop_size"} <= set(augmentation) else None


def crop_of(recipe: Any) -> int | str | None:  # noqa: ANN401  any value of a file
    """Return the side in stored pixels of the crops that the network was trained on; None where it is not known."""
    augmentation = first_augmentation(recipe)
    if augmentation is None:
        return None
    side: int | None = None if augmentation["crop"] == "area" else augmentation["crop_size"]
    return LARGEST if side is None else side


def normalisation_of(found: Any) -> str | None:  # noqa: ANN401  any value of a file
    """Return the protocol's word for a normalisation; None where the file has none.

    Weights with a normalisation that has no word are refused: no protocol has such clips.
    """
    spelt = spelled(found)
    if spelt is None or spelt["word"]:
        return None if spelt is None else str(spelt["word"])
    plain = spelt["scale"] == 1 and spelt["channels"] == "rgb"
    if plain and (tuple(spelt["mean"]), tuple(spelt["std"])) == KINETICS:
        return "kinetics"
    raise UsageError(
        f"the weights expect clips normalised by {found}, which no protocol has; there are "
        f"{', '.join((*NORMALISATIONS, 'kinetics'))}"
    )
