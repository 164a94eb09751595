"""Linear classification of frozen features: multinomial logistic regression, to its optimum.

Features are standardised by the mean and deviation of those trained on. The loss is the mean cross-entropy plus half
the strength times the squared weights (not the biases), made least by L-BFGS over all videos at once in float64: no
random numbers, no learning rate. The strength is chosen by videos of the training split that were held out, never by
the test; then all of the training split is used. Besides the features, memory holds about twice as much as they have,
in float64.

V videos   D feature   C classes
"""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from veval.features.table import Features, Ints, by_video, films
from veval.tasks.knn import Classified, refuse_unusable_pair
from vprep.errors import UsageError

STRENGTHS = (10.0, 1.0, 0.1, 1e-2, 1e-3, 1e-4, 1e-5)
WITHOUT_CHOICE = 0.01  # where too few videos are there to hold some out
HELD_OUT = 0.2
STEPS = 500
FLAT = 1e-6  # largest entry of the gradient at what counts as the optimum

Fewer = Literal["refuse", "allow"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A linear classifier with the standardisation it was trained behind."""

    mean: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor
    gradient: float  # its largest entry, where training ended

    def classes(self, features_VD: Tensor) -> Tensor:
        return (_standardised(features_VD, self.mean, self.scale) @ self.weight.T + self.bias).argmax(1)

    def right(self, features_VD: Tensor, class_V: Tensor) -> float:
        return 100 * float((self.classes(features_VD) == class_V).double().mean())


def classify(
    train: Features,
    test: Features,
    *,
    strengths: Sequence[float] = STRENGTHS,
    seed: int = 0,
    device: str = "cpu",
) -> Classified:
    """Train on `train`, test on `test`; of several clips the mean is taken.

    The facts tell the strength, the accuracy on the held-out videos for each, and that on the training videos: where
    even those are not told apart, a low number is the features' and not a lack of training data.
    """
    refuse_unusable_pair(train, test)
    if not strengths or min(strengths) <= 0:
        raise UsageError(f"strengths are {list(strengths)}; one or more are needed, each above 0")
    known, asked = train.taken(train.labelled()), test.taken(test.labelled())
    labels, class_V = np.unique(known.label, return_inverse=True)
    features_VD, target_V = torch.tensor(by_video(known), device=device), torch.tensor(class_V, device=device)
    held = held_out(known, seed)
    strength, seen = _chosen(features_VD, target_V, held, strengths)
    fit = trained(features_VD, target_V, len(labels), strength)
    said_V = fit.classes(torch.tensor(by_video(asked), device=device)).cpu().numpy()
    facts = {
        "train": len(known.keys),
        "test": len(asked.keys),
        "test_without_label": len(test.keys) - len(asked.keys),
        "test_of_absent_class": int((~np.isin(asked.label, labels)).sum()),
        "strength": strength,
        "chosen": "on held-out training videos"
        if seen
        else "given"
        if len(strengths) == 1
        else "too few videos for it",
        "held_out": len(held) if seen else 0,
        "held_out_top1": {f"{value:g}": right for value, right in seen.items()},
        "train_top1": fit.right(features_VD, target_V),
        "optimum": "reached" if fit.gradient < FLAT else f"not reached, gradient {fit.gradient:.1e}",
    }
    return Classified(keys=asked.keys, label=asked.label, predicted=labels[said_V], facts=facts)


def few(features: Features, k: int, seed: int = 0, *, fewer: Fewer = "refuse") -> Features:
    """`k` labelled videos of each class, chosen by seed and key: the same for any weights and any order."""
    if k < 1:
        raise UsageError(f"k is {k}; at least 1 video of each class is needed")
    rows: defaultdict[int, list[int]] = defaultdict(list)
    for row in features.labelled().tolist():
        rows[int(features.label[row])].append(row)
    small = {label: len(found) for label, found in rows.items() if len(found) < k}
    if not rows or (small and fewer == "refuse"):
        what = "no video has a label" if not rows else f"{len(small)} of {len(rows)} classes have fewer than {k} videos"
        which = f" (class {min(small)} has {small[min(small)]})" if small else ""
        raise UsageError(f"{what}{which}; take a smaller k, or allow fewer")
    chosen = [row for found in rows.values() for row in _shuffled(found, [features.keys[r] for r in found], seed)[:k]]
    return features.taken(np.array(sorted(chosen), np.int64))


def held_out(features: Features, seed: int) -> Ints:
    """Rows that are held out: about HELD_OUT of each class, by whole films, and never a whole class.

    Videos cut from one film look alike. If some of them were trained on, the others would seem easy.
    """
    by_class: defaultdict[int, list[str]] = defaultdict(list)
    members: defaultdict[str, list[int]] = defaultdict(list)
    for row, (label, film) in enumerate(zip(features.label.tolist(), films(features), strict=True)):
        if film not in members:
            by_class[label].append(film)
        members[film].append(row)
    chosen: list[int] = []
    for names in by_class.values():
        wanted = HELD_OUT * sum(len(members[name]) for name in names)
        shuffled = [names[place] for place in _shuffled(list(range(len(names))), names, seed)]
        taken = 0
        for name in shuffled[:-1]:
            if taken >= wanted:
                break
            chosen += members[name]
            taken += len(members[name])
    return np.array(sorted(chosen), np.int64)


def trained(features_VD: Tensor, class_V: Tensor, classes: int, strength: float, begin: Fit | None = None) -> Fit:
    """The classifier with the least loss; `begin` makes the way there shorter."""
    x_VD = features_VD.double()
    mean = x_VD.mean(0)
    deviation = x_VD.std(0, correction=0)
    # A number that is the same in all videos tells nothing; its rounding errors must not be made large.
    scale = torch.where(deviation > 1e-12 * (1 + mean.abs()), 1 / deviation, 0.0)
    x_VD = _standardised(x_VD, mean, scale)
    weight = (begin.weight if begin else x_VD.new_zeros(classes, x_VD.shape[1])).clone().requires_grad_()
    bias = (begin.bias if begin else x_VD.new_zeros(classes)).clone().requires_grad_()
    optimiser = torch.optim.LBFGS(
        [weight, bias],
        max_iter=STEPS,
        tolerance_grad=FLAT / 10,
        tolerance_change=1e-14,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        optimiser.zero_grad()
        found = F.cross_entropy(x_VD @ weight.T + bias, class_V) + strength / 2 * weight.square().sum()
        found.backward()  # type: ignore[no-untyped-call]
        return found

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    loss()
    gradient = max(float(part.grad.abs().max()) for part in (weight, bias) if part.grad is not None)
    return Fit(mean=mean, scale=scale, weight=weight.detach(), bias=bias.detach(), gradient=gradient)


def _chosen(
    features_VD: Tensor, class_V: Tensor, held: Ints, strengths: Sequence[float]
) -> tuple[float, dict[float, float]]:
    """The strength that is best on the held-out rows, the stronger of equals, and what each was worth."""
    if not len(held):
        return (strengths[0] if len(strengths) == 1 else WITHOUT_CHOICE), {}
    if len(strengths) == 1:
        return strengths[0], {}
    out_V = torch.zeros(len(class_V), dtype=torch.bool, device=class_V.device)
    out_V[torch.tensor(held, device=class_V.device)] = True
    seen: dict[float, float] = {}
    fit = None
    for strength in sorted(strengths, reverse=True):
        fit = trained(features_VD[~out_V], class_V[~out_V], int(class_V.max()) + 1, strength, fit)
        seen[strength] = fit.right(features_VD[out_V], class_V[out_V])
    return max(seen, key=seen.__getitem__), seen


def _standardised(features_VD: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    return (features_VD.double() - mean) * scale


def _shuffled(rows: list[int], names: Sequence[str], seed: int) -> list[int]:
    """By seed and name, whatever the order they come in."""
    marks = [hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=16).digest() for name in names]
    return [row for _, row in sorted(zip(marks, rows, strict=True))]
