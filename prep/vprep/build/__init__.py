"""A whole set: the plan of it, and its shards."""
