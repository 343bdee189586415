"""The language server: it shows editors what `spec`, `graph` and `lints` know of a spec while it is written."""
