"""Engines make the shards of a plan that are not there yet: on this machine, or on the nodes of a Ray cluster."""

from collections.abc import Callable

from vprep.sharding.job import Job
from vprep.sharding.plan import Plan
from vprep.sharding.progress import VideoProgress

Engine = Callable[[Job, Plan, set[str], VideoProgress], None]
"""Makes the named shards of a plan, and counts their videos."""
