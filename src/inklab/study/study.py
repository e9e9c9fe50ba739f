"""A study as an object: read from TOML or built in Python, written back, and planned the same either way."""

import copy
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import tomli_w
from pydantic_core import to_jsonable_python

from inklab.errors import ConfigError
from inklab.io.files import write_atomic
from inklab.notebook import card, html_table
from inklab.study.load import ConfiguredStudy, Table, configure, merge_recipe_file, read_tables
from inklab.study.spec import AnyExperiment, Experiment, SmallDataRule, StudySpec
from inklab.usercode import reference

Profiles = Mapping[str, Mapping[str, object]]
"""Dotted keys and values by the name of a profile, such as `{"quick": {"cnn.replicates": 3}}`."""


class Study:
    """What to train and evaluate, on which images, and how often.

    A study built in Python is the same as the one in its TOML file: the trials have the same ids and numbers.

    Args:
        name: lower-case letters, digits, `-` and `_`; part of the run directory's path.
        experiments: by name, in the order of the report: records such as `TrainingExperiment(...)`, or tables
            as in TOML. A network, objective or corruption may be a Python object.
        title: the report's heading.
        description: one paragraph below it.
        seed: root of all randomness, in [0, 2**63).
        precision: "auto", "fp32" or "bf16".
        data: a dataset by name or path; `inklab.run(study, data=...)` takes arrays, too.
        validation: training images held out for choosing; by default 5,000 of 60,000.
        profiles: changes by name; the first is the default.
        small_data: what changes on few images.

    Raises:
        ConfigError: all mistakes in one message.

    Example:
        >>> from inklab.study.spec import TrainingExperiment
        >>> net = TrainingExperiment(network="mlp", grid={"recipe.l2": [0.0, 1e-4]}, replicates=5)
        >>> study = Study("weight-decay", {"mlp": net}, profiles={"quick": {"mlp.recipe.epochs": 2}})
        >>> study
        Study('weight-decay', experiments: mlp; profiles: quick)
        >>> study.spec.training["mlp"].replicates
        5
    """

    def __init__(
        self,
        name: str,
        experiments: Mapping[str, AnyExperiment | Mapping[str, object]],
        *,
        title: str = "",
        description: str = "",
        seed: int = 0,
        precision: str = "auto",
        data: str = "default",
        validation: int | None = None,
        profiles: Profiles | None = None,
        small_data: SmallDataRule | None = None,
    ) -> None:
        table = {
            "name": name, "title": title, "description": description, "seed": seed, "precision": precision,
            "data": {"dataset": data, "validation": validation}, "profiles": profiles,
            "small_data": small_data,
            "experiments": {key: _to_table(value) for key, value in experiments.items()},
        }  # fmt: skip
        self._set(_without_none(to_jsonable_python(table, fallback=reference)), name, Path())
        self._plain  # noqa: B018  # reports mistakes where they are made

    def _set(self, table: Table, label: str, folder: Path, file: str = "") -> None:
        self._table, self._label, self._folder, self._file = table, label, folder, file

    @cached_property
    def _plain(self) -> ConfiguredStudy:
        """Without a profile. Not part of reading a file: a profile may complete the study."""
        return self.configure("plain")

    @classmethod
    def from_toml(cls, source: str | Path) -> "Study":
        """Read a study.

        Args:
            source: a built-in name, such as "digits", or the path of a TOML file.

        Raises:
            ConfigError: there is no such study, or it is not TOML. Other mistakes are reported, all in one
                message, when the study is used.
        """
        study = cls.__new__(cls)
        table, folder = read_tables(str(source))
        study._set(table, str(source), folder, str(source))
        return study

    def to_toml(self, path: str | Path | None = None) -> str:
        """The study as TOML, complete in itself: the content of recipe files that it names is put in.

        Args:
            path: where to write it, too.

        Raises:
            ConfigError: it contains Python objects, which a file can't hold.
            WriteError: the disk refuses.

        Example:
            >>> from inklab.study.spec import TrainingExperiment
            >>> print(Study("small", {"mlp": TrainingExperiment(network="mlp")}).to_toml())
            name = "small"
            seed = 0
            precision = "auto"
            <BLANKLINE>
            [data]
            dataset = "default"
            <BLANKLINE>
            [experiments.mlp]
            kind = "training"
            <BLANKLINE>
            [experiments.mlp.network]
            name = "mlp"
            <BLANKLINE>
        """
        table = copy.deepcopy(self._table)
        experiments = table["experiments"]
        assert isinstance(experiments, dict)  # it is validated
        for name, experiment in experiments.items():
            if _names_recipe_file(experiment):
                experiments[name] = merge_recipe_file(experiment, self._folder)
        text = tomli_w.dumps(table)
        if live := self.spec.live_objects:
            raise ConfigError(
                f"{', '.join(live)} are Python objects, which a TOML file can't hold; put them into a file "
                "and write file.py:Name"
            )
        if path is not None:
            write_atomic(Path(path), text.encode())
        return text

    def configure(self, profile: str | None = None, overrides: Sequence[str] = ()) -> ConfiguredStudy:
        """The study with a profile and overrides applied.

        Args:
            profile: one of `profiles`; the first if left out. "plain" applies none.
            overrides: such as "cnn.recipe.epochs=3", applied last.

        Raises:
            ConfigError: all mistakes in one message.
        """
        return configure(self._table, self._label, self._folder, profile=profile, overrides=overrides)

    @property
    def spec(self) -> StudySpec:
        """The validated study, without any profile."""
        return self._plain.spec

    @property
    def name(self) -> str:
        """Name of the study."""
        return self.spec.name

    @property
    def source(self) -> "str | Study":
        """The name or path that it was read from; the study itself if it was built in Python."""
        return self._file or self

    @property
    def profiles(self) -> tuple[str, ...]:
        """Names of its profiles."""
        profiles = self._table.get("profiles", {})
        return tuple(profiles) if isinstance(profiles, dict) else ()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Study):
            return NotImplemented
        return self._content == other._content

    __hash__ = None  # type: ignore[assignment]

    @property
    def _content(self) -> tuple[object, ...]:
        return self._plain, self._table.get("profiles", {})

    def __repr__(self) -> str:
        profiles = f"; profiles: {', '.join(self.profiles)}" if self.profiles else ""
        return f"Study({self.name!r}, experiments: {', '.join(self.spec.experiments)}{profiles})"

    def _repr_html_(self) -> str:
        rows = [(name, entry.kind, entry.title) for name, entry in self.spec.experiments.items()]
        return card(self.spec.title or self.name, html_table(("experiment", "kind", "title"), rows))


def _names_recipe_file(experiment: Mapping[str, object]) -> bool:
    """Whether its recipe is based on a file of the user's, which need not lie beside the written study."""
    recipe = experiment.get("recipe")
    base = recipe.get("base") if isinstance(recipe, dict) else recipe
    return str(base).endswith(".toml")


def _to_table(experiment: AnyExperiment | Mapping[str, object]) -> Mapping[str, object]:
    """What a study file would say of an experiment: only what was set."""
    if not isinstance(experiment, Experiment):
        return experiment
    return {"kind": experiment.kind, **experiment.model_dump(mode="json", exclude_unset=True)}


def _without_none(value: object) -> Table:
    """Without what was not given; TOML has no word for it."""
    assert isinstance(value, dict)
    return {
        key: _without_none(inner) if isinstance(inner, dict) else inner
        for key, inner in value.items()
        if inner is not None and inner != ""
    }
