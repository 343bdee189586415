"""`--tta`: test-time augmentation for `eval` and `predict`."""

from __future__ import annotations

import argparse
import re

from cnnspec.api import Model
from cnnspec.data.views import Views

FORM = re.compile(r"(flip)?,?(?:shifts=([1-9][0-9]{0,2}))?")


def add_views(parser: argparse.ArgumentParser) -> None:
    """Declare test-time augmentation."""
    parser.add_argument(
        "--tta", type=_views, metavar="VIEWS", help="flip, shifts=N, both with a comma, or none: instead of data.tta"
    )


def views_of(model: Model, arguments: argparse.Namespace) -> Views | None:
    """Return the views from the command line, or else from the spec; None if there is only the image itself."""
    views: Views | None = arguments.tta
    if views is None and model.spec.data is not None:
        views = model.spec.data.tta
    return None if views is None or views.count == 1 else views


def _views(text: str) -> Views:
    match = FORM.fullmatch(text)
    if text == "none":
        return Views()
    if match is None or not any(match.groups()):
        raise argparse.ArgumentTypeError(f"expected flip, shifts=N, flip,shifts=N or none, got '{text}'")
    return Views(flip=bool(match[1]), shifts=int(match[2] or 0))
