"""A report as one HTML file: no script, nothing from the network, light and dark."""

from __future__ import annotations

from pathlib import Path

from kws.artifact import write_text
from kws.report.facts import ReportFacts
from kws.report.sections import sections, summary
from kws.terminal import visible

PAGE_NAME = "report.html"
TEMPLATE_FOLDER = Path(__file__).parent
TEMPLATE_NAME = "report.html.j2"


def render_page(facts: ReportFacts) -> str:
    """The same facts give the same text. Labels, paths and versions are escaped."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATE_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(TEMPLATE_NAME).render(
        title=visible(str(facts.benchmark["build"])),
        figures=summary(facts),
        sections=sections(facts),
        versions=dict(facts.versions),
    )


def write_page(folder: Path, facts: ReportFacts) -> Path:
    """Write `folder`/report.html and return its path."""
    write_text(folder / PAGE_NAME, render_page(facts))
    return folder / PAGE_NAME
