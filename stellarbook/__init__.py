"""Five foundation models for stars: the module behind the book's chapters.

Three floors, imports go down only: the systems (one package a paper), then
`report`, `learn` and `layers`, then `data`.
"""

__version__ = "0.1.0"
