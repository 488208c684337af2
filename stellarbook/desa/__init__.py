"""DESA: spectra and light curves in one space (Kamai, Bronstein & Perets 2025)."""

from stellarbook.desa.spectra_encoder import SpectraEncoder

__all__ = ["SpectraEncoder"]
