"""Which videos of a set its page shows: the first ones of each class, from one reading of the index."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from pathlib import Path

from vprep.index_rows import batches

MOST_VIDEOS = 400  # that have a film
MOST_PER_CLASS = 8
SPLITS = ("split1", "split2", "split3")


@dataclass(slots=True)
class Picked:
    """Keys by class, and how many videos each class has in each part of the splits. A class may be None: no label."""

    keys: dict[str | None, list[str]] = field(default_factory=lambda: defaultdict(list))
    counts: Counter[str | None] = field(default_factory=Counter)
    parts: Counter[tuple[str | None, str, str]] = field(default_factory=Counter)  # class, split, part

    @property
    def classes(self) -> list[str | None]:
        """The classes by name, the videos without a label last."""
        return sorted(self.counts, key=lambda name: (name is None, name or ""))

    def rounds(self) -> list[str]:
        """Return the keys to show: the first of each class, then the second of each, and so on."""
        each = (self.keys[name] for name in self.classes)
        whole = [key for key in chain.from_iterable(zip_longest(*each)) if key is not None]
        return whole[:MOST_VIDEOS]


def pick(folder: Path) -> Picked:
    """Return the first videos of each class in the order in which they are stored, which the set's seed has drawn."""
    picked = Picked()
    for rows in batches(folder, ["key", "class_name", "frames", *SPLITS]):
        names, keys, frames = (rows[column].to_pylist() for column in ("class_name", "key", "frames"))
        picked.counts.update(names)
        for name, key, count in zip(names, keys, frames, strict=True):
            if count and len(picked.keys[name]) < MOST_PER_CLASS:
                picked.keys[name].append(key)
        for split in SPLITS:
            pairs = zip(names, rows[split].to_pylist(), strict=True)
            picked.parts.update((name, split, part) for name, part in pairs if part is not None)
    return picked
