"""Pictures of networks and of what happened."""

from cnnspec.report.curves import draw_comparison, draw_curves

__all__ = ["draw_comparison", "draw_curves"]
