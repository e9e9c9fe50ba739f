"""What every test may count on: one thread, no traces outside of temporary folders, made-up digits.

inklab is imported inside the fixtures only, after pytest has put the run-time check of annotations in place.
"""

import gc
import os
import signal
import sys
from contextlib import ExitStack
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: bits may depend on the number of threads

import numpy as np
import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("suite", deadline=None)  # a busy machine is no failure
settings.load_profile("suite")
sys.path.insert(
    0, str(Path(__file__).parent / "support")
)  # what several tests need, and processes that they start


def pytest_configure():
    """Collecting makes a million objects; garbage collection took a third of that time."""
    gc.disable()


def pytest_collection_finish():
    """They stay to the end."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def ctrl_c():
    """Ctrl-C reaches the processes that tests start, also where a shell runs the suite in the background.

    There SIGINT is ignored, and what the suite starts would inherit that.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def user_directories(tmp_path_factory):
    """For a session, the user's cache and runs lie elsewhere, also for processes that tests start."""
    matplotlib_home = os.environ.get("MPLCONFIGDIR") or os.path.expanduser("~/.cache/matplotlib")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("INKLAB_RUNS_DIR", str(tmp_path_factory.mktemp("runs")))
        patch.setenv("MPLCONFIGDIR", matplotlib_home)  # its list of fonts costs seconds and is not ours
        _know_this_machine()
        yield


def _know_this_machine() -> None:
    """Runs of the suite do not look at the machine, 20 s, and compile only where a test asks for it."""
    from inklab.study.resources import default_profile, profile_path

    default_profile().write(profile_path())


@pytest.fixture(scope="module", autouse=True)
def registries():
    """What a module's tests register, such as a corruption of an example, is forgotten after them."""
    from inklab.corruptions.corruption import corruptions
    from inklab.corruptions.filters import filters
    from inklab.data.sources import datasets
    from inklab.evaluation.samplers import samplers
    from inklab.networks.network import networks
    from inklab.training.objectives import objectives

    with ExitStack() as stack:
        for registry in (corruptions, filters, datasets, samplers, networks, objectives):
            stack.enter_context(registry.temporary())
        yield
    for name in [name for name in sys.modules if name.startswith("inklab_user_")]:
        del sys.modules[name]  # so that it registers again


@pytest.fixture(scope="session")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """`(300, 1, 12, 12)` bytes and `(300,)` labels: ten blurred glyphs, moved, dimmed, spotted."""
    from synthetic_training import glyphs

    return glyphs(300, seed=1)


@pytest.fixture(scope="session")
def data(digits):
    """The made-up digits, split: 200 to train on (so the last batch of an epoch is smaller), 40 and 60."""
    from synthetic_training import training_data

    return training_data(*digits, train=200, validation=40)


@pytest.fixture(scope="session")
def small_data(digits):
    """Three batches of 32 and one of 8 to train on, and 20 images to validate with."""
    from synthetic_training import training_data

    return training_data(*(part[:124] for part in digits), train=104, validation=20)


@pytest.fixture
def cli(capsys):
    """Type a command in this process: `(exit code, stdout, stderr)`."""
    from inklab.cli.main import main

    def type_(*words):
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        return ended.value.code, *capsys.readouterr()

    return type_


@pytest.fixture(scope="session")
def toy_report(tmp_path_factory):
    """The shared toy run, with its report but without figures."""
    import toy_run

    from inklab.runs import Run

    return _write_report(Run(toy_run.copied(tmp_path_factory.mktemp("run") / "toy")))


@pytest.fixture(scope="session")
def pad_report(tmp_path_factory):
    """A run with networks of the digits study's sizes, and its report."""
    from pad_runs import DENOISER, MLP, pad_run

    return _write_report(pad_run(tmp_path_factory.mktemp("run"), MLP, DENOISER))


def _write_report(run):
    """The same run, with its report but without figures."""
    from inklab.io.files import write_atomic
    from inklab.report import build_report

    write_atomic(run.path / "report.html", build_report(run, {}))
    return run
