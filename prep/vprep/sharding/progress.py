"""The progress of sharding: the number of finished videos, and how many of them failed."""

from collections import Counter

from vprep.progress import Progress


class VideoProgress(Progress):
    """Counts the finished videos and the failed videos, and shows both."""

    def __init__(self, total: int, done: int = 0, *, visible: bool = True) -> None:
        super().__init__(total, done, visible=visible)
        self.failures: Counter[str] = Counter()

    def video(self, cause: str | None) -> None:
        """Count one more video; `cause` says why it failed, if it did."""
        self.videos(1, {cause: 1} if cause else {})

    def videos(self, count: int, causes: dict[str, int]) -> None:
        """Count more videos; `causes` says how many of them failed by each cause."""
        self.failures.update(causes)
        self.move(self.done + count)
        failed = sum(self.failures.values())
        text = f"{self.per_second:.1f} videos/s, {failed} failed"
        self.show(f"{self.done}/{self.total} videos", text, now=self.done == self.total)
