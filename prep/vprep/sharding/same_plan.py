"""Refuse to continue a set by a command that would have planned another one."""

from vprep.errors import UsageError
from vprep.layouts.listing import Entry, Listing
from vprep.settings import Settings
from vprep.sharding.destination import Destination
from vprep.sharding.plan import planned_videos


def refuse_settings(out: str, old: Settings, new: Settings) -> None:
    """Refuse settings that differ from the plan's."""
    before, now = old.as_dict(), new.as_dict()
    for name, value in before.items():
        if now[name] == value:
            continue
        what = name.replace("_", "-")
        if name == "ffmpeg":
            raise UsageError(
                f"{out} was made with ffmpeg {value}, and this is ffmpeg {now[name]}; name the same one in "
                f"VPREP_FFMPEG, or choose another --out"
            )
        made, here = ("none" if each is None else each for each in (value, now[name]))
        raise UsageError(f"{out} was made with {what} {made}, and this command has {here}; choose another --out")


def refuse_listing(out: Destination, listing: Listing) -> None:
    """Refuse lists that differ from the plan's. Videos that have disappeared since fail when their turn comes."""
    listed = {_identity(entry): entry for entry in listing.entries}
    for _, videos in planned_videos(out.folder):
        for old in (video.entry for video in videos):
            entry = listed.pop(_identity(old), old)
            if (entry.label, entry.class_name, entry.splits) != (old.label, old.class_name, old.splits):
                raise UsageError(
                    f"the label or split of '{entry.source}' is not the one in {out}; choose another --out, "
                    f"or name the lists that the set was made with"
                )
    for entry in listed.values():
        raise UsageError(
            f"the source has {len(listed)} videos that the plan in {out} lacks ('{entry.source}'); "
            f"choose another --out for them"
        )


def _identity(entry: Entry) -> tuple[str, float | None, float | None]:
    return entry.source, entry.start, entry.end
