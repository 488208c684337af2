"""The two public emulators behind `stellarbook.data.emulator`, read from their archives, distilled.

* **Cannon** (package ``thedoppler``): cubic polynomials in Teff, log g and [Fe/H] for each of
  150,001 pixels, 3000–18000 Å in steps of 0.1 Å (air): one model of cool stars, one of hot dwarfs.
  A second polynomial gives the logarithm of the continuum.
* **BOSS** (package ``bossbrain``): three neural networks of 22 labels, 3500–10500 Å in steps of
  0.5 Å (air), Teff 3500–6000 K, log g 0–3.5.

Both are linear in their last step, and so is a line spread: convolving the last layer once is
convolving every spectrum. The files are pickles: opened with a list of what they may construct.
"""

import io
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy._core import multiarray
from safetensors.torch import save_file
from scipy.sparse import csr_array
from torch._utils import _rebuild_parameter, _rebuild_tensor_v2

from stellarbook.data import archives
from stellarbook.data.observe import Instrument
from stellarbook.data.records import air_to_vacuum

NEEDS = ("thedoppler", "bossbrain")
CANNON = "doppler/data/cannongrid_3000_18000_{}_norm_cubic_model.pkl"
BOSS = "bossbrain/data/ann_22pars_{}.pkl"
NETS = ("3500-4200", "4000-5000", "4900-6000")  # K
ALPHAS = ("om", "mgm", "sim", "cam", "tim")  # what [α/Fe] moves together
ALPHA_RANGE = (-0.5, 0.5)  # the networks' own is ±0.6
CANNON_START, CANNON_STEP = 3000.0, 0.1  # Å, air
BOSS_START, BOSS_STEP, BOSS_PIXELS = 3500.0, 0.5, 14_001
BOSS_FWHM = 1.2  # Å: the finest line spread that 0.5 Å steps can show
DRAWS = 1500  # random stars whose spectra choose the principal directions


class Cannon(NamedTuple):
    """A polynomial model: ``theta @ design((labels - centre) / scale)``."""

    theta: np.ndarray  # (150001, 20) normalised flux
    continuum: np.ndarray  # (2000, 20) log10 of H_λ, the flux over 4π, erg s⁻¹ cm⁻² Å⁻¹
    continuum_wave: np.ndarray  # (2000,) Å, air
    centre: np.ndarray  # (3,)
    scale: np.ndarray  # (3,)
    powers: np.ndarray  # (20, 3) int: exponents of the scaled labels


class Net(NamedTuple):
    """A network of (Teff, log g, [M/H], [α/M]), all other abundances solar; three linear layers."""

    weights: list[np.ndarray]  # (300, 4), (300, 300), (14001, 300)
    biases: list[np.ndarray]

    def hidden(self, labels: np.ndarray) -> np.ndarray:
        """Return the second hidden layer (n, 300) of labels (n, 4)."""
        values = labels
        for weight, bias in zip(self.weights[:2], self.biases[:2], strict=True):
            values = values @ weight.T + bias
            values = np.where(values > 0, values, 0.01 * values)  # torch's LeakyReLU
        return values


def cannon(kind: str) -> Cannon:
    """Read the Cannon model of "coolstars" or "hotdwarfs"."""
    model = _unpickle(archives.read("thedoppler", CANNON.format(kind)))
    # Labels are scaled as The Cannon (version 0.2.93) does: by what its training set spans.
    low, centre, high = np.percentile(model["training_set_labels"], [2.5, 50, 97.5], axis=0)
    powers = np.zeros((20, 3), dtype=int)  # the first term is the constant
    for row, term in zip(powers[1:], model["vectorizer"][1]["terms"], strict=True):
        for label, power in term:
            row[label] += int(power)
    continuum = model["continuum"]
    return Cannon(
        model["theta"],
        continuum["theta"],
        continuum["dispersion"],
        centre.astype(float),
        (high - low).astype(float),
        powers,
    )


def net(kind: str) -> Net:
    """Read the BOSS network of "3500-4200", "4000-5000" or "4900-6000" K."""
    state = _unpickle(archives.read("bossbrain", BOSS.format(kind))).state
    layers = state["model"].state["_modules"]["features"].state["_modules"]
    layers = [layers[str(i)].state["_parameters"] for i in (0, 2, 4)]
    weights = [layer["weight"].detach().numpy().astype(float) for layer in layers]
    biases = [layer["bias"].detach().numpy().astype(float) for layer in layers]
    # Fold theborg's scaling, (x - low) / (high - low) - 0.5, and the fixed labels (0) into layer 1.
    low, high = state["xmin"], state["xmax"]
    scaled = weights[0] / (high - low)
    biases[0] = biases[0] - scaled @ low - 0.5 * weights[0].sum(axis=1)
    alphas = [state["label_names"].index(name) for name in ALPHAS]
    weights[0] = np.column_stack([scaled[:, :3], scaled[:, alphas].sum(axis=1)])
    return Net(weights, biases)


def line_spread(wave: np.ndarray, fwhm: np.ndarray, start: float, step: float, n: int):
    """Return the sparse (pixels, n) matrix that blurs an even grid and samples it at ``wave``.

    A Gaussian to four standard deviations, each row of sum 1. Wavelengths in Å.
    """
    sigma = fwhm / 2.3548
    half = int(np.ceil(4 * sigma.max() / step))
    index = np.rint((wave - start) / step).astype(int)[:, None] + np.arange(-half, half + 1)
    distance = (start + step * index - wave[:, None]) / sigma[:, None]
    weight = np.where((np.abs(distance) <= 4) & (index >= 0) & (index < n), 1.0, 0.0)
    weight *= np.exp(-0.5 * distance**2)
    weight /= weight.sum(axis=1, keepdims=True)
    row = np.broadcast_to(np.arange(len(wave))[:, None], index.shape)
    used = weight > 0
    return csr_array((weight[used], (row[used], index[used])), shape=(len(wave), n))


def vacuum_to_air(wave: np.ndarray) -> np.ndarray:
    """Return wavelengths in standard air (Å): the inverse of `records.air_to_vacuum`."""
    wave = np.asarray(wave, dtype=float)
    air = wave
    for _ in range(3):  # over the shift the index changes by 1e-8: converged after two
        air = wave * air / air_to_vacuum(air)
    return air


def boss_pixels(instrument: Instrument) -> slice:
    """Return the pixels that the BOSS networks reach with their whole line spread."""
    air, end = vacuum_to_air(instrument.wave), BOSS_START + BOSS_STEP * (BOSS_PIXELS - 1)
    inside = (air - instrument.fwhm > BOSS_START) & (air + instrument.fwhm < end)
    inside = np.flatnonzero(inside)
    return slice(int(inside[0]), int(inside[-1]) + 1) if len(inside) else slice(0, 0)


def build_common(folder: Path) -> None:
    """Distil what all instruments share: continuum, label scales, hidden layers."""
    tensors = {}
    for name, kind in (("cool", "coolstars"), ("hot", "hotdwarfs")):
        model = cannon(kind)
        tensors[f"{name}.continuum"] = _single(model.continuum)
        tensors[f"{name}.centre"] = _single(model.centre)
        tensors[f"{name}.scale"] = _single(model.scale)
    tensors["continuum_wave"] = torch.from_numpy(air_to_vacuum(model.continuum_wave))
    tensors["powers"] = torch.from_numpy(model.powers)
    for i, kind in enumerate(NETS):
        weights, biases = net(kind)
        tensors[f"net{i}.0.weight"] = _single(weights[0])
        tensors[f"net{i}.1.weight"] = _half(weights[1])
        tensors |= {f"net{i}.{j}.bias": _single(biases[j]) for j in (0, 1)}
    save_file(tensors, folder / "common.safetensors")


def build(instrument: Instrument, rank: int, folder: Path) -> None:
    """Distil the pixels of one instrument; ``rank`` principal directions of each network."""
    air, fwhm = vacuum_to_air(instrument.wave), instrument.fwhm
    n = round((18_000 - CANNON_START) / CANNON_STEP) + 1
    tensors = {}
    blur = line_spread(air, fwhm, CANNON_START, CANNON_STEP, n)
    cool = cannon("coolstars").theta
    for name, theta in (("cool", cool), ("hot", cannon("hotdwarfs").theta)):
        tensors |= _split(name, blur @ theta)
    where = boss_pixels(instrument)
    if where.stop:
        air, fwhm = air[where], fwhm[where]
        if fwhm.min() < BOSS_FWHM:  # the networks must be divided by a Cannon as blurred as they
            fwhm = np.maximum(fwhm, BOSS_FWHM)
            blur = line_spread(air, fwhm, CANNON_START, CANNON_STEP, n)
            tensors |= _split("smooth", blur @ cool)
        blur = line_spread(air, fwhm, BOSS_START, BOSS_STEP, BOSS_PIXELS)
        for i, kind in enumerate(NETS):
            tensors |= _project(f"net{i}", net(kind), kind, blur, rank)
    save_file(tensors, folder / "pixels.safetensors")


def _split(name: str, theta: np.ndarray) -> dict[str, torch.Tensor]:
    """Store the constant in fp32 (values near 1), what varies in fp16."""
    return {f"{name}.mean": _single(theta[:, 0]), f"{name}.columns": _half(theta[:, 1:])}


def _project(name: str, model: Net, kind: str, blur: csr_array, rank: int) -> dict:
    """Write a network's output as mean + columns @ (inner @ hidden + offset)."""
    teff = [float(x) for x in kind.split("-")]
    rng = np.random.default_rng(0)
    low, high = zip(teff, (0, 3.5), (-2.5, 0.5), ALPHA_RANGE, strict=True)
    hidden = model.hidden(rng.uniform(low, high, (DRAWS, 4)))
    centre = hidden.mean(axis=0)
    last = blur @ model.weights[2]  # (pixels, 300)
    left, small = np.linalg.qr(last)
    directions = np.linalg.svd((hidden - centre) @ small.T, full_matrices=False)[2][:rank]
    inner = directions @ small  # (rank, 300)
    return {
        f"{name}.mean": _single(last @ centre + blur @ model.biases[2]),
        f"{name}.columns": _half(left @ directions.T),
        f"{name}.inner": _single(inner),
        f"{name}.offset": _single(-inner @ centre),
    }


def _single(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


def _half(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float16))


class _Inert:
    """Stands for an object of a package that is not imported: only its state is kept."""

    def __setstate__(self, state):
        self.state = state


def _dill_array(make, arguments, state, attributes=None) -> np.ndarray:
    array = make(*arguments)
    array.__setstate__(state)
    return array


_KNOWN = {
    ("numpy.core.multiarray", "_reconstruct"): multiarray._reconstruct,
    ("numpy.core.multiarray", "scalar"): multiarray.scalar,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("collections", "OrderedDict"): OrderedDict,
    ("dill._dill", "_create_array"): _dill_array,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor_v2,
    ("torch.storage", "_load_from_bytes"): lambda data: torch.load(
        io.BytesIO(data), weights_only=True
    ),
} | {
    (module, name): _Inert
    for module, name in (
        ("theborg.emulator", "Emulator"),
        ("theborg.emulator", "MultiEmulatorModel"),
        ("torch.nn.modules.container", "Sequential"),
        ("torch.nn.modules.linear", "Linear"),
        ("torch.nn.modules.activation", "LeakyReLU"),
    )
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        try:
            return _KNOWN[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name} is not on the list") from None


def _unpickle(data: bytes):
    return _Unpickler(io.BytesIO(data), encoding="latin1").load()
