"""The noise of the pages, in JavaScript: the pixels that Python gets, to the bit."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

import inklab
from inklab.corruptions.corruption import corruptions
from inklab.seeding import Seed

NODE = shutil.which("node")
NOISE = Path(inklab.__file__).parent / "web" / "noise.js"
SIZE = 784


@pytest.mark.skipif(NODE is None, reason="node is not installed")
def test_a_page_corrupts_as_python_does():
    """Large seeds too: the number of an image is a word of 32 bits."""
    cases = [[strength, seed] for strength in (0, 0.07, 0.3, 0.5, 1) for seed in (0, 1, 2, 9999, 2**31 - 1)]
    script = NOISE.read_text(encoding="utf-8").replace("export ", "") + (
        f"const gray = new Array({SIZE}).fill(0.5);"
        f"console.log(JSON.stringify({json.dumps(cases)}.map(([s, seed]) => corrupt(gray, s, seed))));"
    )
    done = subprocess.run([str(NODE), "-e", script], capture_output=True, text=True, check=True, timeout=60)
    gray = torch.full((1, 1, 28, 28), 0.5)
    for (strength, seed), pixels in zip(cases, json.loads(done.stdout), strict=True):
        draws = (Seed(0) / "pad").draws(first=int(seed))
        expected = corruptions["salt_and_pepper"](gray, float(strength), draws)
        assert torch.equal(torch.tensor(pixels), expected.flatten()), (strength, seed)
