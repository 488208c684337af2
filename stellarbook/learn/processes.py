"""Where a training runs, and where its random numbers come from.

Under `torchrun` there are several processes, each with a GPU of its own (or on CPUs, for tests).
"""

import atexit
import os
import re

import numpy as np
import torch
import torch.distributed as dist


def pick_device(name="auto"):
    """Turn "auto" (CUDA where there is one, else the CPU), "cpu" or "cuda[:i]" into a device.

    Under `torchrun`, "auto" and "cuda" mean this process's own GPU.

    Raises
    ------
    ValueError
        If the name is unknown or this machine has no such GPU.
    """
    name = str(name)
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise ValueError(f'device {name!r} is unknown: use "auto", "cpu", "cuda" or "cuda:0"')
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    device = torch.device("cuda" if name == "auto" else name)
    index = device.index if device.index is not None else int(os.environ.get("LOCAL_RANK", 0))
    if index >= torch.cuda.device_count():
        raise ValueError(f"device {name!r}: this machine has {torch.cuda.device_count()} GPUs")
    return torch.device("cuda", index)


def bf16_is_fast(device):
    """Whether bfloat16 matrix products beat 32-bit ones: on GPUs, and on CPUs made for them."""
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return kind == "cpu" and getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()


def join(device):
    """Meet the other processes; once a program, which may then fit several models."""
    if not dist.is_initialized():
        if device.type == "cuda":
            torch.cuda.set_device(device)
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        atexit.register(dist.destroy_process_group)


def stream(*parts):
    """Seed of one of many random streams: (seed, 0, epoch) and (seed, 1, rank) are unrelated."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


def generator_states(generator, device, world):
    """States of all random generators, one dict a process."""
    mine = {"step": generator.get_state(), "cpu": torch.get_rng_state()}
    if device.type == "cuda":
        mine["cuda"] = torch.cuda.get_rng_state(device)
    if world == 1:
        return [mine]
    everyone = [None] * world
    dist.all_gather_object(everyone, mine)
    return everyone


def set_generator_states(state, generator, device):
    """Undo time: give this process the states that `generator_states` kept for it."""
    generator.set_state(state["step"])
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)
