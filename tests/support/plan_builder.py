"""Plans without data: what is known of MNIST, and a guess at what preflight checks find."""

from inklab.records.components import Preprocessing
from inklab.records.execution import ExecutionConfig, NetworkTraits
from inklab.records.plan import DataInfo, Plan, SplitCounts
from inklab.study.load import parse_study, read_study
from inklab.study.planner import distinct_configs, plan_study
from inklab.study.spec import StudySpec

MNIST = DataInfo(
    dataset="mnist", sha256="f" * 64, shape=(1, 28, 28), labels=tuple("0123456789"), mean=0.13, std=0.31,
    counts=SplitCounts(train=(5500,) * 10, validation=(500,) * 10, test=(1000,) * 10),
    preprocessing=Preprocessing(),
)  # fmt: skip
EXECUTION = ExecutionConfig(precision="bf16")
NET = {"network": "mlp", "recipe": {"base": "sgd", "epochs": 2}, "replicates": 2}


def networks_of(spec, data=MNIST, execution=EXECUTION, **changes) -> dict[str, NetworkTraits]:
    """What preflight checks would find of small networks, of which all but the cnn can be stacked."""
    usual = {"vmappable": True, "uses_global_rng": False, "parameters": 1_000, "macs": 1_000_000}
    return {
        key: NetworkTraits(**{**usual, "has_convolutions": config.network.name == "cnn", **changes})
        for key, config in distinct_configs(spec, data, execution).items()
    }


def plan_spec(spec: StudySpec, profile="plain", *, data=MNIST, execution=EXECUTION, **changes) -> Plan:
    """The plan of a study; `changes` are of what preflight checks find."""
    return plan_study(spec, profile, data, execution, networks_of(spec, data, execution, **changes))


def plan_digits(*overrides, profile="full", data=MNIST, execution=EXECUTION) -> Plan:
    """The plan of the study digits."""
    loaded = read_study("digits", profile=profile, overrides=overrides)
    return plan_spec(loaded.spec, loaded.profile, data=data, execution=execution)


def plan_experiments(experiments, *, data=MNIST, execution=EXECUTION, traits=None, **study) -> Plan:
    """The plan of a study with some experiments, given as TOML tables."""
    spec = parse_study({"name": "s", "experiments": experiments, **study}, "s")
    return plan_spec(spec, data=data, execution=execution, **(traits or {}))


def first_config(plan: Plan, experiment: str):
    """The configuration of an experiment's first setting."""
    (planned,) = (row for row in plan.training if row.name == experiment)
    return plan.configs[planned.settings[0].config]
