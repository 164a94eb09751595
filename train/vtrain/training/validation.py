"""Measure the method's own task and nearest neighbours during a training, on videos that it does not learn from.

B batch   N views   C channels   T frames   H height   W width   V videos   D feature
"""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from vprep.errors import UsageError
from vtrain.data.augment.apply import Augment
from vtrain.data.augment.config import AugmentConfig
from vtrain.data.dataset import NO_LABEL, Videos
from vtrain.data.loader import Loader
from vtrain.data.sampling import EvenClips
from vtrain.distributed import gather, rank, world
from vtrain.inference import Features, outputs
from vtrain.training.run import Observation, Run, targets_of
from vtrain.training.training import Training


def validation(training: Training) -> Observation | None:
    """Return a function that measures the method's own task on held-out videos, with the same clips each time."""
    if training.validated is None:
        return None
    recipe, held, place = training.recipe, training.validated, training.place
    plan = recipe.method.plan()
    augment = Augment(plan.looks)
    size = min(recipe.at_a_time(world()), max(1, len(held) // world()) * world())

    @torch.no_grad()
    def measure(run: Run) -> dict[str, float]:
        loader = Loader(
            held, plan, batch=size, seed=recipe.seed, workers=place.workers, rank=rank(), world=world(),
            epochs=recipe.validate.passes, shuffled=False, on_error=recipe.data.on_error, device=place.device,
        )  # fmt: skip
        sums: dict[str, Tensor] = {}
        run.share_statistics()
        run.module.eval()
        torch.manual_seed(recipe.seed)
        for batch in loader:
            if run.fetch is not None:
                run.fetch.batch = f"held out {batch.position}"
            with place.autocast():
                found = run.method(augment(batch.clips, batch.augmentation), targets_of(batch))
            # A batch counts by its valid videos: the last batch may be filled up with others.
            weight = batch.valid.sum()
            for name, value in {"videos": torch.ones((), device=place.device), **found}.items():
                sums[name] = sums.get(name, torch.zeros((), device=place.device)) + value * weight
        run.module.train()
        names = sorted(sums)
        values = torch.stack([sums[name] for name in names])
        if world() > 1:
            dist.all_reduce(values)
        means = dict(zip(names, values.tolist(), strict=True))
        count = max(1.0, means.pop("videos"))
        return {name: total / count for name, total in means.items()}

    return measure


def watching(training: Training) -> Observation | None:
    """Return a function that measures how often the nearest gallery video has the query's class, as in retrieval."""
    if training.watched is None:
        return None
    recipe, place, sides = training.recipe, training.place, training.watched
    sampling = recipe.method.sampling
    seen = sampling.looks[0]
    crop_size = None if seen.crop == "area" else seen.crop_size
    config = AugmentConfig(size=seen.size, crop="centre", crop_size=crop_size, flip=0.0, normalise=seen.normalise)
    plan = EvenClips(clips=recipe.watch.clips, frames=sampling.frames, looks=(config,))
    for split, videos in zip((recipe.watch.gallery, recipe.watch.queries), sides, strict=True):
        if (videos.label == NO_LABEL).all():
            raise UsageError(f"the videos of split '{split}' have no labels, which watching needs; set watch.every=0")

    def features(run: Run, videos: Videos) -> tuple[Tensor, Tensor]:
        """Return features of length 1 [V, D] and labels [V] of all ranks' videos."""
        batch = min(max(world(), 64 // recipe.watch.clips), len(videos)) // world() * world()
        loader = Loader(
            videos, plan, batch=max(world(), batch), workers=place.workers, rank=rank(), world=world(), epochs=1,
            shuffled=False, device=place.device,
        )  # fmt: skip
        net, rows, labels = Features(run.method.backbone, ("gap",)), [], []
        for part, clips_BND in outputs(loader, net, looks=plan.looks, device=place.device, precision=recipe.precision):
            rows.append(F.normalize(clips_BND.mean(1), dim=1))
            labels.append(torch.where(part.valid, part.label, NO_LABEL))
        return gather(torch.cat(rows).to(place.device)), gather(torch.cat(labels).to(place.device))

    def measure(run: Run) -> dict[str, float]:
        run.share_statistics()
        run.module.eval()
        (gallery_VD, gallery_V), (queries_VD, queries_V) = (features(run, videos) for videos in sides)
        run.module.train()
        gallery_VD, gallery_V = gallery_VD[gallery_V != NO_LABEL], gallery_V[gallery_V != NO_LABEL]
        nearest_V = gallery_V[(queries_VD @ gallery_VD.T).argmax(1)]
        correct = (nearest_V == queries_V)[queries_V != NO_LABEL]
        return {"top1": 100 * correct.float().mean().item()}

    return measure
