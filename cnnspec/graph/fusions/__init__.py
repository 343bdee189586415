"""Layers that do the work of two, one file each, with the pass that inserts them; specs do not name them."""
