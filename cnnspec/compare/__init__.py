"""The same network in other frameworks: what it computes there, and how fast it is."""
