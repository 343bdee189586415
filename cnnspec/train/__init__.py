"""The loop, metrics, checkpoints and the run directory."""
