"""Publishing: run, stamp, figures, claims, checks."""
