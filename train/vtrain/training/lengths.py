"""Change the length of a run that is resumed, and say what becomes of its learning rate.

A cosine has to end at the last step. So from the saved step on it is that of the new length: the learning rate jumps,
and the result is not that of a run which had this length from its start. Other schedules do not depend on the length.
The recipe notes each earlier length, so that a training by it takes the same steps.
"""

from dataclasses import replace

from vprep.errors import UsageError
from vtrain.recipes.recipe import Earlier, Length, Recipe


def with_length(recipe: Recipe, begun: Recipe, step: int, videos: int) -> tuple[Recipe, str]:
    """Return the recipe with its earlier lengths, and a note about a changed length; "" where it is as it was.

    `begun` is the recipe in the run's folder, and `step` the last one that is saved.
    """
    before, after = begun.length(videos), recipe.length(videos)
    if before.steps == after.steps:
        return replace(recipe, steps=begun.steps, epochs=begun.epochs, earlier_lengths=begun.earlier_lengths), ""
    if after.steps <= step:
        raise UsageError(
            f"the run has done {step} of {before.steps} steps, and its new length is {after.steps}; write more than "
            f"{step}, or leave the length out"
        )
    earlier = earlier_lengths(before, step)
    return replace(recipe, earlier_lengths=earlier), note_about(recipe, before, after, step)


def earlier_lengths(before: Length, step: int) -> tuple[Earlier, ...]:
    """Return the lengths by which the steps up to `step` were planned."""
    known = tuple(length for length in before.earlier if length.until <= step)
    if step == (known[-1].until if known else 0):
        return known
    return (*known, Earlier(until=step, steps=before.planned(step - 1)))


def note_about(recipe: Recipe, before: Length, after: Length, step: int) -> str:
    """Return what the new length does to the learning rate."""
    verb = "lengthened" if after.steps > before.steps else "shortened"
    changed = f"the run is {verb} from {before.steps} to {after.steps} steps"
    schedule = recipe.schedule.at_batch(recipe.batch)
    if schedule.kind != "cosine":
        return f"{changed}; its schedule ({schedule.kind}) does not depend on the length"
    last, then = (
        schedule.lr_at(at, after.per_epoch, steps)
        for at, steps in ((max(0, step - 1), before.planned(step - 1)), (step, after.steps))
    )
    return (
        f"{changed}: its cosine now ends there, so the learning rate goes from {last:.3g} to {then:.3g}; the result is "
        f"not that of a run of {after.steps} steps from the start"
    )
