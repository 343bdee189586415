"""The same network in other frameworks, to compare outputs and speed."""
