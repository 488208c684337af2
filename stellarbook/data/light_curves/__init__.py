"""Light curves of simulated stars, as Kepler would have measured them: `simulate`."""

from stellarbook.data.light_curves.simulation import PARTS, LightCurves, simulate

__all__ = ["PARTS", "LightCurves", "simulate"]
