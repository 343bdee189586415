"""A plugin that no test runs: plugin-untrusted.yaml names it."""

raise AssertionError("a spec that is only read ran a plugin")
