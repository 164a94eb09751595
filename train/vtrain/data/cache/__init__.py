"""A bounded cache on the local disk for shards in an object store, shared by all processes of a machine."""
