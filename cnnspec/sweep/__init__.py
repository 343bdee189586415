"""Many trainings of one spec: which values they have, what is kept of each, and what comes of all of them."""
