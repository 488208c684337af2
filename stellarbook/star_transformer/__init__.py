"""The star transformer: any of 119 named numbers of a star in, any out (Leung & Bovy 2024)."""

from stellarbook.star_transformer.model import StarTransformer

__all__ = ["StarTransformer"]
