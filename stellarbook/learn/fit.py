"""One training loop for every system in the book.

A system brings a model and a *step*: a function that draws what it needs for a batch and returns
the loss. Everything else (order of the stars, schedule, clipping, averaging of weights,
checkpoints, several GPUs) is here, once, and reads from top to bottom in `fit`.

::

    def step(model, index, generator):
        return (model(x[index]) - y[index]).abs().mean()

    history = fit(model, step, len(x), steps=2000, batch_size=256, checkpoint="mlp.pt")

Several GPUs: run the same script under `torchrun --nproc-per-node=4 script.py`.
Shown in chapter 01.
"""

import copy
import os
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm  # never tqdm.auto: its widgets would put JavaScript into the pages

from stellarbook.learn.checkpoint import load_checkpoint, save_checkpoint
from stellarbook.learn.history import History, summarise
from stellarbook.learn.optim import adamw, cosine
from stellarbook.learn.processes import (
    generator_states,
    join,
    pick_device,
    set_generator_states,
    stream,
)


def epoch_order(n, seed, epoch):
    """Order of n stars in an epoch, as (n,) indices: from (seed, epoch) alone, so stateless."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(stream(seed, 0, epoch)))


def fit(
    model,
    step,
    n,
    *,
    steps,
    batch_size,
    lr=1e-3,
    weight_decay=0.01,
    optimizer=adamw,
    schedule=None,
    clip=1.0,
    ema=None,
    validate=None,
    validate_every=None,
    patience=None,
    checkpoint=None,
    checkpoint_every=1000,
    seed=0,
    device="auto",
    bf16=True,
    progress=True,
    configuration=None,
):
    """Train a model in place; a run with the same checkpoint continues where it was.

    Parameters
    ----------
    model : torch.nn.Module
        Moved to the device. Weights that do not require gradients stay as they are.
    step : callable
        `(model, index, generator) -> loss`, a scalar, or a dict with "loss" and other scalars to
        record. `index` (batch,) are positions of stars, on the device; `generator` is on the
        device too, for the step's own draws (masks, noise). **The loss is a mean over the batch's
        stars**, so that the mean of the gradients over processes is the gradient of one process;
        with missing labels divide a star's sum by the number of labels, not of those present.
    n : int
        Stars to draw from, without replacement within an epoch; the n % batch_size that do not
        fill a batch wait for the next. For stars simulated on the fly, n = batch_size.
    steps, batch_size : int
        Optimiser steps and stars a step, over all processes together.
    lr, weight_decay : float
        Given to `optimizer`.
    optimizer : callable
        `(model, lr, weight_decay) -> Optimizer`, or a list of them (Muon beside AdamW).
    schedule : callable
        `(step, steps) -> factor` on the learning rate: `cosine(…)` (default), `warm_restarts(…)`.
    clip : float
        Largest norm of the gradient; `math.inf` for none.
    ema : float, optional
        Decay of an exponential moving average of the weights, which is then what is validated
        and kept.
    validate : callable, optional
        `(model) -> float`, lower is better: called in eval mode, without gradients, always with
        the same random numbers. The best weights are kept.
    validate_every : int, optional
        Steps between validations; a twentieth of the training by default.
    patience : int, optional
        Stop after this many validations without a better one.
    checkpoint : path, optional
        Written every `checkpoint_every` steps and at the end; if it exists, the training goes on
        from there, on a CPU with bitwise the result of an uninterrupted one.
    seed : int
        Of the stars' order, dropout and `generator`. The caller seeds the initial weights.
    device : str
        See `pick_device`.
    bf16 : bool
        Run the step in bfloat16 autocast, on a GPU only.
    progress : bool or str
        Show a bar (on stderr), under this name.
    configuration : dict, optional
        Plain values that make this training what it is and that the loop cannot see (mask rate,
        data hash): a checkpoint with others is refused.

    Returns
    -------
    History
        And `model` holds, in eval mode, the best validated weights, or else the last (averaged)
        ones.

    Raises
    ------
    ValueError
        For arguments that cannot work, and for a loss that is no scalar.
    FloatingPointError
        If the loss or the gradient is not finite, naming the step, or the validation is NaN.
        An earlier checkpoint stays good.
    CheckpointError
        If the checkpoint is damaged or of another training.
    OSError
        If it cannot be written; the earlier one stays.

    Notes
    -----
    Under `torchrun` each process takes its share of every batch, gradients are averaged
    (DistributedDataParallel), and the first process validates, saves and shows the bar. A
    contrastive loss sees its own share only, unless the step gathers.
    Shown in chapter 01.
    """
    n, steps, batch_size, lr = int(n), int(steps), int(batch_size), float(lr)
    schedule = schedule or cosine()
    validate_every = max(1, steps // 20) if validate_every is None else validate_every
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    intervals = {"validate_every": validate_every, "checkpoint_every": checkpoint_every}
    _check(n, batch_size, world, steps=steps, **intervals)
    if patience is not None and validate is None:
        raise ValueError("patience needs validate")
    device = pick_device(device)
    cuda = [device] if device.type == "cuda" else []
    if world > 1:
        join(device)

    model.to(device).train()
    optimizers = optimizer(model, lr, weight_decay)
    optimizers = list(optimizers) if isinstance(optimizers, list | tuple) else [optimizers]
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(o, lambda s: float(schedule(s, steps)))
        for o in optimizers
    ]
    # Buffers are copied, not averaged: averaging would round the integers among them.
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(ema)) if ema else None
    kept = average.module if average else model
    loss_of = _Step(model, step, bf16 and device.type == "cuda")
    if world > 1:
        # A step may leave weights unused (a label hidden in this batch), hence the search.
        loss_of = torch.nn.parallel.DistributedDataParallel(
            loss_of, device_ids=cuda or None, find_unused_parameters=True
        )
    parts = {"model": model} | ({"average": average} if average else {})
    parts |= {f"optimizer {i}": o for i, o in enumerate(optimizers)}
    parts |= {f"schedule {i}": s for i, s in enumerate(schedules)}
    asked = {
        **{"n": n, "steps": steps, "batch_size": batch_size, "lr": lr, "seed": seed, "ema": ema},
        **{"weight_decay": weight_decay, "clip": clip, "patience": patience, "processes": world},
        "validate_every": validate_every if validate else None,
        "optimizer": [type(o).__name__ for o in optimizers],
        "schedule": [round(float(schedule(steps * i // 7, steps)), 9) for i in range(8)],
        "device": device.type + (" bf16" if bf16 and cuda else ""),
        **{f"weight {k}": list(v.shape) for k, v in model.state_dict().items()},
        **{f"layer {k}": repr(m) for k, m in model.named_modules() if not list(m.children())},
        **(configuration or {}),
    }
    per_epoch = n // batch_size
    share = slice(rank * batch_size // world, (rank + 1) * batch_size // world)
    # Reading the loss makes the CPU wait for the GPU: do it seldom.
    log_every = min(50, max(1, steps // 200))
    generator = torch.Generator(device).manual_seed(stream(seed, 1, rank))
    history, best_weights, done, window = History(), None, 0, []

    with torch.random.fork_rng(cuda):  # the caller's random numbers stay as they were
        torch.manual_seed(stream(seed, 2, rank))
        if checkpoint and Path(checkpoint).exists():
            # A finished training, on a GPU say, is of use on any machine.
            state = load_checkpoint(checkpoint, asked, anywhere=("device", "processes", "autocast"))
            for name, part in parts.items():
                part.load_state_dict(state[name])
            history, done = History(**state["history"]), state["step"]
            best_weights = state["best_weights"]
            if not state["finished"]:
                set_generator_states(state["generators"][rank], generator, device)

        started = time.monotonic() - history.seconds
        title = progress if isinstance(progress, str) else None
        hidden = not progress or rank > 0
        bar = tqdm(total=steps, initial=done, desc=title, disable=hidden, dynamic_ncols=True)
        for now in range(done + 1, steps + 1):
            if history.stopped:
                break
            epoch, i = divmod(now - 1, per_epoch)
            if i == 0 or now == done + 1:
                order = epoch_order(n, seed, epoch).to(device)
            index = order[i * batch_size : (i + 1) * batch_size][share]

            terms = loss_of(index, generator)
            terms["loss"].backward()
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
            rate = optimizers[0].param_groups[0]["lr"]
            for o in optimizers:
                o.step()
                o.zero_grad()
            for s in schedules:
                s.step()
            if average:
                average.update_parameters(model)
            terms = {k: torch.as_tensor(v).detach() for k, v in terms.items()}
            window.append(terms | {"grad_norm": norm})
            bar.update()

            validating = validate and (now % validate_every == 0 or now == steps)
            saving = checkpoint and (now % checkpoint_every == 0 or now == steps)
            if now % log_every == 0 or validating or saving or now == steps:
                row = summarise(window, now, world) | {"lr": rate}
                history.rows.append(row)
                history.seconds = time.monotonic() - started
                window = []
                bar.set_postfix_str(f"loss {row['loss']:.4g} lr {rate:.2g}", refresh=False)
            if validating:
                row["validation"] = _validate(kept, validate, seed, device, rank, world)
                if row["validation"] < history.best:
                    history.best, history.best_step = row["validation"], now
                    best_weights = copy.deepcopy(kept.state_dict())
                history.stopped = patience is not None and history.tries() >= patience
                model.train()
            if saving or (checkpoint and history.stopped):
                state = {name: part.state_dict() for name, part in parts.items()}
                state |= {"step": now, "best_weights": best_weights, "history": vars(history)}
                state["finished"] = now == steps or history.stopped
                state["generators"] = generator_states(generator, device, world)
                if rank == 0:
                    save_checkpoint(checkpoint, state, asked)
        bar.close()

    if best_weights is not None:
        model.load_state_dict(best_weights)
    elif average:
        model.load_state_dict(average.module.state_dict())
    model.eval()
    return history


class _Step(torch.nn.Module):
    """The step as a module: what DistributedDataParallel can wrap, whatever the step calls."""

    def __init__(self, model, step, bf16):
        super().__init__()
        self.model, self.step, self.bf16 = model, step, bf16

    def forward(self, index, generator):
        with torch.autocast("cuda", torch.bfloat16, enabled=self.bf16):
            terms = self.step(self.model, index, generator)
        terms = terms if isinstance(terms, dict) else {"loss": terms}
        if terms["loss"].ndim or not terms["loss"].requires_grad:
            raise ValueError("the step's loss must be a scalar that depends on the model's weights")
        return terms


def _check(n, batch_size, world, **at_least_one):
    for name, value in {"batch_size": batch_size, **at_least_one}.items():
        if value < 1:
            raise ValueError(f"{name} is {value}: it must be at least 1")
    if batch_size > n:
        raise ValueError(f"batch_size {batch_size} is larger than the {n} stars there are")
    if batch_size % world:
        raise ValueError(f"batch_size {batch_size} does not divide into {world} processes")


def _validate(model, validate, seed, device, rank, world):
    model.eval()
    value = torch.zeros(1, dtype=torch.float64, device=device)
    with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.no_grad():
        torch.manual_seed(stream(seed, 3))
        if rank == 0:
            value += float(validate(model))
    if world > 1:
        dist.broadcast(value, 0)
    if value.isnan():
        raise FloatingPointError("validate returned NaN: training stopped")
    return float(value)
