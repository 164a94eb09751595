"""Choose the queries that the page shows: as many as their films allow, from all classes, from the worst to the best.

Each further query comes from the class that has had the fewest turns; within a class, the worst, the best, and then
those half-way between come first. So any number of queries shows the whole range.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest

from veval.results.neighbours import Query, lateness

SHOWN = 5  # neighbours of a query on the page
MOST_QUERIES = 300


def choose(results: Sequence[Mapping[str, Query]], most_videos: int, most_queries: int = MOST_QUERIES) -> list[str]:
    """Return keys of queries of the first result; they and their neighbours are at most `most_videos`."""
    chosen: list[str] = []
    videos: set[str] = set()
    for query in _in_turns(list(results[0].values())):
        needed = videos | set(videos_of(query.key, results))
        if len(needed) > most_videos or len(chosen) == most_queries:
            break
        chosen.append(query.key)
        videos = needed
    return chosen


def videos_of(key: str, results: Sequence[Mapping[str, Query]]) -> Iterator[str]:
    """Yield the query `key` and its neighbours in each result that has it."""
    yield key
    for queries in results:
        if key in queries:
            yield from (neighbour.key for neighbour in queries[key].neighbours[:SHOWN])


def _in_turns(queries: Sequence[Query]) -> Iterator[Query]:
    classes: defaultdict[str, list[Query]] = defaultdict(list)
    for query in sorted(queries, key=lambda query: (lateness(query), query.key)):
        classes[query.label].append(query)
    turns = zip_longest(*(_ends_first(members) for members in classes.values()))
    return (query for turn in turns for query in turn if query is not None)


def _ends_first(queries: Sequence[Query]) -> Iterator[Query]:
    """Yield the first and the last, then those half-way between, and so on."""
    last, parts = len(queries) - 1, 1
    seen: set[int] = set()
    while len(seen) < len(queries):
        for place in (round(last * number / parts) for number in range(parts + 1)):
            if place not in seen:
                seen.add(place)
                yield queries[place]
        parts *= 2
