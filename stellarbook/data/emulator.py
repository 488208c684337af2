r"""From labels to spectra: two public emulators in one, distilled for each instrument.

With :math:`C` the Cannon's polynomial and :math:`B` the BOSS networks (`emulator_source`), both
blurred to the instrument, the normalised flux is

.. math:: f = C(T, g, m)\, R^w \frac{B(w a)}{B(0)}, \quad R = \frac{B(0)}{C(T', g', m)},

:math:`B(a)` short for :math:`B(T', g', m, a)`,
:math:`T' = \min(T, 6000)`, :math:`g' = \min(g, 3.5)`, :math:`w` falling smoothly from 1 at 6000 K
to 0 at 7000 K. For giants this is the network itself; dwarfs, which the networks do not know, take
over its ratio to the polynomial. From 7600 to 8400 K the hot-dwarf polynomial takes its place.
Shown in chapter 01.

Not to be trusted: stars below 4000 K (no proper molecules: rms 0.08 against real M stars), Ca II H
and K and all below 4000 Å, [α/Fe] outside `Emulator.alpha_valid`. Below 3570 Å (Gaia XP) the ratio
of the networks' first pixel stands for the rest.
"""

from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.functional import leaky_relu, pad

from stellarbook.data import archives, emulator_source
from stellarbook.data.instruments import INSTRUMENTS
from stellarbook.data.observe import Instrument

NEEDS = emulator_source.NEEDS  # the archives behind this sample
LABELS = ("teff", "logg", "feh", "alpha_fe")
TEFF_RANGE = (3500.0, 12_000.0)
CHUNK = {"cpu": 2**19}  # pixels at a time: what stays in a core's cache
OTHER_CHUNK = 2**26  # on other devices
FLOOR = 0.02  # a polynomial can be negative in a deep line: no divisor is smaller
RANK = {"galah": 32}  # principal directions of each network; the others' is 48
ALPHA_TEFF = 6500.0


class Emulator(nn.Module):
    """Spectra of one instrument from labels (n, 4): Teff (K), log g, [Fe/H], [α/Fe] (dex).

    ``Emulator(LAMOST)(labels)`` is the continuum-normalised flux (n, pixels), `flux` has the
    continuum. Labels are a tensor or an array; the result is float32 (float64 after
    ``.double()``), on the module's device, and differentiable in the labels. One core makes about
    25,000 LAMOST or 6,000 GALAH spectra a second.

    The labels may lie where the training spectra do: Teff 3500–12000 K, log g 0–5, [Fe/H]
    −2.5–0.5, [α/Fe] ±0.5, but log g ≥ 1.25 (Teff − 6000) / 1000 up to 2.5 at 8000 K and above, and
    [Fe/H] ≥ −2.5 + (Teff − 8000) / 1000 up to −1.5 at 9000 K and above.

    Parameters
    ----------
    instrument : Instrument
    outside : "raise" or "nan"
        What labels outside give: a ValueError, or a row of NaN. NaN labels are outside.

    Raises
    ------
    ArchiveError
        The first use fetches and distils two archives (`archives.fetch`).
    """

    def __init__(self, instrument: Instrument, outside: str = "raise"):
        super().__init__()
        if outside not in ("raise", "nan"):
            raise ValueError(f'outside = {outside!r}: expected "raise" or "nan"')
        self.instrument, self.outside = instrument, outside
        common = load_file(_common() / "common.safetensors")
        pixels = load_file(_pixels(instrument) / "pixels.safetensors")

        def polynomial(kind: str, weight: torch.Tensor) -> _Polynomial:
            scaling = (common[f"{kind}.{key}"] for key in ("centre", "scale"))
            return _Polynomial(*scaling, common["powers"], weight)

        wave = common["continuum_wave"].numpy()
        for name in ("cool", "hot"):
            columns = common[f"{name}.continuum"].numpy().T
            columns = [np.interp(instrument.wave, wave, column) for column in columns]
            continuum = torch.from_numpy(np.stack(columns, axis=1)).float()
            setattr(self, name, polynomial(name, _weight(pixels, name)))
            setattr(self, f"{name}_continuum", polynomial(name, continuum))
        self.where = emulator_source.boss_pixels(instrument)
        self.has_nets = self.where.stop > 0
        if self.has_nets:
            own = "smooth.mean" in pixels  # where the networks are too coarse for the line spread
            smooth = _weight(pixels, "smooth") if own else self.cool.weight[self.where]
            self.smooth = polynomial("cool", smooth)
            self.nets = nn.ModuleList(_Net(common, pixels, f"net{i}") for i in range(3))

    def forward(self, labels) -> torch.Tensor:
        """Return the continuum-normalised flux (n, pixels), 0 to 1.3.

        Raises
        ------
        ValueError
            Naming the row, label, value and range of a label outside; or of Gaia XP, whose
            spectra nobody normalises: use `flux`.
        """
        if self.instrument.basis:
            raise ValueError(f"{self.instrument.name} has no continuum: use .flux(labels)")
        return self._each(labels, self._normalised)

    def flux(self, labels) -> torch.Tensor:
        """Return the flux (n, pixels) at the star's surface over 4π, erg s⁻¹ cm⁻² Å⁻¹.

        Raises
        ------
        ValueError
            As `forward`.
        """
        return self._each(labels, lambda x: self._normalised(x).mul_(self._continuum(x)))

    def inside(self, labels) -> torch.Tensor:
        """Say which labels (n, 4) the emulator takes, (n,) bool; NaN is outside."""
        like = self.cool.weight
        labels = torch.as_tensor(labels, dtype=like.dtype, device=like.device)
        return ~self._outside(labels).any(dim=1)

    def alpha_valid(self, labels) -> torch.Tensor:
        """Say for which labels (n, 4) the spectrum answers to [α/Fe] as it should, (n,) bool.

        Up to 6500 K (the answer fades out between 6000 and 7000 K), and not for APOGEE. Above
        log g 3.5 it is the giants': an approximation.
        """
        labels = torch.as_tensor(labels)
        return (labels[:, 0] <= ALPHA_TEFF) & self.inside(labels) & self.has_nets

    def _each(self, labels, function) -> torch.Tensor:
        """Check labels, then apply a function to chunks of similar temperature."""
        like = self.cool.weight
        labels = torch.as_tensor(labels, dtype=like.dtype, device=like.device)
        bad = self._outside(labels)
        if bad.any():
            if self.outside == "raise":
                raise ValueError(self._why(labels, bad))
            safe = labels.new_tensor([5000.0, 3.0, 0.0, 0.0])
            labels = torch.where(bad.any(dim=1, keepdim=True), safe, labels)
        # Sorted, few chunks need more than one network, and hot ones none.
        order = labels[:, 0].argsort()
        flux = labels.new_empty(len(labels), len(self.instrument))
        chunk = CHUNK.get(like.device.type, OTHER_CHUNK) // len(self.instrument)
        for rows in order.split(chunk):
            flux = flux.index_copy_(0, rows, function(labels[rows]))
        return flux.masked_fill(bad.any(dim=1, keepdim=True), torch.nan) if bad.any() else flux

    def _ranges(self, teff: torch.Tensor) -> list[tuple]:
        """Lowest and highest value of each label, at the stars' Teff."""
        logg = (1.25e-3 * (teff - 6000)).clamp(0, 2.5)
        feh = -2.5 + (1e-3 * (teff - 8000)).clamp(0, 1)
        alpha = emulator_source.ALPHA_RANGE if self.has_nets else (0.0, 0.0)
        return [TEFF_RANGE, (logg, 5.0), (feh, 0.5), alpha]

    def _outside(self, labels: torch.Tensor) -> torch.Tensor:
        if labels.ndim != 2 or labels.shape[1] != 4:
            raise ValueError(f"labels have shape {tuple(labels.shape)}, not (n, 4): {LABELS}")
        ranges = self._ranges(labels[:, 0].nan_to_num())
        columns = zip(labels.unbind(1), ranges, strict=True)
        # NaN fails both comparisons.
        return torch.stack([~((x >= low) & (x <= high)) for x, (low, high) in columns], dim=1)

    def _why(self, labels: torch.Tensor, bad: torch.Tensor) -> str:
        row, column = bad.nonzero()[0].tolist()
        low, high = (
            float(x[row]) if torch.is_tensor(x) else x
            for x in self._ranges(labels[:, 0].nan_to_num())[column]
        )
        value = f"labels[{row}]: {LABELS[column]} = {float(labels[row, column]):g}"
        if low == high:
            return (
                f"{value}: without the BOSS networks, which end at 10500 Å, spectra of "
                f"{self.instrument.name} know no [α/Fe] but 0"
            )
        at = f" at Teff = {float(labels[row, 0]):g} K" if column in (1, 2) else ""
        return f"{value} is outside {low:g} to {high:g}{at}"

    def _normalised(self, labels: torch.Tensor) -> torch.Tensor:
        teff, logg, feh, alpha = labels.unbind(1)
        # In place: new memory would cost more than the arithmetic.
        flux = self.cool(teff.clamp(max=8000), logg, feh).clamp_(min=FLOOR)
        w = _smoothstep((7000 - teff) / 1000)
        if self.has_nets and (w > 0).any():
            flux = flux.mul_(self._ratio(teff, logg, feh, alpha, w))
        hot = _smoothstep((teff - 7600) / 800)
        if (hot > 0).any():
            other = self.hot(teff.clamp(min=8000), logg.clamp(min=2.5), feh)
            flux = flux.lerp_(other, hot[:, None])
        return flux.clamp_(0, 1.3)

    def _ratio(self, teff, logg, feh, alpha, w) -> torch.Tensor:
        inside = teff.clamp(max=6000), logg.clamp(max=3.5), feh
        cannon = self.smooth(*inside).clamp_(min=FLOOR)
        ratio = self._boss(*inside, w * alpha)
        if (w < 1).any():
            solar = self._boss(*inside, 0 * alpha).clamp_(min=FLOOR)
            ratio = ratio.div_(solar).mul_(solar.div(cannon).pow_(w[:, None]))
        else:
            ratio = ratio.div_(cannon)
        missing = self.where.start, len(self.instrument) - self.where.stop
        return pad(ratio, missing, mode="replicate") if any(missing) else ratio

    def _boss(self, teff, logg, feh, alpha) -> torch.Tensor:
        """Blend the three networks over the Teff that two of them know."""
        labels = torch.stack([teff, logg, feh, alpha], dim=1)
        middle = ((teff - 4000) / 200).clamp(0, 1)
        warm = ((teff - 4900) / 100).clamp(0, 1)
        flux = None
        for net, share in zip(self.nets, (1 - middle, middle - warm, warm), strict=True):
            if (share > 0).any():
                part = share[:, None] * net.coefficients(labels)  # scaled while it is small
                columns = net.weight.T
                flux = part @ columns if flux is None else flux.addmm_(part, columns)
        return flux

    def _continuum(self, labels: torch.Tensor) -> torch.Tensor:
        teff, logg, feh, _ = labels.unbind(1)
        log = self.cool_continuum(teff.clamp(max=8000), logg, feh)
        hot = _smoothstep((teff - 7600) / 800)
        if (hot > 0).any():
            other = self.hot_continuum(teff.clamp(min=8000), logg.clamp(min=2.5), feh)
            log = log.lerp_(other, hot[:, None])
        return log.mul_(np.log(10)).exp_()


class _Polynomial(nn.Module):
    """Cubic in the scaled labels: (n,), (n,), (n,) → (n, pixels)."""

    def __init__(self, centre, scale, powers, weight):
        super().__init__()
        for name, value in (("centre", centre), ("scale", scale), ("weight", weight)):
            self.register_buffer(name, value, persistent=False)
        self.register_buffer("powers", powers, persistent=False)

    def forward(self, teff, logg, feh) -> torch.Tensor:
        x = (torch.stack([teff, logg, feh], dim=1) - self.centre) / self.scale
        power = torch.stack([torch.ones_like(x), x, x * x, x**3])  # (4, n, 3)
        terms = [power[self.powers[:, i], :, i] for i in range(3)]  # each (20, n)
        return (terms[0] * terms[1] * terms[2]).T @ self.weight.T


class _Net(nn.Module):
    """A BOSS network up to the coefficients of its principal directions."""

    def __init__(self, common: dict, pixels: dict, name: str):
        super().__init__()
        for key in ("0.weight", "0.bias", "1.weight", "1.bias"):
            value = common[f"{name}.{key}"].float()
            self.register_buffer("layer" + key.replace(".", "_"), value, persistent=False)
        for key in ("inner", "offset"):
            self.register_buffer(key, pixels[f"{name}.{key}"], persistent=False)
        self.register_buffer("weight", _weight(pixels, name), persistent=False)

    def coefficients(self, labels: torch.Tensor) -> torch.Tensor:
        """Return (n, 1 + rank): 1 for the mean, then the directions'."""
        hidden = leaky_relu(labels @ self.layer0_weight.T + self.layer0_bias)
        hidden = leaky_relu(hidden @ self.layer1_weight.T + self.layer1_bias)
        return pad(hidden @ self.inner.T + self.offset, (1, 0), value=1.0)


def prepare() -> None:
    """Fetch and distil the emulator of every instrument."""
    _common()
    for instrument in INSTRUMENTS:
        _pixels(instrument)


def _common() -> Path:
    build = emulator_source.build_common
    return archives.distil("emulator_common", NEEDS, build, version=1, size=1_000_000)


def _pixels(instrument: Instrument) -> Path:
    build = partial(emulator_source.build, instrument, RANK.get(instrument.name, 48))
    # Raise the version when an instrument's grid or line spread changes.
    return archives.distil(
        f"emulator_{instrument.name}",
        NEEDS,
        build,
        version=1,
        size=500 * len(instrument),
    )


def _weight(pixels: dict, name: str) -> torch.Tensor:
    """Join mean and columns, (pixels, 1 + k) float32: one product gives the flux."""
    return torch.column_stack([pixels[f"{name}.mean"], pixels[f"{name}.columns"].float()])


def _smoothstep(x: torch.Tensor) -> torch.Tensor:
    x = x.clamp(0, 1)
    return x * x * (3 - 2 * x)
