"""Read a downloaded spectrum or light curve: ``read_spectrum("spec-….fits.gz")``.

Light curves have `read_light_curve`. The survey or mission is recognised from the file, never from
its name. Whatever is wrong with a file ends in one exception, `ReadError`, that says which file,
where in it, and what was expected: so that a run over a hundred thousand downloads can note it and
go on. Shown in chapter 01.
"""

from collections.abc import Sequence
from pathlib import Path

from astropy.io import fits

from stellarbook.data.readers import gaia, galah, text
from stellarbook.data.readers.files import ReadError, member, named, open_fits, unpacked
from stellarbook.data.readers.light_curves import read_light_curve
from stellarbook.data.readers.recognise import SPECTRA as FITS
from stellarbook.data.readers.recognise import contents, light_curve_of, spectrum_of
from stellarbook.data.records import Spectrum

__all__ = ["SURVEYS", "ReadError", "read_light_curve", "read_spectrum"]

GAIA = ("gaia_xp_continuous", "gaia_xp_sampled")
SURVEYS = (*FITS, *GAIA, "text")
MANY = ("desi", *GAIA)  # one file may hold many stars


def read_spectrum(
    path: str | Path | Sequence[str | Path],
    survey: str | None = None,
    *,
    target: int | None = None,
    row: int | None = None,
    air: bool = False,
) -> Spectrum:
    """Read one star's spectrum from a file as its archive serves it.

    Parameters
    ----------
    path : str or Path, or a list of them
        LAMOST low resolution (DR1's image, DR8's table), SDSS/BOSS ``spec-…``, DESI ``coadd-…``
        or ``spectra-…``, APOGEE ``apStar-…`` or ``aspcapStar-…``, GALAH, each also gzipped; Gaia
        XP_CONTINUOUS or XP_SAMPLED as csv, ecsv, FITS, VOTable or DataLink's zip; a text file of
        two or three columns. A list is the GALAH files of one star, an arm each.
    survey : str, optional
        One of `SURVEYS`: insist on it. Without it the survey is recognised from the file. Of a
        zip that holds both Gaia products, XP_CONTINUOUS is read.
    target : int, optional
        The star's TARGETID (DESI) or source_id (Gaia) where a file holds several.
    row : int, optional
        Or its row, from 0.
    air : bool
        True: a text file's wavelengths are in air. The surveys' files are known.

    Returns
    -------
    Spectrum
        Vacuum Å, in the survey's own frame (`Spectrum.meta` has the redshift) and flux unit.
        Masked are the survey's own bad bits; each module says which.

    Raises
    ------
    ReadError
        Naming file, HDU or column, and what was expected: a file that is missing, empty,
        truncated or garbage, of another survey or of none that is known, a light curve, with
        an extension or column missing, with wavelengths that do not increase, or without one good
        pixel. A Gaia spectrum with only BP or RP is read, the other half masked.
    ValueError
        The arguments themselves are impossible.
    """
    if survey is not None and survey not in SURVEYS:
        raise ValueError(f"no survey {survey!r}: there are {', '.join(SURVEYS)}")
    if target is not None and row is not None:
        raise ValueError("either target or row, not both")
    if not isinstance(path, str | Path):
        return galah.joined([_read(Path(p), survey or "galah", target, row, air) for p in path])
    return _read(Path(path), survey, target, row, air)


def _read(path: Path, survey, target, row, air) -> Spectrum:
    with named(path, survey or "spectrum"):
        spectrum = _parse(unpacked(path), survey, target, row, air)
        if spectrum.mask.all():
            raise ReadError("all pixels are masked: expected at least one good pixel")
    spectrum.meta["file"] = path.name
    return spectrum


def _parse(data: bytes, survey, target, row, air) -> Spectrum:
    if data[:2] == b"PK":
        if survey not in (None, *GAIA):
            raise ReadError(
                f"expected a file of {survey}, this is a zip, as Gaia's DataLink serves"
            )
        data, survey = member(data, survey)
        return _parse(data, survey, target, row, air)
    if data[:6] == b"SIMPLE":
        with open_fits(data) as hdus:
            known = _recognised(hdus)
            _agree(known, survey)
            _one_star(known, target, row)
            if known in FITS:
                module = FITS[known]
                return module.read(hdus, target, row) if known in MANY else module.read(hdus)
            table = gaia.fits_table(hdus)
    else:
        table = gaia.text_table(data)
        known = gaia.kind(table)
        if known is None:
            _agree("text", survey)
            _one_star("text", target, row)
            return text.read(data, air)
        _agree(known, survey)
    return gaia.read(table, known, target, row)


def _recognised(hdus: fits.HDUList) -> str:
    if known := spectrum_of(hdus):
        return known
    if known := light_curve_of(hdus):
        raise ReadError(f"a file of {known}: read light curves with read_light_curve")
    raise ReadError(
        f"a FITS file of none of the surveys known here ({', '.join(SURVEYS[:-1])}); "
        f"{contents(hdus)}"
    )


def _agree(known: str, survey: str | None) -> None:
    if survey not in (None, known):
        raise ReadError(f"expected a file of {survey}, this is one of {known}")


def _one_star(known: str, target, row) -> None:
    if known not in MANY and (target, row) != (None, None):
        raise ReadError(f"target or row given, but a file of {known} holds one spectrum")
