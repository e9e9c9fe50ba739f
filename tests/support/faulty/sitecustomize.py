"""Put on PYTHONPATH, this lets a process meet a fault on its way to the disk (see disk_faults.py)."""

import os

if "INKLAB_TEST_FAULT" in os.environ:
    import disk_faults

    disk_faults.install(os.environ["INKLAB_TEST_FAULT"])
if "INKLAB_TEST_REFUSAL" in os.environ:
    import disk_faults

    disk_faults.install_refusal(os.environ["INKLAB_TEST_REFUSAL"])
