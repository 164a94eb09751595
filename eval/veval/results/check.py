"""Check the JSON of a result, which may come from a stranger: all that a report reads has its type and its range.

Other entries are ignored.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

from veval.results.class_names import CLASS_NAMES

SCHEMA = 1
OF_TENSORS = "tensors"  # what the hash of weights is of; in version 0.1 it was of their file
KINDS = ("finetune", "test", "retrieval", "linear", "knn")
VIDEOS = "videos"
PER_VIDEO = (VIDEOS, "predictions")  # lists with an entry for each video
GALLERY = "gallery_videos"
LINE_BY_LINE = (*PER_VIDEO, GALLERY)  # lists that a file has one entry to a line of
LONGEST = 4096  # characters of a word
DEEPEST = 20  # lists and objects within each other, in descriptions that are compared
SHOWN = 60  # characters of a wrong value in a message

OF_WEIGHTS = ("path", "hash", "method", "recipe", "backbone", "step", "seed", "kept", "kept_step", "like")
OF_DATA = ("shards", "name", "hash", "split", "subset")
COUNTS = ("classes", "failures")
COUNTS_AT_TOP = ("queries_without_label", "gallery_without_label", "unlabelled")

Over = Literal["videos", "groups"]  # what a bootstrap draws
Test = Callable[[Any], bool]


def problem(found: Any, metrics: list[str]) -> str | None:  # noqa: ANN401  any value of a file
    """Return why JSON with these metrics is no result; None when it is one."""
    if not isinstance(found, dict):
        return "it is not a JSON object"
    if not _is_count(found.get("schema")) or found["schema"] != SCHEMA:
        return f"its schema is {_shown(found.get('schema'))}, and this veval reads {SCHEMA}"
    if found.get("kind") not in KINDS:
        return f"its kind is {_shown(found.get('kind'))}; there are {', '.join(KINDS)}"
    for name in ("protocol", "weights", "data"):
        if not isinstance(found.get(name), dict):
            return f"it has no {name}"
    if any(isinstance(value, dict | list) for value in found["protocol"].values()):
        return "its protocol is not flat"
    if "top1" not in metrics:
        return "it has no top1"
    for name in metrics:
        if not _is_percent(found[name]):
            return f"its {name} is {_shown(found[name])}, which is not a percentage"
    return _problem_of_descriptions(found) or _problem_beside(found) or _problem_of_neighbours(found)


def _problem_of_descriptions(found: dict[str, Any]) -> str | None:
    """Return the first wrong entry of the protocol, the weights and the data."""
    weights, data, protocol = found["weights"], found["data"], found["protocol"]
    tuned = _mapping(found.get("fine_tuned"))
    checks: list[tuple[str, Mapping[str, Any], tuple[str, ...], Test, str]] = [
        ("protocol", protocol, tuple(protocol), _is_word, "a word or a number"),
        ("protocol", protocol, ("size",), _is_count, "a whole number"),
        ("weights", weights, OF_WEIGHTS, _is_word, "a word or a number"),
        ("weights", weights, ("epochs",), _is_number, "a number"),
        ("weights", weights, ("settings", "data"), _is_shallow, f"at most {DEEPEST} lists and objects deep"),
        ("weights.data", _mapping(weights.get("data")), ("name",), _is_word, "a word"),
        ("weights.data", _mapping(weights.get("data")), (VIDEOS,), _is_count, "a whole number"),
        ("data", data, OF_DATA, _is_word, "a word"),
        ("data", data, ("fold", *COUNTS), _is_count, "a whole number"),
        ("data", data, ("side",), _is_number, "a number"),
        ("data", data, (VIDEOS,), _are_counts, "a whole number for each split"),
        ("result", found, ("fine_tuned", "per_class", "pools"), _is_object, "an object"),
        ("fine_tuned", tuned, ("seed",), _is_word, "a word or a number"),
        ("fine_tuned", tuned, ("by",), _is_object, "an object"),
        ("fine_tuned.by", _mapping(tuned.get("by")), ("data",), _is_object, "an object"),
        ("fine_tuned.data", _mapping(tuned.get("data")), (VIDEOS,), _is_count, "a whole number"),
        ("fine_tuned.by.data", _mapping(_mapping(tuned.get("by")).get("data")), ("hold_out",), _is_count, "a number"),
    ]
    for place, values, names, test, wanted in checks:
        for name in names:
            value = values.get(name)
            if value is not None and not test(value):
                return f"its {place}.{_shown(name)[1:-1]} is {_shown(value)}; it must be {wanted}"
    return None


def _problem_beside(found: dict[str, Any]) -> str | None:
    """Return the problem of an entry that a result may lack; None without a problem."""
    if not _are_intervals(found.get("intervals", {})):
        return "its intervals are not two percentages each"
    if found.get("bootstrap", "videos") not in get_args(Over):
        return f"its bootstrap is {_shown(found['bootstrap'])}; there are {', '.join(get_args(Over))}"
    for name in COUNTS_AT_TOP:
        if not _is_count(found.get(name, 0)):
            return f"its {name} is {_shown(found[name])}; it must be a whole number"
    dropped = found.get("dropped")
    if dropped is not None and not (isinstance(dropped, list) and all(map(_is_dropped, dropped))):
        return "its dropped is not a list of videos"
    if not all(map(_is_video, videos_of(found))):
        return f"not all of its {VIDEOS} have a key, and label and predicted, hit, or first"
    return _problem_of_pools(found.get("pools"))


def _problem_of_pools(pools: Any) -> str | None:  # noqa: ANN401  any value of a file
    for name, numbers in _mapping(pools).items():
        if not _is_word(name) or not isinstance(numbers, dict):
            return f"its pool {_shown(name)} is {_shown(numbers)}; it must hold percentages"
        percentages = [value for metric, value in numbers.items() if metric.startswith("top")]
        if not all(map(_is_percent, percentages)) or not _are_intervals(numbers.get("intervals", {})):
            return f"its pool {_shown(name)} does not hold percentages"
    return None


def _problem_of_neighbours(found: dict[str, Any]) -> str | None:
    """Return the problem of the names of classes, or of the neighbours of queries."""
    names, gallery, copies = (found.get(name) or [] for name in (CLASS_NAMES, GALLERY, "same_content"))
    if not isinstance(names, list) or not all(map(_is_text, names)):
        return f"its {CLASS_NAMES} are not a list of words"
    if not isinstance(gallery, list) or not all(map(_is_labelled, gallery)):
        return f"not all of its {GALLERY} have a key and a label"
    if not isinstance(copies, list) or not all(map(_is_pair, copies)):
        return "not all of its same_content have a query and a gallery"
    if not _is_count(found.get("keep", 0)):
        return f"its keep is {_shown(found['keep'])}; it must be a whole number"
    with_neighbours = [video for video in videos_of(found) if "neighbours" in video or "similarity" in video]
    if not all(_has_neighbours(video, len(gallery)) for video in with_neighbours):
        return f"not all neighbours of its {VIDEOS} are numbers of its {GALLERY} with a similarity"
    return None


def videos_of(result: Mapping[str, Any]) -> list[Any]:
    """Return the entries for each video; empty where a result lists none."""
    return next((result[name] for name in PER_VIDEO if isinstance(result.get(name), list)), [])


def _mapping(value: Any) -> dict[str, Any]:  # noqa: ANN401  any value of a file
    return value if isinstance(value, dict) else {}


def _shown(value: Any) -> str:  # noqa: ANN401  any value of a file
    """Return a short form of a value, without control characters."""
    if isinstance(value, dict | list) and value:
        return "an object" if isinstance(value, dict) else "a list"
    text = ascii(value) if isinstance(value, str) and not _is_word(value) else repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def _is_number(value: Any) -> bool:  # noqa: ANN401
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1e15


def _is_count(value: Any) -> bool:  # noqa: ANN401
    return isinstance(value, int) and _is_number(value)


def _are_counts(value: Any) -> bool:  # noqa: ANN401
    return isinstance(value, dict) and all(map(_is_count, value.values()))


def _is_percent(value: Any) -> bool:  # noqa: ANN401
    return _is_number(value) and bool(value <= 100 + 1e-9)


def _are_intervals(value: Any) -> bool:  # noqa: ANN401
    return isinstance(value, dict) and all(
        isinstance(pair, list) and len(pair) == 2 and all(map(_is_percent, pair)) for pair in value.values()
    )


def _is_object(value: Any) -> bool:  # noqa: ANN401
    return isinstance(value, dict)


def _is_word(value: Any) -> bool:  # noqa: ANN401
    """Return whether this is a number, a truth value, or a text of bearable length that can be printed as UTF-8."""
    if isinstance(value, str):
        return len(value) <= LONGEST and (value.isascii() or not any("\ud800" <= one <= "\udfff" for one in value))
    return isinstance(value, bool | float) or (isinstance(value, int) and abs(value) < 1 << 64)


def _is_text(value: Any) -> bool:  # noqa: ANN401
    return isinstance(value, str) and _is_word(value)


def _is_shallow(value: Any, left: int = DEEPEST) -> bool:  # noqa: ANN401
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return left > 0 and all(_is_shallow(one, left - 1) for one in inner)


def _is_labelled(value: Any) -> bool:  # noqa: ANN401
    return isinstance(value, dict) and _is_text(value.get("key")) and _is_count(value.get("label"))


def _is_pair(value: Any) -> bool:  # noqa: ANN401
    return isinstance(value, dict) and all(_is_text(value.get(name)) for name in ("query", "gallery"))


def _has_neighbours(video: dict[str, Any], gallery: int) -> bool:
    """Return whether each clip of a query has numbers of gallery videos, and as many cosines."""
    if "first" not in video or not _is_count(video.get("label")):
        return False
    first, *lists = (video.get(name) for name in ("first", "neighbours", "similarity"))
    numbers, near = lists if isinstance(first, list) else [[value] for value in lists]
    if not isinstance(numbers, list) or not isinstance(near, list):
        return False
    clips = len(first) if isinstance(first, list) else 1
    return len(numbers) == len(near) == clips and all(map(_are_neighbours, numbers, near, [gallery] * clips))


def _are_neighbours(numbers: Any, near: Any, gallery: int) -> bool:  # noqa: ANN401
    return (
        isinstance(numbers, list)
        and isinstance(near, list)
        and len(numbers) == len(near)
        and all(_is_count(number) and number < gallery for number in numbers)
        and all(map(_is_cosine, near))
    )


def _is_cosine(value: Any) -> bool:  # noqa: ANN401
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1.001


def _is_dropped(value: Any) -> bool:  # noqa: ANN401
    return isinstance(value, str | dict)


def _is_rank(value: Any) -> bool:  # noqa: ANN401
    ranks = value if isinstance(value, list) else [value]
    return bool(ranks) and all(map(_is_count, ranks))


def _is_video(value: Any) -> bool:  # noqa: ANN401
    if not isinstance(value, dict) or not _is_text(value.get("key")):
        return False
    names = [value[name] for name in ("label", "predicted", "class", "named") if value.get(name) is not None]
    if not all(map(_is_word, names)):
        return False
    if "first" in value:
        pools = value.get("pools", {})
        return isinstance(pools, dict) and all(map(_is_rank, (value["first"], *pools.values())))
    if "hit" in value:
        return _is_number(value["hit"]) and bool(value["hit"] <= 1)
    return {"label", "predicted"} <= set(value) or {"class", "named"} <= set(value)
