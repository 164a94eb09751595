"""A follower sends the metrics of a run to a service for experiments; it only reads the run."""
