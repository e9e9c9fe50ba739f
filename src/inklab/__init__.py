"""inklab: a laboratory for small-image neural networks.

    >>> import inklab
    >>> run = inklab.run("digits", profile="quick")                      # doctest: +SKIP
    >>> run.compare("mlp-500-300", "mlp-64-64")                          # doctest: +SKIP
    >>> run.model("cnn").predict("photo.png")                            # doctest: +SKIP

Names are loaded when they are first used, so `import inklab` takes a few milliseconds and loads neither
torch nor NumPy.
"""

from importlib import import_module

TYPE_CHECKING = False  # for type checkers it is true; `typing` takes longer to import than all of this
if TYPE_CHECKING:
    from inklab import corruptions as corruptions
    from inklab import datasets as datasets
    from inklab import stats as stats
    from inklab.api import load as load
    from inklab.api import robustness_curve as robustness_curve
    from inklab.api import run as run
    from inklab.api import train as train
    from inklab.corruptions.corruption import corruption as corruption
    from inklab.corruptions.filters import image_filter as image_filter
    from inklab.data.dataset import Dataset as Dataset
    from inklab.data.sources import dataset as dataset
    from inklab.errors import InklabError as InklabError
    from inklab.evaluation.samplers import sampler as sampler
    from inklab.metrics import metric as metric
    from inklab.model import TrainedModel as TrainedModel
    from inklab.networks.network import network as network
    from inklab.records.components import NetworkConfig as NetworkConfig
    from inklab.records.components import NormalizeConfig as NormalizeConfig
    from inklab.records.estimates import Difference as Difference
    from inklab.records.estimates import Estimate as Estimate
    from inklab.records.recipe import Augmentation as Augmentation
    from inklab.records.recipe import CorruptionConfig as CorruptionConfig
    from inklab.records.recipe import EarlyStopping as EarlyStopping
    from inklab.records.recipe import Recipe as Recipe
    from inklab.runs import Run as Run
    from inklab.study.spec import CorruptionErrorExperiment as CorruptionErrorExperiment
    from inklab.study.spec import DataExperiment as DataExperiment
    from inklab.study.spec import FindingsExperiment as FindingsExperiment
    from inklab.study.spec import GenerationExperiment as GenerationExperiment
    from inklab.study.spec import RobustnessExperiment as RobustnessExperiment
    from inklab.study.spec import TrainingExperiment as TrainingExperiment
    from inklab.study.study import Study as Study
    from inklab.training.augmentations import augmentation as augmentation
    from inklab.training.learning_rate_range import LearningRateRange as LearningRateRange
    from inklab.training.learning_rate_range import learning_rate_range as learning_rate_range
    from inklab.training.objectives import objective as objective

__version__ = "0.1.0"

_MODULES = ("corruptions", "datasets", "stats")
"""Modules that are part of the API."""

_HOMES = {
    "run": "api", "train": "api", "load": "api", "robustness_curve": "api",
    "Run": "runs", "TrainedModel": "model", "Study": "study.study",
    "TrainingExperiment": "study.spec", "RobustnessExperiment": "study.spec",
    "GenerationExperiment": "study.spec", "CorruptionErrorExperiment": "study.spec",
    "DataExperiment": "study.spec", "FindingsExperiment": "study.spec",
    "Recipe": "records.recipe", "Augmentation": "records.recipe", "CorruptionConfig": "records.recipe",
    "EarlyStopping": "records.recipe", "LearningRateRange": "training.learning_rate_range",
    "learning_rate_range": "training.learning_rate_range", "augmentation": "training.augmentations",
    "NetworkConfig": "records.components", "NormalizeConfig": "records.components",
    "Estimate": "records.estimates", "Difference": "records.estimates",
    "Dataset": "data.dataset", "InklabError": "errors",
    "corruption": "corruptions.corruption", "image_filter": "corruptions.filters", "dataset": "data.sources",
    "network": "networks.network", "objective": "training.objectives", "sampler": "evaluation.samplers",
    "metric": "metrics",
}  # fmt: skip
"""Where each public name is defined, below `inklab`."""

__all__ = sorted([*_MODULES, *_HOMES])


def __getattr__(name: str) -> object:
    """A public name, loaded when it is first used (PEP 562)."""
    if name in _MODULES:
        return import_module(f"inklab.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'inklab' has no attribute '{name}'")
    value = getattr(import_module(f"inklab.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
