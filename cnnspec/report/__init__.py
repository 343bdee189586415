"""Pictures of what happened."""

from cnnspec.report.curves import draw_curves

__all__ = ["draw_curves"]
