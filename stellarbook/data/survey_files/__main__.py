"""``python -m stellarbook.data.survey_files``: see ``--help``."""

import argparse
import sys

from stellarbook.data.survey_files.building import build
from stellarbook.data.survey_files.grid import GRIDS
from stellarbook.data.survey_files.layout import SurveyFilesError
from stellarbook.data.survey_files.loading import SAMPLES, obtain
from stellarbook.data.survey_files.merge import merge
from stellarbook.data.survey_files.plan import count, plan
from stellarbook.data.survey_files.shards import shard

LABELS = (
    "catalogue to take teff, logg, feh … from, csv or parquet; for LAMOST by obsid, or by lmjd, "
    "planid, spid and fiberid"
)


def main(arguments: list[str] | None = None) -> None:
    """Build, in one go or step by step; or say how to obtain a survey's files."""
    parser = argparse.ArgumentParser(
        prog="python -m stellarbook.data.survey_files",
        description="Turn a folder of downloaded spectra into the two files that "
        "stellarbook.data.survey_files.load reads. Set STELLARBOOK_DATA to OUT afterwards.",
        epilog="On a cluster: plan once, one job for each shard (an array job's number is its "
        "argument), then merge. Snakemake does the same with the rules in survey_files.smk beside "
        "this module. What was read is not read again. Unreadable files are skipped and named in "
        "OUT/skipped.csv.",
    )
    steps = parser.add_subparsers(dest="step", required=True, metavar="STEP")
    folder = argparse.ArgumentParser(add_help=False)
    folder.add_argument("folder", metavar="FOLDER", help="downloads; subfolders are searched too")
    out = argparse.ArgumentParser(add_help=False)
    out.add_argument("out", metavar="OUT", help="folder for the arrays, the report and the shards")
    what = argparse.ArgumentParser(add_help=False)
    what.add_argument(
        "--survey",
        choices=list(GRIDS),
        help="skip files of other surveys; without it the survey is recognised and a mixture "
        "refused",
    )
    what.add_argument("--size", type=int, default=1000, help="files a shard (default %(default)s)")
    labels = argparse.ArgumentParser(add_help=False)
    labels.add_argument("--labels", metavar="CATALOGUE", help=LABELS)
    step = steps.add_parser(
        "build", parents=[folder, out, what, labels], help="all steps, on this machine"
    )
    step.add_argument("--processes", type=int, help="default: one a core")
    steps.add_parser("plan", parents=[folder, out, what], help="1: list the files")
    step = steps.add_parser("shard", parents=[out], help="2: read one shard's files")
    step.add_argument("number", type=int, metavar="NUMBER", help="of the shard, from 0")
    steps.add_parser("merge", parents=[out, labels], help="3: join the shards")
    step = steps.add_parser("obtain", help="say how to obtain a survey's files")
    step.add_argument("sample", choices=list(SAMPLES))
    options = vars(parser.parse_args(arguments))
    step = options.pop("step")
    try:
        if step == "build":
            build(options.pop("folder"), options.pop("out"), **options)
        elif step == "plan":
            shards = count(plan(**options))
            print(f"{shards} shards, 0 to {shards - 1}")
        elif step == "shard":
            print(f"{shard(options['out'], options['number'])} files")
        elif step == "merge":
            merge(**options)
        else:
            print(obtain(options["sample"]))
    except (SurveyFilesError, ValueError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
