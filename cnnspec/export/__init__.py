"""Exports a trained model for use by other programs."""
