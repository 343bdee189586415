"""Optimizers, learning-rate schedules, losses and initializers, each a registered class."""
