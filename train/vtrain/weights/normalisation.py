"""Normalisations of clips: their numbers, and the data path's words for them."""

from dataclasses import asdict
from typing import Any

from vtrain.weights.origins.origin import Normalisation

# The words of vtrain.data.augment.config.Normalise.
WORDS = {
    "imagenet": Normalisation(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    "unit": Normalisation(),
    "bgr255": Normalisation(scale=255, channels="bgr"),
}


def spelled(found: Any) -> dict[str, Any] | None:  # noqa: ANN401  a word, numbers, or any value of a file
    """Return `word`, scale, channels, mean and std; None when nothing is known.

    `word` is None for numbers that the data path has no word for.
    """
    if isinstance(found, str) and found in WORDS:
        return {"word": found, **asdict(WORDS[found])}
    if not isinstance(found, dict):
        return None
    numbers = {key: tuple(value) if isinstance(value, list) else value for key, value in found.items() if key != "word"}
    words = [word for word, known in WORDS.items() if asdict(known) == numbers]
    return {"word": words[0] if words else None, **numbers}


def as_words(normalisation: dict[str, Any] | None) -> str:
    """Return `normalised as 'imagenet'`, or the numbers."""
    if normalisation is None:
        return "with unknown normalisation"
    if normalisation["word"]:
        return f"normalised as '{normalisation['word']}'"
    numbers = ", ".join(f"{key} {value}" for key, value in normalisation.items() if key != "word")
    return f"normalised by {numbers} (none of {', '.join(WORDS)})"
