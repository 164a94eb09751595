"""The commands that measure again what a row of a paper's table has, derived from the row's own words."""

from dataclasses import dataclass, replace
from functools import cache

from veval.evaluation import WeightsInfo
from veval.inputs import info_of_recipe
from veval.protocol import names_for, preset, usual_for
from veval.results.published import BACKBONES, METHODS, Published
from veval.tasks.finetune import recipe_for
from vtrain.recipes import RECIPES
from vtrain.recipes.names import word_of
from vtrain.recipes.recipe import Recipe

PAPERS = {"rspnet": "RSPNet", "ascnet": "ASCNet", "prp": "PRP", "pace": "Pace"}
# The words for a data set in recipes' names.
SETS = {
    "Kinetics-400": "k400",
    "Kinetics-100": "k100",
    "Mini-Kinetics-200": "minik200",
    "UCF101": "ucf101",
    "HMDB51": "hmdb51",
    "SSv2": "ssv2",
    "Sports-1M": "sports1m",
}
SOURCES = {
    "k400": "kinetics400/",
    "ucf101": "UCF-101/ --splits ucfTrainTestlist/",
    "hmdb51": "hmdb51/ --splits testTrainMulti_7030_splits/",
    "ssv2": "20bn-something-something-v2/ --splits labels/",
    "sports1m": "sports1m/ --labels sports1m.csv",
}
PARTS = {"k100": "k400", "minik200": "k400"}  # data sets that are a subset of another
RULES = {"k100": "--rule kinetics100", "minik200": "--rule mini-kinetics200 --ids ids/"}
UNSAID = "Kinetics-400"  # what the commands of a row learn from that does not say it


@dataclass(frozen=True, slots=True)
class Stored:
    """A set of shards: a data set, and the options of `vprep shard` with which its frames are stored."""

    data: str
    options: str

    @property
    def folder(self) -> str:
        """The folder's name: the data set and the values of the options, as in ucf101-128x171-25."""
        return "-".join([PARTS.get(self.data, self.data), *(self.options.split()[1::2])])

    @property
    def subset(self) -> str:
        """The file that lists the videos; empty where all are used."""
        return f"{self.folder.replace(PARTS[self.data], self.data)}.parquet" if self.data in PARTS else ""

    @property
    def commands(self) -> list[str]:
        """The commands that make it, the whole set first."""
        words = ["vprep shard", SOURCES[PARTS.get(self.data, self.data)], self.options, f"--out {self.folder}/"]
        found = [" ".join(filter(None, words))]
        if self.subset:
            found.append(f"vprep subset {self.folder}/ {RULES[self.data]} --out {self.subset}")
        return found


@cache
def made(name: str) -> Recipe:
    return RECIPES[name]()


def training(row: Published) -> str:
    """Return the command that trains the network of a row; empty for a network that has learned nothing."""
    if row.pretrain == "none":
        return ""
    if row.method == "VCOP":  # whose pre-training is not part of this toolkit
        return f"vtrain import {_imported(row)}.pt --from vcop --out {_imported(row)}.safetensors"
    recipe = made(recipe_of(row))
    learned = stored(recipe, SETS[row.pretrain or UNSAID])
    subset = f" --subset {learned.subset}" if learned.subset else ""
    shards = f"--shards {learned.folder}/{subset}"
    return f"vtrain {recipe.method_name} --recipe {recipe.name} {shards} --out runs/{recipe.name}"


def recipe_of(row: Published) -> str:
    """Return the name of the recipe that trains what a row has; of several the first that the row names."""
    start = f"{_short(METHODS, row.method)}-{_word(row)}-{SETS[row.pretrain or UNSAID]}"
    ends = [f"-{end}" if end != "main" else "" for end in (row.recipe or "main").split("|")]
    return next(start + end for end in ends if start + end in RECIPES)


def has_recipe(row: Published) -> bool:
    """Return whether a recipe trains the network of a row on the data of the row."""
    return f"{row.method}-{_word(row)}-{SETS.get(row.pretrain)}" in RECIPES


def evaluations(row: Published) -> list[str]:
    """Return the command that measures what a row has; two where its words have two readings."""
    if row.task == "pretext":
        return []
    recipe = tuning(row)
    start = f"--weights {weights_of(row)} --shards {stored(recipe, SETS[row.dataset]).folder}/"
    if row.task == "retrieval":
        return [f"veval retrieval {start}{protocol}" for protocol in _pools(row)]
    usual, _ = recipe_for(described(row), row.dataset)
    named = "" if usual.name == recipe.name else f" --recipe {recipe.name}"
    folds = " --folds 1,2,3" if row.splits == "1,2,3" else ""
    crop = f" --protocol {authors(row)}-{row.crop}" if row.crop not in ("", "centre") else ""
    crop += " test.crop_size=224" if row.crop == "ten" else ""  # 7/8 of the 256 that its set is high
    return [f"veval finetune {start}{named}{folds}{crop}"]


def sets_of(row: Published) -> list[Stored]:
    """Return the sets that the commands of a row read."""
    found = [] if row.task == "pretext" else [stored(tuning(row), SETS[row.dataset])]
    if row.pretrain != "none" and row.method != "VCOP":
        found.append(stored(made(recipe_of(row)), SETS[row.pretrain or UNSAID]))
    return found


def weights_of(row: Published) -> str:
    """Return what --weights takes for the network of a row."""
    if row.pretrain == "none":
        return f"random:{_untrained(row)}"
    return f"{_imported(row)}.safetensors" if row.method == "VCOP" else f"runs/{recipe_of(row)}"


def described(row: Published) -> WeightsInfo:
    """Return the description of the network of a row, as its run or file has it."""
    if row.method == "VCOP":
        like = info_of_recipe(made(f"finetune-vcop-{_word(row)}-ucf101"))
        return replace(like, path=weights_of(row), recipe=None)
    if row.pretrain != "none":
        return replace(info_of_recipe(made(recipe_of(row))), path=weights_of(row), step=1)
    like = info_of_recipe(made(_untrained(row)))
    return replace(like, path="random", method="random", recipe=None, epochs=None, like=like.method)


def tuning(row: Published) -> Recipe:
    """Return the recipe that fine-tunes as a row's authors do; of its data set's recipes that with the row's clips."""
    start = f"finetune-{authors(row)}-{_word(row)}-{SETS[row.dataset]}"
    there = {name: made(name) for name in RECIPES if name == start or name.startswith(f"{start}-")}
    wanted = (int((row.frames or "16").split("|")[0]), int(row.size or 112), int(row.size or 112))
    fits = [recipe for recipe in there.values() if recipe.clip == wanted or not row.frames]
    return fits[0] if fits else there[start]


def authors(row: Published) -> str:
    """Return the method whose authors' recipes and protocols a row is measured by."""
    return "vcop" if row.method == "VCOP" else next(name for name, paper in PAPERS.items() if paper == row.paper)


def stored(recipe: Recipe, data: str) -> Stored:
    """Return the set of a data set's shards that a recipe expects."""
    return Stored(data, recipe.stored.options)


def _pools(row: Published) -> list[str]:
    """Return the option of each protocol whose pool a row may have; empty for the method's own protocol."""
    usual = usual_for("features", authors(row))
    left = set(row.pools.split("|")) - set(preset("features", usual).pools) if row.pools else set()
    named = {pool: name for name in names_for("features") for pool in [",".join(preset("features", name).pools)]
             if name.startswith(authors(row)) and name != usual}  # fmt: skip
    others = [f" --protocol {named[pool]}" for pool in sorted(left)]
    own = not row.pools or set(preset("features", usual).pools) & set(row.pools.split("|"))
    return ["", *others] if own else others


def _untrained(row: Published) -> str:
    """Return the first recipe of a row's authors for its network, which stands for the network before training."""
    start = f"{authors(row)}-{_word(row)}-"
    return next(name for name in RECIPES if name.startswith(start))


def _imported(row: Published) -> str:
    return f"vcop-{_word(row)}"


def _word(row: Published) -> str:
    """Return a backbone's word in recipes' names."""
    return word_of(_short(BACKBONES, row.backbone))


def _short(names: dict[str, str], printed: str) -> str:
    return next((name for name, other in names.items() if other == printed), printed)
