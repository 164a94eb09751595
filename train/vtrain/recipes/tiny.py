"""Recipes for a laptop: each method with a small network on small clips, to try on a CPU.

They fit any set of videos, and reproduce no result of a paper.
"""

from dataclasses import replace

from vtrain.data.augment.config import AugmentConfig
from vtrain.data.sampling import PLAIN, OneClip
from vtrain.methods import ascnet, pace, prp, rspnet, supervised
from vtrain.methods.method import MethodConfig
from vtrain.optim.config import Optim
from vtrain.optim.schedule import Schedule
from vtrain.recipes.names import by_name
from vtrain.recipes.recipe import Recipe

FRAMES, SIZE = 8, 40
BATCH, LR = 32, 1e-3


def on_a_laptop(name: str, method: MethodConfig, steps: int, batch: int = BATCH) -> Recipe:
    return Recipe(
        name=name,
        method=method,
        backbone="tiny",
        batch=batch,
        epochs=1,  # `steps` counts instead
        steps=steps,
        optim=Optim(name="adamw", weight_decay=0.01, exclude="bias and norm"),
        schedule=Schedule(lr=LR),
    )


def rspnet_tiny() -> Recipe:
    """RSPNet, tiny, any data: minutes on a CPU."""
    # On a CPU, changing the hue takes longer than all other augmentation.
    augment = replace(rspnet.RELEASED, size=SIZE, jitter=(0.4, 0.4, 0.4, 0))
    sampling = rspnet.Sampling(frames=FRAMES, looks=(augment,))
    return on_a_laptop("rspnet-tiny", rspnet.Config(sampling=sampling, queue=2048, momentum=0.99), 400)


def ascnet_tiny() -> Recipe:
    """ASCNet, tiny, any data: minutes on a CPU."""
    looks = tuple(
        replace(config, size=SIZE, blur_kernel=5, jitter=(0.4, 0.4, 0.2, 0))
        for config in (ascnet.ONLINE, ascnet.TARGET)
    )
    sampling = ascnet.Sampling(frames=FRAMES, speeds=(1, 2), looks=looks)
    return on_a_laptop("ascnet-tiny", ascnet.Config(sampling=sampling, queue=2048, hidden=512), 400)


def prp_tiny() -> Recipe:
    """PRP, tiny, any data: minutes on a CPU."""
    # On a CPU the decoder takes longer than the network: smaller clips, and no more frames reconstructed than seen.
    augment = AugmentConfig(size=32, crop="random", normalise="unit")
    sampling = prp.Sampling(frames=FRAMES, rate=1, short="loop", looks=(augment,))
    return on_a_laptop("prp-tiny", prp.Config(sampling=sampling), 400)


def pace_tiny() -> Recipe:
    """Pace, tiny, any data: minutes on a CPU."""
    # A network as small as this learns quickly when the paces differ much and each step shows each video at several
    # paces: with one clip per video at paces 1 to 4 it takes thousands of steps.
    sampling = pace.Sampling(
        frames=FRAMES, paces=(1, 2, 4, 8), clips=4, looks=(AugmentConfig(size=SIZE, crop="random"),)
    )
    return on_a_laptop("pace-tiny", pace.Config(sampling=sampling), 1200, batch=8)


def supervised_tiny() -> Recipe:
    """Training on labels, tiny, any data: to try on a CPU."""
    return on_a_laptop("supervised-tiny", labelled(), 800)


def finetune_tiny() -> Recipe:
    """Fine-tuning, tiny, any data: to try on a CPU."""
    return on_a_laptop("finetune-tiny", labelled(), 250)


def labelled() -> supervised.Config:
    """Return training on labels with small clips."""
    return supervised.Config(sampling=OneClip(frames=FRAMES, looks=(replace(PLAIN, size=SIZE),)))


RECIPES = by_name(rspnet_tiny, ascnet_tiny, prp_tiny, pace_tiny, supervised_tiny, finetune_tiny)
