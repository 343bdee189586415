"""Layer types, one file a family."""
