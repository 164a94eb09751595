"""The results of commands as text."""

from collections import Counter
from pathlib import Path
from shlex import quote
from typing import Any

from vprep.errors import WorkError
from vprep.format import FAILURES
from vprep.index_rows import failures
from vprep.layouts import alike
from vprep.layouts.listing import Listing
from vprep.sharding.destination import Destination
from vprep.text import byte_size, one_line

MOST = 20  # lines of a list that is shown


def listing_lines(listing: Listing) -> list[str]:
    """Return lines about a source to print before the work starts: its size, and warnings about its lists."""
    videos, classes = counted(len(listing.entries), "video"), counted(len(listing.classes), "class")
    lines = [f"{videos}, layout {listing.layout}, {classes}", *alike.warnings(listing.classes)]
    if listing.missing:
        lines.append(
            f"warning: videos that the lists name and that do not exist: {len(listing.missing)} "
            f"('{listing.missing[0]}'{', ...' if len(listing.missing) > 1 else ''})"
        )
    if listing.unlisted:
        lines.append(
            f"warning: videos that are in no list: {len(listing.unlisted)} ('{listing.unlisted[0]}'"
            f"{', ...' if len(listing.unlisted) > 1 else ''})"
        )
    return lines


def set_info(out: Destination, info: dict[str, Any]) -> dict[str, Any]:
    """Return the counts of a finished set with its failures by cause and by class, for printing."""
    lost = failures(out.folder, ["cause", "class_name"]).to_pylist()
    kept = {name: info[name] for name in ("videos", "failures", "frames", "damaged", "bytes", "splits", "settings")}
    return kept | {
        "out": str(out),
        "shards": len(info["shards"]),
        "classes": len(info["classes"]),
        "causes": dict(Counter(row["cause"] for row in lost).most_common()),
        "lost_by_class": dict(Counter(row["class_name"] or "(no class)" for row in lost).most_common()),
    }


def set_text(info: dict[str, Any]) -> str:
    """Return a few lines about a finished set."""
    videos = f"{counted(info['videos'], 'video')} of {counted(info['classes'], 'class')}"
    lines = [
        f"{info['out']}: {videos} in {counted(info['shards'], 'shard')}, {counted(info['frames'], 'frame')}, "
        f"{byte_size(info['bytes'])}"
    ]
    for fold, counts in info["splits"].items():
        lines.append(f"  {fold}: " + ", ".join(f"{count} {split}" for split, count in counts.items()))
    if info["damaged"]:
        lines.append(f"  {info['damaged']} frames of the sources are damaged; the column damaged counts them")
    if info["failures"]:
        lines.append(f"  {info['failures']} failed: " + _counts(info["causes"]))
        lines.append("  by class: " + _counts(info["lost_by_class"]))
        lines.append(f"  {info['out']}/{FAILURES} lists them; vprep retry {quote(info['out'])} tries them again")
    lines.append(_next_training(info["out"]))
    return "\n".join(lines)


def refuse_failures(out: Destination, info: dict[str, Any], limit: float) -> None:
    """Fail when more than the share `limit` of the videos failed, although the set is finished."""
    lost, total = info["failures"], info["failures"] + info["videos"]
    if lost > limit * total:
        raise WorkError(
            f"{lost} of {total} videos failed ({lost / total:.1%}), more than --max-failures {limit * 100:g}%; "
            f"{out}/{FAILURES} says why"
        )


def plan_text(info: dict[str, Any]) -> str:
    """Return the text of `vprep plan`: what vprep shard would find and make."""
    sample, classes = info["sample"], info["class_sizes"]
    lines = [
        f"{info['source']}: {counted(info['videos'], 'video')}, about {info['hours']:.1f} hours, "
        f"{byte_size(info['source_bytes'])}; layout {info['layout']}"
    ]
    if classes:
        (least, few), (most, many) = classes["least"], classes["most"]
        lines.append(
            f"  classes: {info['classes']}, from {counted(few, 'video')} ({least}) to {many} ({most}); "
            f"{classes['without_videos']} without any"
        )
    for fold, counts in info["splits"].items():
        lines.append(f"  {fold}: " + ", ".join(f"{count} {split}" for split, count in counts.items()))
    for name, words in (("missing", "listed but missing"), ("unlisted", "in no list")):
        if info[name]:
            lines.append(f"  {words}: {info[name]} ({', '.join(info[f'{name}_examples'])}, ...)")
    if info["empty"]:
        lines.append(f"  empty files: {info['empty']}")
    if info["ignored_files"]:
        lines.append(f"  other files, ignored: {info['ignored_files']}")
    groups = info["duplicates"]
    lines.append(f"  same content: {counted(len(groups), 'group')} of videos")
    lines += ["    " + " = ".join(group) for group in groups[:MOST]]
    lines.append(
        f"  of {counted(sample['videos'], 'video')} in the sample: {sample['rotated']} rotated, "
        f"{sample['variable_rate']} with a variable rate, {sample['silent']} silent, {sample['damaged']} damaged, "
        f"{sum(sample['failures'].values())} failed"
        + (f" ({_counts(sample['failures'])})" if sample["failures"] else "")
    )
    lines.append(
        f"vprep shard would make {counted(info['shards'], 'shard')}, about {byte_size(info['disk_bytes'])}, "
        f"in about {duration(info['seconds'])} with {counted(info['workers'], 'worker')}"
    )
    return "\n".join(lines)


def verify_text(info: dict[str, Any]) -> str:
    """Return the text of `vprep verify`: the problems of a set, or that there is none."""
    same = info["same_content"]
    what = f"same content as another video: {counted(same, 'video')}; vprep stats {info['set']} names some"
    note = [what] if same else []
    if not info["wrong"]:
        videos = f"{counted(info['videos'], 'video')} in {counted(info['shards'], 'shard')}"
        is_good = f"{videos} {'is' if info['videos'] == 1 else 'are'} as written ({info['depth']})"
        return "\n".join([f"{info['set']}: {is_good}", *note])
    lines = [
        f"{item['file']}" + (f"  {item['key']}" if item["key"] else "") + f"  {item['what']}" for item in info["wrong"]
    ]
    return "\n".join([*map(one_line, lines), *note, *info["advice"]])


def subset_text(folder: str, out: Path, info: dict[str, Any]) -> str:
    """Return the text of `vprep subset`."""
    counts = f"{counted(info['videos'], 'video')} of {counted(info['classes'], 'class')}"
    return f"{out}: {counts}\n{_next_training(folder, f' --subset {quote(str(out))}')}"


def synth_text(out: Path, info: dict[str, Any]) -> str:
    """Return the text of `vprep synth`."""
    counts = f"{counted(info['videos'], 'video')} of {counted(len(info['classes']), 'class')}"
    return f"{out}: {counts}\nnext: vprep shard {quote(str(out))}"


def index_text(folder: Path, info: dict[str, Any]) -> str:
    """Return the text of `vprep index`."""
    what = f"{counted(info['videos'], 'video')} in {counted(len(info['shards']), 'shard')}"
    lines = [f"{what}, {counted(info['frames'], 'frame')}"]
    if info["skipped"]:
        lines.append(
            f"samples without JPEG frames, which are not in the index: {sum(info['skipped'].values())}: "
            + _counts(info["skipped"])
        )
    if info["same_content"]:
        lines.append(
            f"warning: same content as another video: {counted(info['same_content'], 'video')}; vprep stats names some"
        )
    lines.append(_next_training(str(folder)))
    return "\n".join(lines)


def _next_training(folder: str, more: str = "") -> str:
    """Return the line with the command that usually follows."""
    return f"next: vtrain rspnet --shards {quote(folder)}{more}; for a trial, with --recipe tiny"


def class_sizes(sizes: Counter[str], classes: list[str]) -> dict[str, Any] | None:
    """Return the smallest and the largest class, and how many classes have no video; None without any class."""
    if not sizes:
        return None
    ranked = sorted(sizes.items(), key=lambda pair: (pair[1], pair[0]))
    return {
        "least": list(ranked[0]),
        "most": list(ranked[-1]),
        "without_videos": len(set(classes) - set(sizes)),
    }


def counted(number: int, word: str) -> str:
    """Return a number with its word, as in 1 video and 2 classes."""
    plural = f"{word}es" if word.endswith("s") else f"{word}s"
    return f"{number:,} {word if number == 1 else plural}"


def duration(seconds: float) -> str:
    """Return a duration with its unit, as in 12 minutes."""
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"


def _counts(counts: dict[str, int]) -> str:
    shown = [f"{count} {name}" for name, count in list(counts.items())[:MOST]]
    return ", ".join(shown) + (", ..." if len(counts) > MOST else "")
