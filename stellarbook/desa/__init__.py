"""DESA: spectra and light curves in one space (Kamai, Bronstein & Perets 2025)."""

from stellarbook.desa.dualformer import DualFormer
from stellarbook.desa.light_curve_encoder import LightCurveEncoder
from stellarbook.desa.spectra_encoder import SpectraEncoder

__all__ = ["DualFormer", "LightCurveEncoder", "SpectraEncoder"]
