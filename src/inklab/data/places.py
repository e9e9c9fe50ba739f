"""Where data may lie on this machine, and whether the network may be asked."""

import os
from pathlib import Path


def data_folder() -> Path | None:
    """The folder that the user named by `INKLAB_DATA_DIR`, if any."""
    named = os.environ.get("INKLAB_DATA_DIR")
    return Path(named).expanduser() if named else None


def is_offline() -> bool:
    """Whether `INKLAB_OFFLINE` forbids the network; unset, empty and 0 allow it."""
    return os.environ.get("INKLAB_OFFLINE", "") not in ("", "0")
