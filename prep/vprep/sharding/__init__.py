"""A set of videos: from the plan of its shards to the finished set."""
