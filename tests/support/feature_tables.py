"""Features of videos that a test writes down."""

import numpy as np

from veval.features.table import Features


def features(
    array: object, label: object, *, keys: list[str] | None = None, group: list[str] | None = None
) -> Features:
    """Videos that are called v0, v1, ... unless they have `keys`."""
    labels = np.array(label, np.int64)
    return Features(
        keys=keys or [f"v{number}" for number in range(len(labels))],
        label=labels,
        group=group,
        features=np.array(array, np.float32),
    )
