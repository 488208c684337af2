"""When Kepler measured: quarters, the gaps between and within them, and what they do to a level.

Shown in chapter 01.
"""

from typing import NamedTuple

import numpy as np

from stellarbook.data.cadences import LONG_CADENCE

FIRST, LAST = 120.539, 1591.002
"""First and last long cadence of the mission, days since BJD 2454833."""

# The last cadence before and the first after every interruption of more than seven hours, days
# since BJD 2454833, measured on the mission's own light curves of KIC 7660594 and KIC 2556081
# (quarters 0 to 17, which agree to a minute): quarters roll, data are sent down each month, and
# sometimes the spacecraft is in safe mode.
_ENDS = """
130.246 131.513  164.984 169.766  181.515 183.722  223.465 223.874  230.290 231.393
255.382 256.342  258.467 260.245  280.534 281.352  290.546 291.425  321.441 323.545
349.495 352.397  383.415 384.314  396.840 400.824  442.203 443.511  475.001 476.288
503.895 504.610  538.163 539.471  566.525 567.404  598.279 599.219  629.296 630.195
660.272 661.069  690.227 691.146  710.905 711.436  719.548 735.384  761.048 763.766
802.345 808.537  844.910 845.625  874.111 874.785  886.637 887.577  905.927 906.867
936.945 937.804  969.230 970.088  1000.268 1001.228  1032.266 1033.063  1063.221 1064.141
1069.985 1072.559  1098.325 1099.429  1116.674 1118.840  1121.272 1122.253  1125.890 1126.646
1153.987 1154.927  1160.525 1165.062  1182.022 1182.758  1214.983 1215.719  1244.919 1245.859
1268.725 1269.216  1273.057 1274.161  1289.466 1296.413  1304.995 1306.181  1336.299 1337.199
1371.322 1373.508  1404.300 1405.301  1412.800 1418.460  1435.379 1436.257  1471.136 1472.117
1477.307 1488.689  1524.958 1526.144  1557.960 1559.247  1581.582 1586.833
"""
GAPS = np.array(_ENDS.split(), dtype=float).reshape(-1, 2)

# Where quarters 1 to 17 begin.
_STARTS = """
131.513 169.766 260.245 352.397 443.511 539.471 630.195 735.384 808.537
906.867 1001.228 1099.429 1182.758 1274.161 1373.508 1472.117 1559.247
"""
STARTS = np.array(_STARTS.split(), dtype=float)

# Between two quarters, in the middle of the gap.
_ROLLS = np.array([GAPS[np.isclose(GAPS[:, 1], start)].mean() for start in STARTS])

LOST = 0.0121  # of the cadences between gaps, measured on the same curves: most of them single
LEVEL = 0.01  # from quarter to quarter, relative: other pixels, another aperture
RECOVERY = 1.5  # days until the telescope's temperature has settled after a gap


def cadences(days: float, start: float) -> np.ndarray:
    """Return the times of even long cadences, (N,) days since BJD 2454833; the last is < days.

    Raises
    ------
    ValueError
        If they do not lie within the mission.
    """
    if not (days >= LONG_CADENCE and FIRST <= start and start + days <= LAST + LONG_CADENCE):
        raise ValueError(
            f"{days:g} days from day {start:g}: expected at least one cadence between the "
            f"mission's days {FIRST} and {LAST}"
        )
    # A cadence at exactly `days` would be one too many: 4,500 cadences ask for 4,500.
    return start + LONG_CADENCE * np.arange(int(days / LONG_CADENCE * (1 - 1e-9)) + 1)


def quarter_of(time) -> np.ndarray:
    """Return the quarters, 0 to 17, that times (N,) lie in; a gap between two is shared."""
    return np.searchsorted(_ROLLS, time)


def in_gap(time) -> np.ndarray:
    """Say which times (N,) lie in an interruption of the mission, (N,) bool."""
    time = np.asarray(time)
    after = np.searchsorted(GAPS[:, 0], time - LONG_CADENCE / 4)  # gaps that began before
    end = np.r_[-np.inf, GAPS[:, 1]][after]
    return time < end - LONG_CADENCE / 4


def lost(cadences: int, rng: np.random.Generator) -> np.ndarray:
    """Draw the places of cadences lost one at a time (cosmic rays, pointing)."""
    return (cadences * rng.random(rng.binomial(cadences, LOST))).astype(np.intp)


class Clock(NamedTuple):
    """What all stars share: arrays (N,), times in days since BJD 2454833.

    ``gap``: whether the mission was interrupted. ``place``: within the quarter, −1 at its begin, 1
    at the next one's. ``settling``: 1 after a gap of hours or more, 0 when the telescope's
    temperature has settled.
    """

    time: np.ndarray
    quarter: np.ndarray
    gap: np.ndarray
    place: np.ndarray
    settling: np.ndarray


def clock(time: np.ndarray) -> Clock:
    """Return what the mission was doing at times (N,), days since BJD 2454833."""
    quarter = quarter_of(time)
    begin, end = np.r_[FIRST, STARTS][quarter], np.r_[STARTS, LAST][quarter]
    back = np.r_[FIRST, GAPS[:, 1]]
    since = time - back[np.searchsorted(back, time + LONG_CADENCE / 2, side="right") - 1]
    return Clock(
        time,
        quarter,
        in_gap(time),
        np.float32(2 * (time - begin) / (end - begin) - 1),
        np.float32(np.exp(-since / RECOVERY)),
    )


def systematics(clock: Clock, size, rngs) -> np.ndarray:
    """Draw what the telescope multiplies stars' curves by, (stars, N) float32 about 1.

    Parameters
    ----------
    clock : Clock
    size : (stars,) float
        Of the slow trends that the mission's correction leaves, relative flux.
    rngs : iterable of numpy.random.Generator
        One a star.

    Notes
    -----
    Each quarter has its level (`LEVEL`) and a parabola of random sign; after each gap the flux
    settles within days (`RECOVERY`), by an amount that is the quarter's. The sizes are chosen, not
    measured.
    """
    draws = np.stack([rng.standard_normal((4, len(STARTS) + 1)) for rng in rngs], axis=1)
    level, slope, bend, thermal = np.float32(draws)
    size, q = np.float32(size)[:, None], clock.quarter
    out = (size * slope)[:, q] * clock.place
    out += (size * bend)[:, q] * (1.5 * clock.place**2 - 0.5)
    out += (size * thermal)[:, q] * clock.settling
    return (1 + out) * (1 + LEVEL * level)[:, q]
