"""Who computes what, and in which order: shards, rows, the dependency graph of tasks, and its binding to workers."""
