"""Pictures of networks, and reports on trainings."""

from cnnspec.report.curves import draw_comparison, draw_curves
from cnnspec.report.events import Events

__all__ = ["Events", "draw_comparison", "draw_curves"]
