"""Results in words for people."""

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from vprep.errors import WorkError
from vprep.format import FAILURES
from vprep.layouts.listing import Listing

MOST = 20  # lines of a list that is shown


def oddities(listing: Listing) -> list[str]:
    """What is worth saying about a source before the work starts."""
    lines = [f"{len(listing.entries)} videos, layout {listing.layout}, {len(listing.classes)} classes"]
    if listing.missing:
        lines.append(
            f"warning: {len(listing.missing)} videos are named by the lists and are not there "
            f"('{listing.missing[0]}'{', ...' if len(listing.missing) > 1 else ''})"
        )
    if listing.unlisted:
        lines.append(
            f"warning: {len(listing.unlisted)} videos are there and no list names them ('{listing.unlisted[0]}'"
            f"{', ...' if len(listing.unlisted) > 1 else ''})"
        )
    return lines


def of_set(out: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """The facts of a finished set, with what was lost, for printing."""
    lost = pq.read_table(out / FAILURES, columns=["cause", "class_name"]).to_pylist()
    kept = {name: facts[name] for name in ("videos", "failures", "frames", "damaged", "bytes", "splits", "settings")}
    return kept | {
        "out": str(out),
        "shards": len(facts["shards"]),
        "classes": len(facts["classes"]),
        "causes": dict(Counter(row["cause"] for row in lost).most_common()),
        "lost_by_class": dict(Counter(row["class_name"] or "(no class)" for row in lost).most_common()),
    }


def as_text(facts: dict[str, Any]) -> str:
    """A few lines about a finished set."""
    lines = [
        f"{facts['out']}: {facts['videos']} videos of {facts['classes']} classes in {facts['shards']} shards, "
        f"{facts['frames']} frames, {size(facts['bytes'])}"
    ]
    for fold, counts in facts["splits"].items():
        lines.append(f"  {fold}: " + ", ".join(f"{count} {split}" for split, count in counts.items()))
    if facts["damaged"]:
        lines.append(f"  {facts['damaged']} frames of their sources are damaged; the column damaged tells where")
    if facts["failures"]:
        lines.append(f"  {facts['failures']} failed: " + _counts(facts["causes"]))
        lines.append("  by class: " + _counts(facts["lost_by_class"]))
        lines.append(f"  {facts['out']}/{FAILURES} names them; vprep retry {facts['out']} tries them again")
    return "\n".join(lines)


def refuse_losses(out: Path, facts: dict[str, Any], limit: float) -> None:
    """Too many videos lost is an error, after all the work is done."""
    lost, total = facts["failures"], facts["failures"] + facts["videos"]
    if lost > limit * total:
        raise WorkError(
            f"{lost} of {total} videos failed ({lost / total:.1%}), more than --max-failures {limit * 100:g}%; "
            f"{out / FAILURES} tells why"
        )


def plan_text(facts: dict[str, Any]) -> str:
    """What vprep shard would find and make."""
    sample, classes = facts["sample"], facts["class_sizes"]
    lines = [
        f"{facts['source']}: {facts['videos']} videos, about {facts['hours']:.1f} hours, "
        f"{size(facts['source_bytes'])}; layout {facts['layout']}"
    ]
    if classes:
        (least, few), (most, many) = classes["least"], classes["most"]
        lines.append(
            f"  classes: {facts['classes']}, from {few} videos ({least}) to {many} ({most}); "
            f"{classes['without_videos']} without any"
        )
    for fold, counts in facts["splits"].items():
        lines.append(f"  {fold}: " + ", ".join(f"{count} {split}" for split, count in counts.items()))
    for name, words in (("missing", "listed but missing"), ("unlisted", "present but unlisted")):
        if facts[name]:
            lines.append(f"  {words}: {facts[name]} ({', '.join(facts[f'{name}_examples'])}, ...)")
    if facts["empty"]:
        lines.append(f"  empty files: {facts['empty']}")
    if facts["ignored_files"]:
        lines.append(f"  other files, left alone: {facts['ignored_files']}")
    groups = facts["duplicates"]
    lines.append(f"  same content: {len(groups)} groups of videos")
    lines += ["    " + " = ".join(group) for group in groups[:MOST]]
    lines.append(
        f"  of {sample['videos']} tried: {sample['rotated']} rotated, {sample['variable_rate']} with a variable rate, "
        f"{sample['silent']} silent, {sample['damaged']} damaged, {sum(sample['failures'].values())} failed"
        + (f" ({_counts(sample['failures'])})" if sample["failures"] else "")
    )
    lines.append(
        f"vprep shard would make {facts['shards']} shards, about {size(facts['disk_bytes'])}, "
        f"in about {clock(facts['seconds'])} with {facts['workers']} workers"
    )
    return "\n".join(lines)


def verify_text(facts: dict[str, Any]) -> str:
    """What is wrong with a set, or that nothing is."""
    if not facts["wrong"]:
        return f"{facts['set']}: {facts['videos']} videos in {facts['shards']} shards are as written ({facts['depth']})"
    lines = [
        f"{item['file']}" + (f"  {item['key']}" if item["key"] else "") + f"  {item['what']}" for item in facts["wrong"]
    ]
    damaged = sorted({item["file"] for item in facts["wrong"] if item["file"].endswith(".tar")})
    if damaged:
        lines.append(f"remove {', '.join(damaged[:3])}{', ...' if len(damaged) > 3 else ''} and run vprep shard again:")
        lines.append("only missing shards are made anew")
    return "\n".join(lines)


def index_text(facts: dict[str, Any]) -> str:
    """What an index was made of."""
    lines = [f"{facts['videos']} videos in {len(facts['shards'])} shards, {facts['frames']} frames"]
    if facts["skipped"]:
        lines.append(
            f"{sum(facts['skipped'].values())} samples hold no JPEG frames and are not in the index: "
            + _counts(facts["skipped"])
        )
    return "\n".join(lines)


def size(count: float) -> str:
    """Bytes as people say them."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} TB"


def clock(seconds: float) -> str:
    """A length of time as people say it."""
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"


def _counts(counts: dict[str, int]) -> str:
    shown = [f"{count} {name}" for name, count in list(counts.items())[:MOST]]
    return ", ".join(shown) + (", ..." if len(counts) > MOST else "")
