"""Make the page of a report: one file with tables, a gallery, a map, classes, curves and sources.

Videos by key; the page holds at most MOST films, and says what it leaves out.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from veval.evaluation import nothing
from veval.features import feature_file
from veval.features.feature_file import FeatureTables
from veval.page import classes, curves, feature_map, films, gallery, maps, provenance, tables
from veval.page.choice import choose, videos_of
from veval.page.feature_map import FeatureMap
from veval.page.films import Films
from veval.page.gallery import Gallery
from veval.page.named import Named, named
from veval.page.request import Method, Request
from veval.results import report
from veval.results.class_names import CLASS_NAMES, name_of
from veval.results.named_shards import open_named
from veval.results.neighbours import Query, read_neighbours
from veval.results.report import Report
from veval.results.result import Result
from vprep.errors import UsageError, WorkError
from vprep.page.document import Page, Section, package_text, save
from vprep.page.html import Child, el
from vprep.page.parts import FILMS
from vprep.page.pictures import spaced
from vprep.text import one_line
from vtrain.data.shard_set import ShardSet

HERE = "veval.page"
SCRIPTS = ("gallery.js", "map.js")
MOST_GALLERIES = 4
OF_MAP = 100  # films that the gallery leaves to the map

Progress = Callable[[int, int], None]
Galleries = list[tuple[Named, dict[str, Query]]]


def write(request: Request, results: Sequence[Result], out: Path, progress: Progress = nothing) -> int:
    """Write the page of the results that `request.read_results` returned to `out`, and return its bytes."""
    looked = maps.read_maps(request.maps)
    found = report.of_results(results, request.folds, request.over)
    entries = named(results)
    galleries, notes = _galleries(entries)
    features = None if request.features is None else feature_file.read(request.features)
    chosen = _chosen(galleries, features is not None)
    ordered = _shown_first(galleries, results)
    drawn = None if features is None else _map(features, ordered, galleries, chosen, request.method)
    pictures = _films(request.shards, ordered, _wanted(galleries, chosen, drawn), progress)
    sections = [
        tables.section(found),
        gallery.section(Gallery(results=galleries, chosen=chosen, films=pictures, notes=notes)),
        feature_map.section(drawn) if drawn else feature_map.absent(),
        maps.section(looked),
        classes.section(entries),
        curves.section(request.runs, results),
        provenance.section(found),
    ]
    return save(_page(found, entries, [part for part in sections if part], pictures, drawn), out)


def _page(
    found: Report, entries: Sequence[Named], sections: Sequence[Section], pictures: Films, drawn: FeatureMap | None
) -> Page:
    data: dict[str, Callable[[], object]] = {FILMS: lambda: pictures.base64}
    if drawn is not None:
        data[feature_map.DATA] = partial(feature_map.data, drawn, pictures)
    about = ", ".join(dict.fromkeys(one_line(entry.data) for entry in entries))
    return Page(
        title=f"Video representations: {about}",
        lead=_lead(found, entries),
        sections=sections,
        styles=(package_text(HERE, "report.css"),),
        scripts=tuple(package_text(HERE, name) for name in SCRIPTS),
        data=data,
        has_films=bool(pictures.base64),
    )


def _lead(found: Report, entries: Sequence[Named]) -> Child:
    methods = ", ".join(dict.fromkeys(run.method for run in found.runs if not run.is_scratch))
    made = sorted(str(entry.result["made"])[:10] for entry in entries if entry.result.get("made"))
    days = "" if not made else f", measured {made[0]}" if made[0] == made[-1] else f", measured {made[0]} to {made[-1]}"
    count = "1 result" if len(entries) == 1 else f"{len(entries)} results"
    return el("p", one_line(f"{count}{f' of {methods}' if methods else ''}{days}."))


def _galleries(entries: Sequence[Named]) -> tuple[Galleries, list[str]]:
    """Return the queries of the results of retrieval on the same videos as the first, and what is left out."""
    found: Galleries = []
    notes = []
    for entry in entries:
        if entry.kind != "retrieval":
            continue
        try:
            queries = {query.key: query for query in read_neighbours(entry.result).queries if query.clip == 0}
        except UsageError as error:
            notes.append(f"{entry.name}: {error}.")
            continue
        if len(found) == MOST_GALLERIES:
            notes.append(f"{entry.name} is left out: {MOST_GALLERIES} networks are shown.")
        elif found and not queries.keys() & found[0][1].keys():
            notes.append(f"{entry.name} is left out: its queries are other videos.")
        else:
            found.append((entry, queries))
    return found, notes


def _chosen(galleries: Galleries, has_map: bool) -> list[str]:
    most = films.MOST - (OF_MAP if has_map else 0)
    return choose([queries for _, queries in galleries], most) if galleries else []


def _gallery_keys(galleries: Galleries, chosen: Sequence[str]) -> list[str]:
    sides = [queries for _, queries in galleries]
    return list(dict.fromkeys(video for key in chosen for video in videos_of(key, sides)))


def _map(
    features: FeatureTables, results: Sequence[Result], galleries: Galleries, chosen: Sequence[str], method: Method
) -> FeatureMap:
    names = partial(name_of, _of_the_same_data(features, results))
    return feature_map.make(features, names, _gallery_keys(galleries, chosen), method)


def _of_the_same_data(features: FeatureTables, results: Sequence[Result]) -> Result:
    """Return a result on the set that the features are of, which knows the names of its classes; else an empty one."""
    data = features.info.get("data")
    if not isinstance(data, dict) or not data.get("hash"):
        return results[0]
    return next((result for result in results if _is_set_of(result, data)), {})


def _is_set_of(result: Result, data: Mapping[str, Any]) -> bool:
    """Return whether a result names the classes of the set that `data` describes."""
    same = (data.get(name) and data[name] == result["data"].get(name) for name in ("hash", "fingerprints"))
    return bool(result.get(CLASS_NAMES)) and any(same)


def _wanted(galleries: Galleries, chosen: Sequence[str], drawn: FeatureMap | None) -> list[str]:
    """Return the videos that need films: those of the gallery, and then some of the map at even distances."""
    keys = _gallery_keys(galleries, chosen)
    if drawn is not None:
        known = set(keys)
        others = [key for key in drawn.keys if key not in known]
        keys += [others[place] for place in spaced(len(others), films.MOST - len(keys))]
    return keys


def _shown_first(galleries: Galleries, results: Sequence[Result]) -> list[Result]:
    """Return the results, those of the gallery first: results of other videos may name other shards."""
    shown = [entry.result for entry, _ in galleries]
    return [*shown, *(result for result in results if not any(result is one for one in shown))]


def _films(shards: str | None, results: Sequence[Result], keys: Sequence[str], progress: Progress) -> Films:
    if not keys:
        return Films()
    if shards is not None:
        return films.make(ShardSet.open(shards).select(), keys, progress)
    reasons = []
    for result in results:
        try:
            return films.make(open_named(result).select(), keys, progress)
        except (UsageError, WorkError) as error:
            reasons.append(str(error))
    return films.without(reasons[0])
