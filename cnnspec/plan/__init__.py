"""From a graph to steps over preallocated arrays."""
