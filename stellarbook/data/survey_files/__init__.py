"""From a folder of downloads to the arrays that chapters read, and back into memory.

`build` reads a user's own files, hundreds of thousands of them, into two files (`layout` describes
them) that `load` opens wherever ``STELLARBOOK_DATA`` names their folder. From the command line::

    python -m stellarbook.data.survey_files build downloads/ data/ --survey lamost \
        --labels catalogue.csv --processes 8

On a cluster the same in three steps, ``plan``, ``shard`` and ``merge``, or by the Snakemake rules
in ``survey_files.smk`` beside this module. Shown in chapters 01 and 02.
"""

from stellarbook.data.survey_files.building import build
from stellarbook.data.survey_files.layout import SurveyFilesError, SurveyFilesMissing
from stellarbook.data.survey_files.loading import available, load, obtain
from stellarbook.data.survey_files.power_spectra import PowerSpectrumImages
from stellarbook.data.survey_files.sample import SurveySample

__all__ = [
    "PowerSpectrumImages",
    "SurveyFilesError",
    "SurveyFilesMissing",
    "SurveySample",
    "available",
    "build",
    "load",
    "obtain",
]
