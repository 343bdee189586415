"""Converts files of other programs to specs with weights: a reader and translator a format, one writer of YAML."""
