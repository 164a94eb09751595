"""The options of the benchmark of loading; they are read without torch."""

from collections.abc import Callable

from vprep.errors import UsageError
from vprep.processors import demand_workers, processors
from vtrain.data.sampling import EvenClips, OneClip, Plan
from vtrain.methods import METHODS, registry

OTHER_PLANS: dict[str, Callable[[], Plan]] = {"finetune": OneClip, "test": EvenClips}


def plan_of(word: str) -> Plan:
    """Return the plan of a method's default config, or the plan of fine-tuning or of a test."""
    if word in OTHER_PLANS:
        return OTHER_PLANS[word]()
    if ":" not in word and word not in registry.names():
        there = [name for name, entry in METHODS.items() if not entry.learns_from_labels]  # these clips are finetune's
        raise UsageError(f"no clips of '{word}'; there are {', '.join([*there, *OTHER_PLANS])}")
    return registry.named(word).config().plan()


def read_workers(text: str) -> list[int]:
    """Return the numbers of workers to try; by default 0, 1, 2, 4, ... up to the number of processors."""
    if text:
        try:
            numbers = [int(word) for word in text.split(",")]
        except ValueError:
            raise UsageError(f"--workers is '{text}'; write numbers with commas, as in 0,1,4") from None
        demand_workers(max(numbers), "--workers")
        return numbers
    most = len(processors())
    return sorted({0, most, *(1 << power for power in range(most.bit_length()))} - {1 << most.bit_length()})
