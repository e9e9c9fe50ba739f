"""JavaScript that the server's page and the report share: as files to serve, or inlined into one script."""

import re
from pathlib import Path

FOLDER = Path(__file__).parent
MODULES = ("drawing.js", "preprocessing.js", "maps.js", "noise.js")
"""A drawing pad, what makes an image of a drawing, weights and activations as images, and noise."""

IMPORT = re.compile(r'import \{[\w, ]+\} from "\./[\w-]+\.js";\n', re.MULTILINE)
EXPORT = re.compile(r"^export (?=(?:async )?function\b|class\b|const\b)", re.MULTILINE)
FORBIDDEN = re.compile(r"^\s*(?:import|export)\b.*|</script.*|<!--.*", re.MULTILINE | re.IGNORECASE)


def source(name: str) -> str:
    """The text of one module, one of `MODULES`.

    Example:
        >>> "export class Pad" in source("drawing.js")
        True
    """
    return (FOLDER / name).read_text(encoding="utf-8")


def inline_modules(*modules: str) -> str:
    r"""Modules as one script for `<script type="module">`: without imports and exports, in one scope.

    Top-level names of all modules must differ; otherwise a browser rejects the whole script.

    Args:
        modules: their texts, each after those that it imports.

    Raises:
        ValueError: an import or export has another form (one line, names in braces; in front of a function,
            class or constant), or the text contains something that ends a script in a page.

    Example:
        >>> inline_modules("export const one = 1;\n", 'import { one } from "./one.js";\nlet two = one + 1;\n')
        'const one = 1;\n\nlet two = one + 1;\n'
    """
    script = "\n".join(EXPORT.sub("", IMPORT.sub("", module)) for module in modules)
    if forbidden := FORBIDDEN.search(script):
        raise ValueError(f"a script in a page can't contain: {forbidden[0].strip():.80}")
    return script
