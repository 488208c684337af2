"""Files that survive: checkpoints to continue a training, weights to publish.

Every file is written beside its final name, flushed to the disk and then renamed, so that a
crash or a full disk leaves either the earlier file or the new one, never half of one.
Nothing here ever unpickles foreign code. Shown in chapter 01.
"""

import hashlib
import io
import json
import os
import zipfile
from pathlib import Path

import safetensors
import torch
from safetensors.torch import save as to_safetensors


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be used; the message names the file and says why."""


def write_atomic(path, data):
    """Write bytes so that `path` holds either all of them or what it held before.

    Raises
    ------
    OSError
        If the disk is full or the folder cannot be written; an earlier file is untouched.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # A fixed name: what a killed run left behind is overwritten by the next one.
    temporary = path.with_name(path.name + ".tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        earlier = "the earlier file is intact" if path.exists() else "nothing was saved"
        reason = f"cannot save: {error.strerror or error} ({earlier})"
        raise OSError(error.errno, reason, str(path)) from error


def fingerprint(*arrays):
    """SHA-256 of the bytes of arrays and tensors: a training knows its own data by it."""
    digest = hashlib.sha256()
    for x in arrays:
        x = x.detach().cpu().numpy() if isinstance(x, torch.Tensor) else x
        digest.update(x.tobytes())
    return digest.hexdigest()


def save_checkpoint(path, state, configuration):
    """Save tensors and plain values (dicts, lists, numbers, strings) of a running training.

    Parameters
    ----------
    path : path
    state : dict
        Whatever is needed to continue.
    configuration : dict
        What makes this training the one it is; `load_checkpoint` compares it.

    Raises
    ------
    OSError
        As `write_atomic`.
    """
    buffer = io.BytesIO()
    torch.save({"configuration": json.dumps(configuration, default=_plain), "state": state}, buffer)
    write_atomic(path, buffer.getbuffer())


def load_checkpoint(path, configuration, anywhere=()):
    """Load what `save_checkpoint` wrote, if it belongs to the same training.

    Parameters
    ----------
    path : path
    configuration : dict
        Must equal the one saved.
    anywhere : sequence of str
        What may differ where the state says that the training is `finished`.

    Returns
    -------
    dict
        The state, on the CPU.

    Raises
    ------
    CheckpointError
        If the file is damaged, holds anything but tensors and plain values, or comes from a
        training with another configuration; the message names what differs.
    """
    try:
        with zipfile.ZipFile(path) as archive:  # torch.load itself does not look at checksums
            if (damaged := archive.testzip()) is not None:
                raise ValueError(f"checksum of {damaged} is wrong")
        saved = torch.load(path, map_location="cpu", weights_only=True)
        theirs, state = json.loads(saved["configuration"]), saved["state"]
    except (OSError, MemoryError):  # not the file's fault
        raise
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path} is damaged or not a checkpoint of stellarbook ({reason}); "
            "delete it to start afresh"
        ) from error
    configuration = json.loads(json.dumps(configuration, default=_plain))
    free = anywhere if state.get("finished") else ()
    differences = [
        f"{key}: {theirs.get(key, 'absent')} there, {configuration.get(key, 'absent')} here"
        for key in {**configuration, **theirs}
        if key not in free and theirs.get(key) != configuration.get(key)
    ]
    if differences:
        raise CheckpointError(
            f"{path} is of another training ({'; '.join(differences[:8])}"
            f"{'; …' if len(differences) > 8 else ''}); delete it or give another path"
        )
    return state


def _plain(value):
    return value.item() if hasattr(value, "item") else str(value)  # numpy's numbers; paths


def save_weights(path, weights, metadata=None, *, half=False):
    """Publish weights as safetensors, with their metadata in the header.

    Parameters
    ----------
    path : path
    weights : torch.nn.Module or dict of str to tensor
    metadata : dict, optional
        Anything JSON can hold (data hashes, steps, seed, score).
    half : bool
        Store floats in 16 bits: half the size, three significant digits.

    Raises
    ------
    OSError
        As `write_atomic`.
    OverflowError
        If `half` would turn a finite weight into infinity (above 65,504).
    """
    if isinstance(weights, torch.nn.Module):
        weights = weights.state_dict()
    tensors = {}
    for name, tensor in weights.items():
        # Clones: safetensors refuses tensors that share memory (tied weights).
        tensor = tensor.detach().cpu().contiguous().clone()
        if half and tensor.is_floating_point():
            short = tensor.half()
            if not torch.equal(short.isfinite(), tensor.isfinite()):
                raise OverflowError(f"{name} does not fit into 16 bits: save with half=False")
            tensor = short
        tensors[name] = tensor
    write_atomic(path, to_safetensors(tensors, {"stellarbook": json.dumps(metadata or {})}))


def load_weights(path):
    """Load what `save_weights` wrote.

    Returns
    -------
    weights : dict of str to tensor
        16-bit floats come back as 32-bit ones, for computing.
    metadata : dict

    Raises
    ------
    CheckpointError
        If the file is damaged or not ours.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = json.loads(file.metadata()["stellarbook"])
            weights = {name: file.get_tensor(name) for name in file.keys()}
    except FileNotFoundError:
        raise
    except Exception as error:
        raise CheckpointError(
            f"{path} is damaged or not weights of stellarbook ({error})"
        ) from error
    return {k: v.float() if v.dtype == torch.float16 else v for k, v in weights.items()}, metadata
