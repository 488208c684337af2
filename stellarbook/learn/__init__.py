"""Training and judging: what every system shares once it has tensors."""
