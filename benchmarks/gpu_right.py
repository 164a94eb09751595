"""Phase `right` of gpu.py: run the tests that need a GPU, several at a time, and note how each ended.

Warnings of other versions of packages are shown in the log; they do not fail a test here.
"""

import importlib.util
import sys

import pytest

from gpu_results import Results, words_of_phase

OPTIONS = ("--tb=short", "--durations=15", "--continue-on-collection-errors")
AT_A_TIME = "4"  # processes, where pytest-xdist is installed
# With --small a few tests that a CPU can run.
FEW = ["tests/train/test_devices.py", "-m", "not slow", "-k", "momentum_copy or doctor"]


class Notes:
    """A plugin of pytest that notes how each test ended, as soon as it has."""

    def __init__(self, results: Results) -> None:
        self._results = results

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or not report.passed:
            said = str(report.longrepr).strip().splitlines()[-1][:300] if report.failed else ""
            self._results.add(
                "right", test=report.nodeid, outcome=report.outcome, seconds=round(report.duration, 2), said=said
            )


def main() -> None:
    words = words_of_phase()
    results = Results(words.out)
    results.forget("right")
    spread = importlib.util.find_spec("xdist") is not None and not words.small
    options = ["-q", "-p", "no:cacheprovider", "-W", "default", *OPTIONS]
    options += ["-n", AT_A_TIME] if spread else []
    sys.exit(pytest.main([*options, *(FEW if words.small else ["tests", "-m", "gpu"])], plugins=[Notes(results)]))


if __name__ == "__main__":
    main()
