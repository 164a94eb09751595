"""Object stores: S3, Google Cloud Storage, Azure and plain http, by the package obstore (extra `s3`)."""

from vprep.store.faults import AwayError, ChangedError, MissingError
from vprep.store.location import Location, is_url, place
from vprep.store.store import Head, Store

__all__ = [
    "AwayError", "ChangedError", "Head", "Location", "MissingError", "Store", "is_url", "place",
]  # fmt: skip
