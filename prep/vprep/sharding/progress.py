"""The progress of sharding: the number of finished videos, and how many of them failed."""

from collections import Counter

from vprep.progress import Progress


class VideoProgress(Progress):
    """Counts the finished videos and the failed videos, and shows both."""

    def __init__(self, total: int, done: int = 0) -> None:
        super().__init__(total, done)
        self.failures: Counter[str] = Counter()

    def video(self, cause: str | None) -> None:
        """Count one more video; `cause` says why it failed, if it did."""
        if cause:
            self.failures[cause] += 1
        self.move(self.done + 1)
        failed = sum(self.failures.values())
        text = f"{self.per_second:.1f} videos/s, {failed} failed"
        self.show(f"{self.done}/{self.total} videos", text, now=self.done == self.total)
