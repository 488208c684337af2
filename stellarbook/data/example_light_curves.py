"""Light curves of real stars, as their archives serve them, to try `read_light_curve` on.

They travel as examples inside public packages (`archives`) and are distilled into one folder,
unchanged: ``read_light_curve(example_light_curves.path("kepler_q2"))``. Shown in chapter 01.

``kepler_q2``, ``kepler_q5``
    KIC 10002792, a K star that rotates: quarters 2 and 5 of Kepler, long cadence (29.4 minutes).
``k2``
    EPIC 211117077, a star near the Pleiades: campaign 4 of K2, long cadence.
``tess``
    TIC 358108509, an M dwarf: sector 1 of TESS, every two minutes.
``kepseismic_3733735``, ``kepseismic_8006161``, ``kepseismic_10644253``
    Four years of three bright F and G stars, by KIC number, in parts per million, gaps filled in.
    Their rotation periods are known: 2.57, 31.71 and 10.88 days (Santos et al. 2021).
"""

from pathlib import Path

from stellarbook.data import archives

FILES = {
    "kepler_q2": ("altaipony", "altaipony/examples/kplr010002792-2009259160929_llc.fits"),
    "kepler_q5": ("altaipony", "altaipony/examples/kplr010002792-2010174085026_llc.fits"),
    "k2": ("altaipony", "altaipony/examples/ktwo211117077-c04_llc.fits"),
    "tess": (
        "altaipony",
        "altaipony/examples/tess2018206045859-s0001-0000000358108509-0120-s_lc.fits",
    ),
} | {
    f"kepseismic_{kic}": ("star-privateer", f"star_privateer/timeseries/{kic:09d}.fits")
    for kic in (3733735, 8006161, 10644253)
}
NEEDS = ("altaipony", "star-privateer")  # the archives behind these files


def path(name: str) -> Path:
    """Return the path of one of `FILES`; the first call fetches and unpacks them all.

    Raises
    ------
    KeyError
        No file of that name; the message lists those that there are.
    ArchiveError
        The archives are neither in the cache nor in reach.
    """
    if name not in FILES:
        raise KeyError(f"no example light curve {name!r}: there are {', '.join(FILES)}")
    return _folder() / Path(FILES[name][1]).name


def prepare() -> None:
    """Fetch and unpack all files."""
    _folder()


def _folder() -> Path:
    return archives.members("example_light_curves", FILES, version=1, size=7_400_000)
