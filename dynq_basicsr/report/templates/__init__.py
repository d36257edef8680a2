"""The parts of the HTML report that are no Python: page, section, style sheet, script."""

from __future__ import annotations

from importlib.resources import files
from string import Template


def text(name: str) -> str:
    """The content of a file in this folder."""
    return files(__name__).joinpath(name).read_text(encoding='utf-8')


def template(name: str) -> Template:
    """A file in this folder that has ``$places`` to fill."""
    return Template(text(name))
