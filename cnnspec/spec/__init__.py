"""From a YAML file to a typed Spec in which everything knows its place."""
