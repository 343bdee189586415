"""Layers that do the work of two, one file each, with the pass that puts them in; specs do not name them."""
