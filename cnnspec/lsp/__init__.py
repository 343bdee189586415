"""The language server: what editors show of a spec while it is written, thin over `spec`, `graph` and `lints`."""
