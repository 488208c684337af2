"""Eclipses of binaries as trapezoids. Shown in chapter 01."""

import numpy as np

INGRESS = 0.25  # of an eclipse's duration, by default


def trapezoid(time, middle, depth, duration, ingress) -> np.ndarray:
    """Return the flux that an eclipse takes away: 0 outside, ``depth`` at the bottom.

    Parameters
    ----------
    time, middle : (...) float
        Days.
    depth : float
        Relative flux.
    duration, ingress : float
        Days: from first to last contact, and the part of it in which the flux falls. An ingress of
        half the duration is a V.
    """
    inside = duration / 2 - np.abs(np.asarray(time) - middle)
    return depth * np.clip(inside / ingress, 0, 1)


def add_eclipses(flux, time, star, exposure) -> None:
    """Multiply one star's curve by its eclipses, in place.

    Parameters
    ----------
    flux : (N,) float32
        Relative flux.
    time : (N,) float
        Days, increasing and even.
    star : dict
        ``period``, ``epoch`` (a primary eclipse's middle), ``duration``: days; ``depth``,
        ``second_depth``: relative flux; ``second_phase``: of the period.
    exposure : float
        Days: an eclipse is seen as its mean over so long, from five moments.
    """
    ingress = INGRESS * star["duration"]
    moments = (np.arange(5) - 2) / 5 * exposure
    step = time[1] - time[0] if len(time) > 1 else exposure
    reach = (star["duration"] + exposure) / 2
    for depth, phase in ((star["depth"], 0.0), (star["second_depth"], star["second_phase"])):
        if not depth > 0:
            continue
        first = star["epoch"] + phase * star["period"]
        k = np.arange(
            np.ceil((time[0] - reach - first) / star["period"]),
            np.floor((time[-1] + reach - first) / star["period"]) + 1,
        )
        middles = first + k * star["period"]
        width = int(2 * reach / step) + 2
        place = np.ceil((middles - reach - time[0]) / step).astype(int)[:, None] + np.arange(width)
        when = time[0] + place * step
        gone = trapezoid(
            when[..., None] + moments, middles[:, None, None], depth, star["duration"], ingress
        ).mean(axis=-1)
        ok = (place >= 0) & (place < len(time))
        lost = np.zeros(len(time))
        np.maximum.at(lost, place[ok], gone[ok])
        flux *= 1 - lost
