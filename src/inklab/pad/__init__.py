"""The drawing pad: JavaScript that the report and the page share, and what hands it out."""

from inklab.pad.sources import MODULES, inlined, source

__all__ = ["MODULES", "inlined", "source"]
