"""Make the page of a report: one file with tables, a gallery, a map, classes, curves and sources.

Videos by key; the page holds at most MOST films, and says what it leaves out.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from veval.evaluation import nothing
from veval.features import feature_file
from veval.features.feature_file import FeatureTables
from veval.page import classes, curves, feature_map, films, gallery, provenance, tables
from veval.page.choice import choose, videos_of
from veval.page.feature_map import FeatureMap
from veval.page.films import Films
from veval.page.gallery import Gallery
from veval.page.named import Named, named
from veval.page.request import Method, Request
from veval.results import report
from veval.results.class_names import name_of
from veval.results.neighbours import Query, read_neighbours
from veval.results.report import Report
from veval.results.result import Result
from vprep.errors import UsageError, WorkError
from vprep.page.document import Page, Section, package_text, save
from vprep.page.html import Child, el
from vprep.page.parts import FILMS
from vprep.page.pictures import spaced
from vprep.text import one_line
from vtrain.data.dataset import Videos
from vtrain.data.shard_set import ShardSet
from vtrain.data.shard_spec import is_in_store

HERE = "veval.page"
SCRIPTS = ("gallery.js", "map.js")
MOST_GALLERIES = 4
OF_MAP = 100  # films that the gallery leaves to the map

Progress = Callable[[int, int], None]
Galleries = list[tuple[Named, dict[str, Query]]]


def write(request: Request, results: Sequence[Result], out: Path, progress: Progress = nothing) -> int:
    """Write the page of the results that `request.read_results` returned to `out`, and return its bytes."""
    found = report.of_results(results, request.folds, request.over)
    entries = named(results)
    galleries, notes = _galleries(entries)
    features = None if request.features is None else feature_file.read(request.features)
    chosen = _chosen(galleries, features is not None)
    drawn = None if features is None else _map(features, results, galleries, chosen, request.method)
    pictures = _films(request.shards, results, _wanted(galleries, chosen, drawn), progress)
    sections = [
        tables.section(found),
        gallery.section(Gallery(results=galleries, chosen=chosen, films=pictures, notes=notes)),
        feature_map.section(drawn) if drawn else feature_map.absent(),
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
    source = galleries[0][0].result if galleries else results[0]
    return feature_map.make(features, partial(name_of, source), _gallery_keys(galleries, chosen), method)


def _wanted(galleries: Galleries, chosen: Sequence[str], drawn: FeatureMap | None) -> list[str]:
    """Return the videos that need films: those of the gallery, and then some of the map at even distances."""
    keys = _gallery_keys(galleries, chosen)
    if drawn is not None:
        known = set(keys)
        others = [key for key in drawn.keys if key not in known]
        keys += [others[place] for place in spaced(len(others), films.MOST - len(keys))]
    return keys


def _films(shards: str | None, results: Sequence[Result], keys: Sequence[str], progress: Progress) -> Films:
    if not keys:
        return Films()
    if shards is not None:
        return films.make(ShardSet.open(shards).select(), keys, progress)
    reasons = []
    for spec in _specs(results):
        videos = _videos_or_reason(spec)
        if not isinstance(videos, str):
            return films.make(videos, keys, progress)
        reasons.append(videos)
    return films.without(reasons[0] if reasons else "the results name no shards; add --shards SPEC")


def _specs(results: Sequence[Result]) -> Iterator[str]:
    """Yield the shards that results name, each once."""
    names = (result["data"].get("shards") for result in results)
    yield from dict.fromkeys(name for name in names if isinstance(name, str) and name)


def _videos_or_reason(spec: str) -> Videos | str:
    """Return the videos of shards that a result names. A result may be a stranger's, so it opens no network."""
    if is_in_store(spec):
        return "the shards that the results name are in a store; add --shards SPEC"
    try:
        return ShardSet.open(spec).select()
    except (UsageError, WorkError) as error:
        return f"the shards that the results name cannot be opened ({error}); add --shards SPEC"
