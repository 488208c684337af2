"""Real survey spectra and light curves as arrays, from the folder that ``STELLARBOOK_DATA`` names.

Nothing of this is part of the book: without the folder every sample says how to obtain it. Shown in
chapters 01 and 02.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from stellarbook.data.records import LightCurve
from stellarbook.data.survey_files import arrays
from stellarbook.data.survey_files.layout import SurveyFilesMissing, stem
from stellarbook.data.survey_files.power_spectra import PowerSpectrumImages, kepler_q9
from stellarbook.data.survey_files.sample import SurveySample

VARIABLE = "STELLARBOOK_DATA"
Loaded = SurveySample | dict[str, LightCurve] | PowerSpectrumImages
BUILD = (
    "Then\n\n"
    "    python -m stellarbook.data.survey_files build DOWNLOADS DATA --survey {survey} "
    "--labels CATALOGUE.csv\n\n"
    f"turns the folder of downloads into {{files}}; set {VARIABLE} to DATA."
)


@dataclass(frozen=True)
class Sample:
    """Where a sample lies, what it is and whence it comes; ``read`` is None if `build` makes it."""

    files: tuple[str, ...]
    what: str
    how: str
    read: Callable[[Path], Loaded] | None = None
    layout: str = ""


def _of_build(survey: str, what: str, how: str) -> Sample:
    return Sample((f"{stem(survey)}.npz", f"{stem(survey)}.csv"), what, how)


GAIA = (
    "Their Gaia DR3 source_id go to the Gaia archive, https://gea.esac.esa.int/archive/, by its "
    "DataLink service (astroquery.gaia's load_data), one file a star."
)
SAMPLES = {
    "lamost": _of_build(
        "lamost",
        "LAMOST DR10 low-resolution spectra with labels of its own pipeline (LASP)",
        "From the LAMOST LRS Stellar Parameter Catalog of A, F, G and K Stars, DR10 v2.0, "
        "https://www.lamost.org/dr10/v2.0/ (earlier releases: VizieR, V/164 and V/156), choose "
        "stars and keep their rows as CATALOGUE.csv; the same site's search takes the list of "
        "their obsid and serves the spectra, one FITS file each.",
    ),
    "miles": Sample(
        ("miles.npz",),
        "The MILES library of stellar spectra (Sánchez-Blázquez et al. 2006; Falcón-Barroso et "
        "al. 2011)",
        "Spectra and the table of parameters by MILES number: https://research.iac.es/proyecto/"
        "miles/, Stellar Libraries.",
        arrays.miles,
        "wave (pixels,) Å in air, flux (n, pixels), id (n,) the MILES number, teff_logg_feh (n, 3)",
    ),
    "gaia_xp_field": Sample(
        ("gaia_xp_field.npz",),
        "Gaia DR3 BP/RP coefficients (XP_CONTINUOUS) of field stars, calibrated by GaiaXPy",
        "From gaiadr3.gaia_source choose stars with has_xp_continuous. " + GAIA,
        arrays.gaia_xp_field,
        "source_id, bp, rp, ebp, erp (n, 55), nbp, nrp, wave (343,) nm, flux (n, 343) W m⁻² nm⁻¹, "
        "G, BP, RP; or let build make gaia_xp_continuous of them",
    ),
    "galah": Sample(
        ("galah.npz",),
        "GALAH spectra, four arms, continuum-normalised",
        "From GALAH's main catalogue, https://www.galah-survey.org/ (DR3: VizieR J/MNRAS/506/150), "
        "choose stars; the survey's archive at Data Central, https://datacentral.org.au/, serves "
        "their spectra by sobject_id, a FITS file an arm.",
        arrays.galah,
        "<sobject_id>_<arm 1 to 4> the flux and <sobject_id>_<arm>_w its first wavelength and step "
        "in Å, air; or let build make it of the files",
    ),
    "mastar_means": Sample(
        ("mastar_means.npz",),
        "Means of spectra of SDSS's MaStar library, cluster by cluster (Yan et al. 2019)",
        "MaStar, SDSS DR17: https://www.sdss.org/dr17/mastar/, the file mastar-goodspec, spectra "
        "by MANGAID.",
        arrays.mastar_means,
        "flux (n, pixels), log10w0 and dlog: log10 of the first vacuum wavelength (Å) and step",
    ),
    "kepler_lightcurves": Sample(
        ("kepler_lightcurves.npz",),
        "Light curves of Kepler stars: the mission's, KEPSEISMIC's and pySYD's examples",
        "From the Kepler archive, https://archive.stsci.edu/missions-and-data/kepler, choose stars "
        "by KIC; it serves the long-cadence files by quarter, and KEPSEISMIC's, "
        "https://archive.stsci.edu/prepds/kepseismic, which read_light_curve reads one by one.",
        arrays.kepler_lightcurves,
        "<source>_<KIC>_t days and <source>_<KIC>_y (n, 1) flux or, of source LLC, (n, 2) flux and "
        "SAP_QUALITY; sources LLC, KEPSEISMIC, PYSYD",
    ),
    "kepler_q9": Sample(
        ("kepler_q9_psd_images.npz",),
        "Power spectra of Kepler's quarter 9 as images of one bit a pixel, with variability "
        "classes, from the training set of TASOC's classifiers (Audenaert et al. 2021)",
        "From the classes that its authors give by KIC, https://github.com/tasoc/starclass, choose "
        "stars; the Kepler archive, https://archive.stsci.edu/missions-and-data/kepler, serves "
        "their quarter 9. Draw each power spectrum as survey_files.power_spectra says.",
        kepler_q9,
        "im_packed (n, 2048) uint8, numpy.packbits of 128 x 128 pixels, kic (n,), cls (n,) the "
        "class, real (n,) False where synthetic",
    ),
    "sdss": _of_build(
        "sdss",
        "SDSS and BOSS optical spectra",
        "From the table SpecObj at https://skyserver.sdss.org/ (CasJobs) choose stars; the Science "
        "Archive Server, https://dr17.sdss.org/optical/spectrum/search, serves spec-….fits by "
        "plate, mjd and fiberid. CATALOGUE needs a column object, plate-mjd-fiberid.",
    ),
    "desi": _of_build(
        "desi",
        "DESI spectra",
        "From DESI DR1's Milky Way Survey catalogue, https://data.desi.lbl.gov/doc/releases/dr1/, "
        "choose stars by TARGETID; build takes files of one star each.",
    ),
    "apogee": _of_build(
        "apogee",
        "APOGEE spectra, apStar or aspcapStar",
        "From allStar, https://www.sdss.org/dr17/irspec/, choose stars; the Science Archive Server "
        "serves the files by telescope, field and apogee_id.",
    ),
    "gaia_xp_continuous": _of_build(
        "gaia_xp_continuous",
        "Gaia DR3 BP/RP coefficients, XP_CONTINUOUS",
        "From gaiadr3.gaia_source choose stars with has_xp_continuous. " + GAIA,
    ),
    "gaia_xp_sampled": _of_build(
        "gaia_xp_sampled",
        "Gaia DR3 BP/RP spectra, XP_SAMPLED",
        "From gaiadr3.gaia_source choose stars with has_xp_sampled. " + GAIA,
    ),
}


def load(name: str, where: str | None = None) -> Loaded:
    """Load a sample of real spectra, light curves or power spectra.

    Parameters
    ----------
    name : str
        "lamost": LAMOST DR10 low resolution or whatever was built; ``obsid, ra, dec, subclass,
        snrg, z, teff, logg, feh, med, star``, labels of the survey's pipeline (LASP), flux over its
        median, in the observed frame. "miles": the MILES library, ``id, star, teff, logg, feh, z``
        (0: at rest), no errors. "gaia_xp_field": Gaia XP, ``source_id, star, g, bp, rp, n_bp,
        n_rp, med, z`` (NaN), flux over its median ``med`` in W m⁻² nm⁻¹; its errors leave out the
        coefficients' correlations.
        "galah": ``object, star, z`` (NaN: some are at rest, some are not), continuum-normalised,
        no errors; arms that overlap nowhere. "mastar_means": means of SDSS's MaStar, ``star, z``,
        no labels, no errors. "kepler_lightcurves": light curves of the Kepler field, no errors.
        "kepler_q9": power spectra of Kepler stars as images, with variability classes.
        Or a survey that `build` has built.
    where : str, optional
        Rows to read, as `DataFrame.query` takes it: ``"snrg > 40 and teff.notna()"``. Only these
        are ever in memory. For samples in the layout of `build`.

    Returns
    -------
    SurveySample, or of "kepler_lightcurves" a dict of "<source>_<KIC>" to `LightCurve`, or of
    "kepler_q9" `PowerSpectrumImages`
        ivar is (snr / flux)², 0 where snr is not positive or either is not finite, where flux is 0
        or there is no pixel. LAMOST's unknown ``snrg`` ≤ 0 and ``z`` = −9999 are NaN.

    Raises
    ------
    SurveyFilesMissing
        ``STELLARBOOK_DATA`` is unset, or a file is not in it: how to obtain it.
    SurveyFilesError
        A file is damaged or not as expected; names file, field and expectation.
    ValueError
        There is no such sample, or ``where`` is for another.
    """
    sample = _sample(name)
    folder = os.environ.get(VARIABLE)
    missing = [file for file in sample.files if not (Path(folder or "") / file).is_file()]
    if not folder or missing:
        problem = f"{', '.join(missing)} not in {folder}" if folder else f"{VARIABLE} is not set"
        raise SurveyFilesMissing(f"{problem}.\n{obtain(name)}")
    path = Path(folder) / sample.files[0]
    if sample.read is None or (name == "galah" and path.with_suffix(".csv").is_file()):
        return arrays.built(path, name, where)
    if where is not None:
        raise ValueError(f"where: {name} is read whole")
    return sample.read(path)


def available(name: str) -> bool:
    """Say whether `load` would find a sample's files."""
    folder = os.environ.get(VARIABLE)
    return bool(folder) and all((Path(folder) / f).is_file() for f in _sample(name).files)


def obtain(name: str) -> str:
    """Return how to obtain a sample: its catalogue, identifiers, service, and what to do then."""
    sample = _sample(name)
    files = " and ".join(sample.files)
    ending = (
        BUILD.format(survey=name, files=files)
        if sample.read is None
        else (f"Pack them as {files}, {sample.layout}; set {VARIABLE} to its folder.")
    )
    return f"{sample.what}. {sample.how} {ending}"


def _sample(name: str) -> Sample:
    if name not in SAMPLES:
        raise ValueError(f"no sample {name!r}: there are {', '.join(SAMPLES)}")
    return SAMPLES[name]
