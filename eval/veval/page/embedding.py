"""Two numbers for each video, so that features can be drawn: by PCA, or by t-SNE or UMAP where these are installed.

V videos   D feature
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from veval.features.table import parts
from veval.page.request import Method

TSNE_SAYS, UMAP_SAYS = (
    f"{name} of cosine distances: which videos are near says much, which are far says little."
    for name in ("t-SNE", "UMAP")
)
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Embedding:
    """Places of videos, and how they were found."""

    places: NDArray[np.float64]  # [V, 2]
    how: str  # a sentence


def embed(features_VD: Floats, method: Method) -> Embedding:
    """Return two numbers for each video."""
    return METHODS[method](features_VD)


def _pca(features_VD: Floats) -> Embedding:
    mean_D = features_VD.mean(axis=0, dtype=np.float64)
    scatter_DD = np.zeros((len(mean_D), len(mean_D)))
    for rows in parts(len(features_VD), 8 * len(mean_D)):
        centred_VD = features_VD[rows] - mean_D
        scatter_DD += centred_VD.T @ centred_VD
    value_D, axis_DD = np.linalg.eigh(scatter_DD)
    main_D2 = axis_DD[:, ::-1][:, :2]
    main_D2 = main_D2 * np.where(main_D2.sum(axis=0) < 0, -1.0, 1.0)  # the same picture on every machine
    place_V2 = np.empty((len(features_VD), 2))
    for rows in parts(len(features_VD), 8 * len(mean_D)):
        place_V2[rows, : main_D2.shape[1]] = (features_VD[rows] - mean_D) @ main_D2
    share = value_D[::-1][:2].sum() / max(value_D.sum(), 1e-12)
    return Embedding(place_V2, f"PCA: the two directions of the largest variance, which hold {share:.0%} of it.")


def _tsne(features_VD: Floats) -> Embedding:
    manifold = importlib.import_module("sklearn.manifold")
    perplexity = min(30.0, max(1.0, (len(features_VD) - 1) / 3))
    place_V2 = manifold.TSNE(init="pca", metric="cosine", perplexity=perplexity, random_state=0).fit_transform(
        features_VD
    )
    return Embedding(np.asarray(place_V2, np.float64), TSNE_SAYS)


def _umap(features_VD: Floats) -> Embedding:
    umap = importlib.import_module("umap")
    neighbours = min(15, len(features_VD) - 1)
    place_V2 = umap.UMAP(metric="cosine", n_neighbors=neighbours, random_state=0, n_jobs=1).fit_transform(features_VD)
    return Embedding(np.asarray(place_V2, np.float64), UMAP_SAYS)


METHODS: dict[Method, Callable[[Floats], Embedding]] = {"pca": _pca, "tsne": _tsne, "umap": _umap}
