"""The record of a training."""

import math
from dataclasses import dataclass, field

import pandas as pd
import torch
import torch.distributed as dist


@dataclass
class History:
    """What happened in a training.

    Attributes
    ----------
    rows : list of dict
        One every few steps: `step`, `loss` (mean since the row before), `grad_norm` (before
        clipping, likewise), `lr`, whatever else the step returned, and `validation`.
    best_step : int or None
        The step with the lowest validation; None without one.
    best : float
        Its value; infinite without one.
    stopped : bool
        Whether patience ended the training early.
    seconds : float
        Wall time of the training, over all its runs.

    Notes
    -----
    Shown in chapter 01.
    """

    rows: list = field(default_factory=list)
    best_step: int | None = None
    best: float = math.inf
    stopped: bool = False
    seconds: float = 0.0

    def to_frame(self):
        """Return the rows as a table; NaN where a column was not measured."""
        return pd.DataFrame(self.rows)

    def then(self, later):
        """This record and that of a training that went on from its model: steps count on.

        The best is the later one's: its model is the one that is left.
        """
        end = self.rows[-1]["step"]
        rows = [*self.rows, *({**row, "step": end + row["step"]} for row in later.rows)]
        best_step = None if later.best_step is None else end + later.best_step
        return History(rows, best_step, later.best, later.stopped, self.seconds + later.seconds)

    def tries(self):
        """Count the validations since the best one."""
        best = self.best_step or 0
        return sum("validation" in row and row["step"] > best for row in self.rows)


def summarise(window, now, world):
    """Means of what the steps up to `now` returned; refuses to go on with what is not finite.

    Parameters
    ----------
    window : list of dict of scalar tensors
        One a step, with "loss" and "grad_norm"; other terms may come and go.
    now : int
        The last of these steps.
    world : int
        Processes; the loss is averaged over them, other terms are this process's own.

    Raises
    ------
    FloatingPointError
        Naming the first step whose loss or gradient is not finite.
    """
    loss = torch.stack([w["loss"] for w in window]).float()
    if world > 1:  # so that all processes stop together
        dist.all_reduce(loss)
        loss /= world
    norm = torch.stack([w["grad_norm"] for w in window]).float()
    for name, values in {"loss": loss, "gradient's norm": norm}.items():
        values = values.tolist()
        for step, value in enumerate(values, start=now - len(window) + 1):
            if not math.isfinite(value):
                raise FloatingPointError(f"the {name} is {value} at step {step}: training stopped")
    row = {"step": now, "loss": float(loss.mean()), "grad_norm": float(norm.mean())}
    for name in {k: None for w in window for k in w if k not in row}:
        row[name] = float(torch.stack([w[name] for w in window if name in w]).float().mean())
    return row
