"""Sweeps: many trainings of one spec with different values, the journal of their outcomes, and the table of results."""
