"""The settings of a k-NN vote; they are read without torch."""

from dataclasses import dataclass

from vprep.errors import UsageError

VOTES = ("similarity", "same")


@dataclass(frozen=True, slots=True, kw_only=True)
class Voting:
    """How neighbours vote."""

    k: int = 20
    temperature: float = 0.07
    votes: str = "similarity"  # how votes are weighted: by similarity, or all the same

    def __post_init__(self) -> None:
        if self.k < 1 or not self.temperature > 0:
            raise UsageError(
                f"k is {self.k} and temperature {self.temperature}; k must be at least 1, and temperature above 0"
            )
        if self.votes not in VOTES:
            raise UsageError(f"votes is '{self.votes}'; there are {', '.join(VOTES)}")
