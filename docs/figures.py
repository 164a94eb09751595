"""The figures of the four papers: what each shows, and how it is reproduced or why it is not."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rows import evaluations, training
from veval.results.published import Published, load

DRAWING = "A drawing: there is nothing to measure."
NO_PICTURES = "Not reproducible: no command draws such pictures."
NEIGHBOURS = (
    "The paper does not name its videos. `veval retrieval` keeps the neighbours of each query, and the page shows them:"
)


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of a paper."""

    number: int
    shows: str
    about: str
    commands: Sequence[str] = ()

    @property
    def text(self) -> str:
        """The figure as an item of a markdown list."""
        shown = "".join(f"\n  `{command}`\\" for command in self.commands).rstrip("\\")
        return f"- Figure {self.number}, {self.shows}. {self.about}{shown}"


def figures() -> dict[str, tuple[Figure, ...]]:
    """Return the figures of each paper."""
    return {
        "RSPNet": (
            Figure(1, "clips whose labels and content disagree", DRAWING),
            Figure(2, "the two tasks", DRAWING),
            Figure(
                3,
                "losses of S3D-G in 1000 epochs, and top-1 on UCF101 after each 200",
                "`vtrain look RUN` draws the losses of the run; the values are not printed. 200 epochs of 240,000 "
                "videos are 187,500 steps, and the second command is for each file in `kept/`:",
                _while_training(),
            ),
            Figure(4, "the nearest neighbours of videos", NEIGHBOURS, _neighbours("RSPNet", "4")),
            Figure(5, "the regions that decide RSP and A-VID", NO_PICTURES),
        ),
        "ASCNet": (
            Figure(1, "clips that agree in appearance and in speed", DRAWING),
            Figure(2, "the framework", DRAWING),
            Figure(3, "the nearest neighbours of videos", NEIGHBOURS, _neighbours("ASCNet", "5")),
        ),
        "PRP": (
            Figure(1, "clips at several rates", DRAWING),
            Figure(2, "both perceptions", DRAWING),
            Figure(3, "the encoder and the decoder", DRAWING),
            Figure(4, "how the motion attention is computed", DRAWING),
            Figure(5, "PRP beside a VAE and a GAN", DRAWING),
            Figure(6, "activation maps", NO_PICTURES),
            Figure(7, "the nearest neighbours of videos", NEIGHBOURS, _neighbours("PRP", "4")),
        ),
        "Pace": (
            Figure(1, "the task", DRAWING),
            Figure(2, "clips and their labels", DRAWING),
            Figure(3, "the framework", DRAWING),
            Figure(
                4,
                "top-1 on UCF101 of three networks from four initialisations",
                "The values are not printed. VCOP is in PRP's table 3; VCP is another paper's method. Random weights "
                "and pace prediction:",
                _of_three_networks(),
            ),
            Figure(5, "attention maps of conv5", NO_PICTURES),
        ),
    }


def _while_training() -> list[str]:
    """Return the commands that test a network at several moments of its training."""
    row = _row(paper="RSPNet", table="2", epochs="1000", dataset="UCF101")
    (test,) = evaluations(row)
    run = next(word for word in test.split() if word.startswith("runs/"))
    return [f"{training(row)} keep_every=187500", test.replace(run, f"{run}/kept/step_0187500.pt")]


def _neighbours(paper: str, table: str) -> list[str]:
    """Return the commands for the neighbours of the queries of the paper's first network for retrieval."""
    row = _row(paper=paper, table=table, task="retrieval", method=paper)
    return [*evaluations(row), "veval report --html page.html"]


def _of_three_networks() -> list[str]:
    """Return the commands for pace prediction and for random weights of each network."""
    row = _row(paper="Pace", table="1", recipe="main")
    commands = []
    for backbone in ("C3D", "R3D", "R(2+1)D"):
        trained = replace(row, backbone=backbone)
        random = replace(trained, method="scratch", pretrain="none")
        commands += [*evaluations(random), training(trained), *evaluations(trained)]
    return commands


def _row(**words: str) -> Published:
    return next(row for row in load() if all(getattr(row, name) == word for name, word in words.items()))
