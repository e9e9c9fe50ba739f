"""The pad's JavaScript, as files to be served or as one script to be written into a page."""

import re
from pathlib import Path

HOME = Path(__file__).parent
MODULES = ("drawing.js", "framing.js")
"""What there is: a pad to draw on, and what makes an image of a drawing."""

IMPORT = re.compile(r'import \{[\w, ]+\} from "\./[\w-]+\.js";\n', re.MULTILINE)
EXPORT = re.compile(r"^export (?=(?:async )?function\b|class\b|const\b)", re.MULTILINE)
LEFT = re.compile(r"^\s*(?:import|export)\b.*|</script.*|<!--.*", re.MULTILINE | re.IGNORECASE)


def source(name: str) -> str:
    """The text of one module, one of `MODULES`.

    Example:
        >>> "export class Pad" in source("drawing.js")
        True
    """
    return (HOME / name).read_text(encoding="utf-8")


def inlined(*modules: str) -> str:
    r"""Modules as one script for `<script type="module">`: without imports and exports, in one scope.

    So names at the top of two of them must differ; a browser refuses the whole script otherwise.

    Args:
        modules: their texts; what one imports must stand in those before it.

    Raises:
        ValueError: an import or export in another form than ours (one line, names in braces; before a
            function, a class or a constant), or something that would end a script in a page.

    Example:
        >>> inlined("export const two = 2;\n", 'import { two } from "./two.js";\nconst four = 2 * two;\n')
        'const two = 2;\n\nconst four = 2 * two;\n'
    """
    script = "\n".join(EXPORT.sub("", IMPORT.sub("", module)) for module in modules)
    if left := LEFT.search(script):
        raise ValueError(f"this can't stand in a page's script: {left[0].strip():.80}")
    return script
