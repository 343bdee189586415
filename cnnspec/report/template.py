"""Fills in the pages' templates; ImportError where Jinja2, an extra, is missing."""

from __future__ import annotations

from typing import Any


def rendered(template: str, **values: Any) -> str:
    """Return a template filled with values, each of them escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("cnnspec.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)
