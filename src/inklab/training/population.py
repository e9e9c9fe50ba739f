"""A population: trials that are trained together as the members of one program."""

import copy
import fnmatch
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import nn

from inklab.networks.layers import Normalize, NormalizedModel, for_inference, key_names
from inklab.networks.network import build_network
from inklab.records.execution import CPU
from inklab.records.plan import Trial
from inklab.records.recipe import Recipe, TrialConfig
from inklab.records.record import Shape
from inklab.seeding import Seed
from inklab.training.accelerators import move
from inklab.training.batches import BatchLoader, TrainingData
from inklab.training.objectives import objectives
from inklab.training.optimizers import HyperSchedule, Tensors, make_optimizer
from inklab.training.step import State, TrainStep

MIN_POPULATION = 2  # one member in a batched product takes another kernel, which differs in the last bits


@dataclass(frozen=True)
class PopulationSpec:
    """Trials that are trained with one program, and how.

    Attributes:
        trials: they differ in the replicate and in `VECTOR_SETTINGS` of their recipes only.
        stacked: all members at once in one vectorized program; otherwise one after the other.
        reseed_each_step: the network draws from torch's global generator, which is then seeded in each step.
        seed: the study's root seed.
        population_size: members that a stacked program has room for. Missing ones are filled with copies, so
            that a smaller population runs the program that was compiled for a larger one.
        compiled: compile the program. If that fails, it runs uncompiled, and the results say why.
        device: that it runs on, as torch names it.
    """

    trials: Sequence[Trial]
    stacked: bool
    reseed_each_step: bool
    seed: int
    population_size: int = MIN_POPULATION
    compiled: bool = False
    device: str = CPU

    @property
    def torch_device(self) -> torch.device:
        """The device, as torch has it."""
        return torch.device(self.device)

    @property
    def members(self) -> list[Trial]:
        """The trials, followed by copies of the last one that fill a stacked program."""
        missing = max(self.population_size, MIN_POPULATION) - len(self.trials) if self.stacked else 0
        return [*self.trials, *[self.trials[-1]] * missing]


class StepParts(NamedTuple):
    """Parts of a step that are left out where no member needs them."""

    momentum: bool
    l2: bool
    clipping: bool
    average: bool

    @classmethod
    def of(cls, recipes: Sequence[Recipe]) -> "StepParts":
        """What some member needs."""
        return cls(
            any(recipe.momentum for recipe in recipes),
            any(recipe.l2 for recipe in recipes),
            any(recipe.clip_norm is not None for recipe in recipes),
            any(recipe.ema_decay is not None for recipe in recipes),
        )


@dataclass(frozen=True)
class Population:
    """Everything a training needs that does not change during it.

    Member k is trial k of the specification; members after the last trial are copies without a result.

    Attributes:
        spec: the specification that it was built from.
        seeds: one seed for each member.
        net: the first member's network; supplies the module structure.
        step: the training step, a pure function.
        init_state: the state before the first step.
        batches: loader of the batches of each epoch.
        schedule: learning rates and other hyperparameters of each step.
    """

    spec: PopulationSpec
    seeds: Sequence[Seed]
    net: NormalizedModel
    step: TrainStep
    init_state: State
    batches: BatchLoader
    schedule: HyperSchedule

    @classmethod
    def build(cls, spec: PopulationSpec, data: TrainingData) -> "Population":
        """Build the networks and everything else, and move them to the device; without side effects.

        Weights are drawn on the processor, so that they are the same for every device.
        """
        config, members, device = spec.trials[0].config, spec.members, spec.torch_device
        data = data.to(device)
        recipes = [member.config.recipe for member in members]
        seeds = [Seed(spec.seed) / "replicate" / member.replicate for member in members]
        nets = [
            build_normalized(member.config, data.shape, len(data.labels), seed / "weights")
            for member, seed in zip(members, seeds, strict=True)
        ]
        parts = StepParts.of(recipes)
        recipe = config.recipe
        optimizer = make_optimizer(
            recipe.optimizer, float(parts.momentum), config.precision, nesterov=recipe.nesterov
        )
        ends_on_one = len(data.train) % recipe.batch_size == 1
        merge_single = ends_on_one and not trains_on_one_image(nets[0], data.shape)
        params, buffers = stack_states(nets) if spec.stacked else single_member(nets[0])
        params, buffers = _move_all(params, device), _move_all(buffers, device)
        net = nets[0].to(device)
        objective = objectives.resolve(recipe.objective)
        objective = objective.for_training(recipe, data.train.labels, len(data.labels))
        step = TrainStep(
            net,
            objective,
            optimizer,
            l2_param_names(net, recipe.l2_params) if parts.l2 else frozenset(),
            spec.stacked,
            config.precision,
            parts.clipping,
        )
        state = step.init_state(params, buffers, averaged=parts.average)
        batches = BatchLoader(data, recipe, seeds, stacked=spec.stacked, merge_single=merge_single)
        n_steps = recipe.epochs * len(batches)
        schedule = HyperSchedule(recipes, n_steps, stacked=spec.stacked, device=spec.device)
        return cls(spec, seeds, net, step, state, batches, schedule)

    @property
    def config(self) -> TrialConfig:
        """The configuration of the first trial; others differ from it as far as members may."""
        return self.spec.trials[0].config

    @property
    def recipe(self) -> Recipe:
        """The recipe of the first trial."""
        return self.config.recipe

    @property
    def n_trials(self) -> int:
        """Members that have a result."""
        return len(self.spec.trials)

    @property
    def cache_key(self) -> str:
        """Identifies the compiled step: everything that changes its graph except tensor shapes."""
        config, recipe, parts = self.config, self.recipe, StepParts.of(self.schedule.recipes)
        names = (
            recipe.objective, recipe.optimizer, recipe.nesterov, recipe.l2_params, recipe.corruption,
            recipe.augmentation and recipe.augmentation.function, recipe.label_smoothing,
            recipe.class_weights,
            self.batches.train.labels.bincount().tolist() if recipe.class_weights == "balanced" else None,
        )  # fmt: skip
        return repr((config.network, names, config.precision, self.spec.stacked, parts))

    def global_rng(self, epoch: int, step: int) -> AbstractContextManager[None]:
        """The global generators as a network that draws from them gets them in a step."""
        if not self.spec.reseed_each_step:
            return nullcontext()
        return (self.seeds[0] / "module" / epoch / step).as_global()

    def dropout_keys(self, epoch: int, step: int) -> Tensors:
        """A key for each dropout layer and member at a step."""
        keys = {}
        for name in self._key_names:
            drawn = [(seed / "dropout" / name / epoch / step).key for seed in self.seeds]
            key = torch.tensor(drawn if self.spec.stacked else drawn[0], dtype=torch.int32)
            keys[name] = move(key, self.spec.torch_device)
        return keys

    @cached_property
    def _key_names(self) -> list[str]:
        return key_names(self.net)

    def member_net(self, state: State, index: int) -> NormalizedModel:
        """The network of a member, in evaluation mode, sharing no memory with the state.

        Its weights are the averaged ones if the recipe has an average.
        """
        return self.net_with(self.net_tensors(state), index)

    def net_tensors(self, state: State) -> Tensors:
        """The parameters and buffers that the members' networks have in a state."""
        return {**state.params, **state.buffers, **state.average}

    def net_with(self, tensors: Tensors, index: int) -> NormalizedModel:
        """The network of a member with parameters and buffers as of `net_tensors`, in evaluation mode."""
        net = copy.deepcopy(self.net)
        with torch.no_grad():
            for name, value in [*net.named_parameters(), *net.named_buffers()]:
                source = tensors[name]
                value.copy_(source[index] if self.spec.stacked else source)
        return for_inference(net)


def build_normalized(config: TrialConfig, shape: Shape, n_classes: int, seed: Seed) -> NormalizedModel:
    """The network of a configuration, with normalization in front, in training mode."""
    net = build_network(config.network, shape, n_classes, seed)
    return NormalizedModel(Normalize.from_config(config.normalize), net).train()


def trains_on_one_image(net: NormalizedModel, shape: Shape) -> bool:
    """Whether a batch of one image gives finite outputs and gradients in training mode.

    BatchNorm may raise; a standard deviation over the batch is NaN, or has a gradient that is.
    """
    net = copy.deepcopy(net).train()
    image = torch.rand(1, *shape, generator=(Seed(0) / "rehearsal images").generator()).requires_grad_()
    inputs = [image, *(value for value in net.parameters() if value.requires_grad)]
    with Seed(0).as_global(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of too few degrees of freedom
        try:
            output = net(image)
            gradients = torch.autograd.grad(output.sum(), inputs, allow_unused=True)
        except Exception:  # what a module raises
            return False
    return all(bool(value.isfinite().all()) for value in [output, *gradients] if value is not None)


def stack_states(nets: Sequence[nn.Module]) -> tuple[Tensors, Tensors]:
    """Parameters and buffers of networks of one architecture, stacked: `{name: (members, ...)}` twice."""
    params, buffers = zip(*map(single_member, nets), strict=True)
    return _stack(params), _stack(buffers)


def _move_all(tensors: Tensors, device: torch.device) -> Tensors:
    return {name: move(value, device) for name, value in tensors.items()}


def _stack(members: Sequence[Tensors]) -> Tensors:
    return {name: torch.stack([tensors[name] for tensors in members]) for name in members[0]}


def single_member(net: nn.Module) -> tuple[Tensors, Tensors]:
    """Parameters and buffers of one network, copied, not stacked.

    Frozen parameters, those without `requires_grad`, count as buffers: nothing changes them.
    """
    params = {name: value.detach().clone() for name, value in net.named_parameters() if value.requires_grad}
    copies = {name: value.detach().clone() for name, value in [*net.named_parameters(), *net.named_buffers()]}
    return params, {name: value for name, value in copies.items() if name not in params}


def l2_param_names(net: nn.Module, patterns: Sequence[str]) -> frozenset[str]:
    """Full names of the kernels that L2 acts on; one-dimensional parameters such as biases never match.

    Shell patterns match names inside the network of a `NormalizedModel`, such as `hidden.*.weight`.
    """
    return frozenset(
        name
        for name, value in net.named_parameters()
        if value.dim() >= 2
        and value.requires_grad
        and any(fnmatch.fnmatchcase(name.removeprefix("net."), pattern) for pattern in patterns)
    )
