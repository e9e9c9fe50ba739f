"""Compiled training steps: compiled once for each shape, and kept for every process and later run.

The way of a step from Python to machine code:

    TrainStep                 a pure Python function of (state, batch, dropout keys, hyperparameters)
        |  _trace             make_fx records its tensor operations as a graph. The graph writes the new state
        |                     into the old one's tensors: weights stay in the cache, and need no second copy.
        v
    torch.fx graph
        |  _materialize_amax_inputs     have the inputs of maxima written to memory; their gradient is NaN
        |                               otherwise (see there)
        v
    corrected graph
        |  compiled_name      a SHA-256 of everything the machine code depends on: the graph, its constants,
        |                     shapes and strides of arguments, torch, threads, processor, options. So nothing
        |                     stale is ever run, and equal steps of different studies share a program.
        v
    <cache>/programs/<name>.pt2
        |  FileLock           of several processes that want the same program, one compiles it
        |  _compile           torch.export, then AOTInductor: C++ and a C++ compiler, 15 to 30 s
        |  _load              milliseconds; no part of the compiler is imported
        v
    CompiledStep.__call__     runs it on the state's own tensors

A process also keeps what it has loaded, by the caller's `cache_key`, and then skips even the trace (1 s).

Everything below `CompiledStep` depends on parts of torch that are private or may change:
`torch.utils._pytree`, `torch._inductor`, `torch._C._aoti`. It is known to work with torch 2.13, and a test
fails on any other minor version as a reminder to check. Where compiling fails, for whatever reason, training
runs uncompiled.
"""

import hashlib
import os
import warnings
from collections.abc import Sequence
from contextlib import suppress
from itertools import permutations
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from filelock import FileLock
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree

from inklab.errors import format_error
from inklab.hardware import cpuinfo_field
from inklab.io.files import cache_dir, write_atomic
from inklab.training.accelerators import device_name
from inklab.training.objectives import Batch
from inklab.training.optimizers import HyperParams, Tensors
from inklab.training.step import State, Step

TESTED_TORCH = "2.13"
"""The minor version of torch that this module is known to work with."""

REALIZE_THRESHOLD = 6
"""Operations after which a convolutional program stores what is used twice, instead of computing it again.

With the compiler's default of 30, dropout's mask is computed for each of the nine pixels of a pooling window:
12 ms of a step instead of 1. Dense programs have no such windows, and are a tenth faster with 30.
"""


class CompileError(RuntimeError):
    """A step could not be compiled; the message is one line, the cause an error of torch or the system."""


class CompiledStep:
    """A pure step together with the state that it advances, in place once the step is compiled."""

    def __init__(self, step: Step, state: State) -> None:
        self.step, self.state = step, state
        self._program: _Program | None = None
        self._shape = torch.Size()
        self._state_leaves: list[Tensor] = []

    @property
    def compiled(self) -> bool:
        """Whether batches of the shape that it was compiled for run a compiled program."""
        return self._program is not None

    def compile(
        self,
        batch: Batch,
        dropout_keys: Tensors,
        hyper: HyperParams,
        cache_key: str = "",
        folder: Path | None = None,
    ) -> None:
        """Load the compiled program for batches of this shape; compile it if this machine has not yet.

        The last batch of an epoch, which may be smaller, runs uncompiled. `cache_key` identifies everything
        that decides about the step except shapes: what this process has compiled under it is not even traced
        again. Programs are kept in `folder`, by default in the user's cache.

        Raises:
            CompileError: tracing, compiling or loading failed; the step still runs uncompiled.
        """
        arguments = _pytree.tree_leaves((self.state, batch, dropout_keys, hyper))
        key = (cache_key, *(_signature(tensor) for tensor in arguments))
        if not cache_key or key not in _PROGRAMS:
            try:
                graph = _trace(self.step, self.state, batch, dropout_keys, hyper)
                _PROGRAMS[key] = _load_or_compile(graph, arguments, folder or cache_dir("programs"))
            except Exception as error:  # torch and C++ compilers raise all kinds
                raise CompileError(format_error(error)[:300]) from error
        self._program, self._shape = _PROGRAMS[key], batch.labels.shape
        self._state_leaves = _pytree.tree_leaves(self.state)  # the program changes these and no others

    def __call__(self, batch: Batch, dropout_keys: Tensors, hyper: HyperParams) -> Tensor:
        """Take one step; the losses, as of `Step`."""
        if self._program is None or batch.labels.shape != self._shape:
            state, losses = self.step(self.state, batch, dropout_keys, hyper)
            self.set_state(state)
            return losses
        return self._program.boxed_run([*self._state_leaves, *batch, *dropout_keys.values(), *hyper])[0]

    def set_state(self, state: State) -> None:
        """Let the next step start from another state.

        A compiled program reads its own memory in its own layout, so new values are copied there.
        """
        if self._program is None:
            self.state = state
            return
        for old, new in zip(self._state_leaves, _pytree.tree_leaves(state), strict=True):
            old.copy_(new)


@runtime_checkable
class _Program(Protocol):
    """A compiled program as torch loads it."""

    def boxed_run(self, inputs: list[Tensor], /) -> list[Tensor]:
        """Run it; the list is emptied."""


_PROGRAMS: dict[tuple[object, ...], _Program] = {}
"""Programs that this process has loaded."""


def _trace(step: Step, state: State, batch: Batch, dropout_keys: Tensors, hyper: HyperParams) -> GraphModule:
    """The step as a graph that changes the state's tensors in place and returns the losses."""
    leaves, structure = _pytree.tree_flatten((state, batch, dropout_keys, hyper))

    def flat_step(*tensors: Tensor) -> Tensor:
        before, *rest = _pytree.tree_unflatten(list(tensors), structure)
        after, losses = step(before, *rest)
        for old, new in zip(_pytree.tree_leaves(before), _pytree.tree_leaves(after), strict=True):
            old.copy_(new)
        return losses

    # Tracing runs the step once, so it gets copies.
    graph: GraphModule = make_fx(flat_step)(*[leaf.clone() for leaf in leaves])
    _materialize_amax_inputs(graph)
    return graph


def _materialize_amax_inputs(graph: GraphModule) -> None:
    """Have everything that is compared with its own maximum written to memory.

    The gradient of `amax` compares values with their maximum. The compiler would compute the values again for
    the comparison, in fp32, while the maximum in memory was rounded to bf16: none is equal, and the gradient
    is divided by a count of 0. Only outputs of a program are sure to be written, so these values become
    outputs, after the losses. It is faster, too.
    """
    compared = dict.fromkeys(  # an ordered set, since the program's name depends on its code
        values
        for node in graph.graph.nodes
        if node.target is torch.ops.aten.eq.Tensor
        for values, maximum in permutations(map(_base_node, node.args))
        if isinstance(maximum, Node) and values in map(_base_node, maximum.all_input_nodes)
    )
    half = (torch.bfloat16, torch.float16)
    nodes = [node for node in compared if isinstance(node, Node) and node.op != "placeholder"]
    outputs = [node for node in nodes if node.meta["val"].dtype in half]
    if outputs:
        output = graph.graph.output_node()
        output.args = ((output.args[0], *outputs),)
        graph.recompile()


def _base_node(node: object) -> object:
    """The node whose memory a node is a view of; anything else as it is."""
    while isinstance(node, Node) and getattr(node.target, "is_view", False):
        node = node.args[0]
    return node


def _load_or_compile(graph: GraphModule, arguments: Sequence[Tensor], folder: Path) -> _Program:
    """The compiled program; compiled if it is missing or damaged."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)  # no other user may put code here that this user runs
    path = folder / f"{compiled_name(graph, arguments)}.pt2"
    with FileLock(path.with_suffix(".lock")):  # the system releases it if this process dies
        index = next((tensor.device.index for tensor in arguments if tensor.device.index is not None), -1)
        with suppress(Exception):  # missing or damaged
            return _load(path, index)
        _compile(graph, arguments, path)
        return _load(path, index)


def compiled_name(graph: GraphModule, arguments: Sequence[Tensor]) -> str:
    """A hash of everything that a compiled program depends on."""
    digest = hashlib.sha256(graph.code.encode())
    digest.update(repr([_signature(tensor) for tensor in arguments]).encode())
    for name, value in sorted(graph.state_dict().items()):  # constants that were built into the graph
        raw = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        digest.update(f"{name} {value.dtype} {value.shape}".encode() + raw)
    digest.update(repr((torch.__version__, torch.get_num_threads(), _options(graph))).encode())
    # Instruction sets of the processor: unlike machines may share a home directory.
    digest.update(f"{cpuinfo_field('model name')} {cpuinfo_field('flags')}".encode())
    digest.update(" ".join(sorted({device_name(tensor.device) for tensor in arguments})).encode())
    return digest.hexdigest()[:32]


def _signature(tensor: Tensor) -> tuple[object, ...]:
    """What a compiled program assumes about an argument."""
    return tuple(tensor.shape), tensor.stride(), tensor.dtype, str(tensor.device)


def _options(graph: GraphModule) -> dict[str, int]:
    has_convolutions = any(node.target is torch.ops.aten.convolution.default for node in graph.graph.nodes)
    return {"realize_opcount_threshold": REALIZE_THRESHOLD} if has_convolutions else {}


def _compile(graph: GraphModule, arguments: Sequence[Tensor], path: Path) -> None:
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(path.parent / "inductor"))
    draft = path.with_suffix(f".{os.getpid()}.pt2")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates its own parts
        from torch._inductor import aoti_compile_and_package

        exported = torch.export.export(graph, tuple(arguments), strict=False)
        aoti_compile_and_package(exported, package_path=str(draft), inductor_configs=_options(graph))
    write_atomic(path, draft.read_bytes())
    draft.unlink()


def _load(path: Path, device_index: int) -> _Program:
    # Not `torch._inductor.aoti_load_package`: that imports the compiler, 3 s, to call this.
    from torch._C._aoti import AOTIModelPackageLoader

    program: _Program = AOTIModelPackageLoader(str(path), "model", False, 1, device_index)
    return program
