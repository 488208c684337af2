# Chapter -> artefacts -> chapter -> site. One rule a chapter, made from what the chapter imports.
#
#   snakemake --cores 2 --config profile=quick
#
# Snakemake deletes what a failed rule declares as its output, so a rule declares a `.done` file
# alone: `report.run` moves the notebook itself, and book/ is never a rule's output.
import sys
from pathlib import Path

from stellarbook.report import chapters

PROFILE = config.get("profile", "quick")
RUN = f"runs/{PROFILE}"
# A chapter that loads what another one trained names it here: {"11_…": ["10_…"]}.
NEEDS = {
    "05_desa_tasks": ["04_dualformer"],
    "11_star_transformer_tasks": ["10_star_transformer"],
}
# This environment's, whatever PATH says.
BOOK = str(Path(sys.executable).with_name("jupyter-book"))
PAGES = sorted(str(p) for p in Path("book").rglob("*") if p.is_file() and p.suffix != ".ipynb")


def modules(name):
    import nbformat

    notebook = nbformat.read(f"chapters/{name}.ipynb", 4)
    files = {"stellarbook.report.run": chapters.ROOT / "stellarbook/report/run.py"}
    files |= chapters.modules(notebook)
    return sorted(str(file.relative_to(chapters.ROOT)) for file in files.values())


rule site:
    input:
        expand(RUN + "/{name}.done", name=chapters.names()),
        "_config.yml",
        "_toc.yml",
        PAGES,
        sorted(map(str, Path("stellarbook").rglob("*.py"))),  # the site shows the API
    output:
        f"_build/{PROFILE}/site.done",
    shell:
        "source=$({sys.executable:q} -m stellarbook.report.publish site --profile {PROFILE})"
        " && {BOOK:q} build $source --path-output _build/{PROFILE} -W -n --keep-going -q"
        " && touch {output}"
        " && echo Read it: _build/{PROFILE}/_build/html/index.html"


for name in chapters.names():

    rule:
        name:
            f"chapter_{name}"
        input:
            f"chapters/{name}.ipynb",
            modules(name),
            expand(RUN + "/{needed}.done", needed=NEEDS.get(name, [])),
        output:
            f"{RUN}/{name}.done",
        params:
            name=name,
            values=chapters.parameters(name, PROFILE),
        # Where every chapter is small, two at a time, each on one thread.
        threads: max(1, (workflow.cores + 1) // 2) if PROFILE == "quick" else workflow.cores
        shell:
            f"OMP_NUM_THREADS={1 if PROFILE == 'quick' else '{threads}'}"
            " {sys.executable:q} -m stellarbook.report.run {params.name}"
            " --profile {PROFILE} && touch {output}"
