# A build on a cluster: plan -> one job a shard -> merge. Arrays and table are those of `build`.
#
#   snakemake --snakefile stellarbook/data/survey_files/survey_files.smk --cores 8 \
#       --config folder=downloads out=data survey=lamost labels=catalogue.csv size=1000
#
# With an executor plugin (--executor slurm --jobs 200 …) every shard is a job of one core.
# --forcerun plan merge looks for new downloads: the plan removes the shards whose files are no longer
# the same, and only those are read again.
import sys

from stellarbook.data.survey_files.layout import stem
from stellarbook.data.survey_files.plan import count, read_plan, shard_name

OUT = config["out"]
NAME = stem(config["survey"])
LABELS = config.get("labels")
BUILD = f"{sys.executable!r} -m stellarbook.data.survey_files"


def shards(wildcards):
    checkpoints.plan.get()
    return [f"{OUT}/shards/{shard_name(i)}" for i in range(count(read_plan(OUT)))]


rule merge:
    input:
        shards,
        LABELS or [],
    output:
        f"{OUT}/{NAME}.npz",
        f"{OUT}/{NAME}.csv",
        f"{OUT}/skipped.csv",
    params:
        out=OUT,
        labels=["--labels", LABELS] if LABELS else [],
    shell:
        BUILD + " merge {params.out:q} {params.labels:q}"


checkpoint plan:
    output:
        f"{OUT}/shards/plan.json",
    params:
        folder=config["folder"],
        out=OUT,
        survey=config["survey"],
        size=config.get("size", 1000),
    shell:
        BUILD + " plan {params.folder:q} {params.out:q} --survey {params.survey:q}"
        " --size {params.size}"


rule shard:
    input:
        ancient(f"{OUT}/shards/plan.json"),
    output:
        OUT + "/shards/{number}.npz",
    params:
        out=OUT,
    wildcard_constraints:
        number=r"\d{5}",
    threads: 1
    shell:
        BUILD + " shard {params.out:q} {wildcards.number}"
