"""The order of the work, and its division: shards, rows, the dependency graph of tasks, its binding to workers."""
