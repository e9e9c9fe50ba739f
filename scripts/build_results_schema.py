#!/usr/bin/env python3
"""Write docs/results.schema.json, the JSON Schema of results.json; with --check say whether it is current.

scripts/build_results_schema.py [--check]
"""

import json
import sys
from pathlib import Path

from inklab.records.results import results_schema

SCHEMA = Path(__file__).resolve().parent.parent / "docs" / "results.schema.json"


def main(arguments: list[str]) -> int:
    """Write the schema, or check it."""
    text = json.dumps(results_schema(), indent=1, ensure_ascii=False) + "\n"
    if "--check" not in arguments:
        SCHEMA.write_text(text, encoding="utf-8")
        print(f"wrote {SCHEMA}")
        return 0
    is_current = SCHEMA.is_file() and SCHEMA.read_text(encoding="utf-8") == text
    state = "is current" if is_current else "is not current: run scripts/build_results_schema.py"
    print(f"docs/results.schema.json {state}")
    return 0 if is_current else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
