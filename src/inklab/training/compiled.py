"""Steps as programs: run as they are, or compiled once a shape and kept for every worker and later run."""

import fcntl
import hashlib
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import permutations
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree

from inklab.hardware import cpuinfo_field
from inklab.io.atomic import cache_dir, write_atomic
from inklab.training.objectives import Batch
from inklab.training.optimizers import HyperParams, Tensors
from inklab.training.step import State, Step

REALIZE_THRESHOLD = 6
"""Operations after which a convolutional program keeps what is used twice, instead of computing it anew.

With the compiler's 30, dropout's mask is computed for each of the nine pixels of a pooling window: 12 ms of a
step instead of 1. Dense programs have no such windows, and are a tenth faster with 30.
"""


_LOADED: dict[tuple[object, ...], Any] = {}
"""Compiled programs that this process has run."""


class CompiledStep:
    """A step with the state that it moves on.

    Args:
        step: the pure function.
        state: where training stands; taken over, and changed in place if the program is compiled.
    """

    def __init__(self, step: Step, state: State) -> None:
        self.step, self.state = step, state
        self._compiled: Any = None

    @property
    def compiled(self) -> bool:
        """Whether batches like the one that it was compiled for run a compiled program."""
        return self._compiled is not None

    def compile(
        self, batch: Batch, keys: Tensors, hyper: HyperParams, known_as: str = "", folder: Path | None = None
    ) -> None:
        """Load the compiled form for batches of this shape, compiling it if this machine has not yet.

        A first compilation takes 15 to 30 s; later ones load in milliseconds. Two processes that want the
        same program compile it once.

        Args:
            batch: gives shapes; the last batch of an epoch, which may be smaller, runs uncompiled.
            keys: as the step takes them.
            hyper: as the step takes them.
            known_as: a name for everything that decides about the step, shapes aside. What this process has
                compiled under it is not even traced again, which saves a second.
            folder: where compiled programs are kept; in the user's cache if left out.

        Raises:
            Exception: whatever tracing or compiling raises; the program then still runs uncompiled.
        """
        given = _leaves(self.state, batch, keys, hyper)
        told = (known_as, *(each for tensor in given for each in _signature(tensor)))
        if not known_as or told not in _LOADED:
            graph = _traced(self.step, self.state, batch, keys, hyper)
            _LOADED[told] = _load_or_compile(graph, given, folder or cache_dir("programs"))
        self._compiled, self._shape = _LOADED[told], batch.labels.shape
        self._held = _pytree.tree_leaves(self.state)  # the program changes these and no others

    def __call__(self, batch: Batch, keys: Tensors, hyper: HyperParams) -> Tensor:
        """Take one step; the losses, as of `Step`."""
        losses: Tensor
        if self._compiled is None or batch.labels.shape != self._shape:
            after, losses = self.step(self.state, batch, keys, hyper)
            self.set_state(after)
            return losses
        losses = self._compiled.boxed_run([*self._held, *batch, *keys.values(), *hyper])[0]
        return losses

    def set_state(self, after: State) -> None:
        """Let the next step begin at another state.

        A compiled program reads memory where and as it was laid out, so new values are put there.
        """
        if self._compiled is None:
            self.state = after
            return
        for old, new in zip(_pytree.tree_leaves(self.state), _pytree.tree_leaves(after), strict=True):
            old.copy_(new)


def _leaves(state: State, batch: Batch, keys: Tensors, hyper: HyperParams) -> list[Tensor]:
    return _pytree.tree_leaves((state, batch, keys, hyper))


def _traced(step: Step, state: State, batch: Batch, keys: Tensors, hyper: HyperParams) -> GraphModule:
    """The step as a graph of tensor operations that changes the state's tensors in place and returns losses.

    In place, since that keeps weights where they lie in the cache and needs no memory for a second copy.
    """
    leaves, form = _pytree.tree_flatten((state, batch, keys, hyper))

    def flat(*tensors: Tensor) -> Tensor:
        before, *rest = _pytree.tree_unflatten(list(tensors), form)
        after, losses = step(before, *rest)
        for old, new in zip(_pytree.tree_leaves(before), _pytree.tree_leaves(after), strict=True):
            old.copy_(new)
        return losses

    # A trace runs the step once, so it gets copies.
    graph: GraphModule = make_fx(flat)(*[leaf.clone() for leaf in leaves])
    _materialize_amax_inputs(graph)
    return graph


def _materialize_amax_inputs(graph: GraphModule) -> None:
    """Have everything that is compared with its own maximum, as the gradient of `amax` is, written to memory.

    Else the compiler computes such values anew for the comparison, in fp32 and never rounded to bf16, as the
    maximum in memory was: none is equal, and the gradient is shared among none, 0 / 0. Only what a program
    gives back is sure to be written, so this gives them back, after the losses; it is faster, too.
    """
    compared = dict.fromkeys(  # a set in order, since programs are known by their code
        whole
        for node in graph.graph.nodes
        if node.target is torch.ops.aten.eq.Tensor
        for whole, largest in permutations(map(_base_node, node.args))
        if isinstance(largest, Node) and whole in map(_base_node, largest.all_input_nodes)
    )
    kept = [
        node
        for node in compared
        if node.op != "placeholder" and node.meta["val"].dtype in (torch.bfloat16, torch.float16)
    ]
    if kept:
        output = graph.graph.output_node()
        output.args = ((output.args[0], *kept),)
        graph.recompile()


def _base_node(node: Any) -> Any:
    """The node whose memory a node shows; what is no node is given back."""
    while isinstance(node, Node) and getattr(node.target, "is_view", False):
        node = node.args[0]
    return node


def _load_or_compile(graph: GraphModule, given: Sequence[Tensor], folder: Path) -> Any:
    """The compiled program, made if it is not there yet, or not what it should be."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)  # what lies here is run
    path = folder / f"{compiled_name(graph, given)}.pt2"
    with _file_lock(path.with_suffix(".lock")):
        with suppress(Exception):  # not there, or damaged: it is made anew
            return _load(path)
        _compile(graph, given, path)
        return _load(path)


def compiled_name(graph: GraphModule, given: Sequence[Tensor]) -> str:
    """A hash of everything that a compiled program depends on: content, so nothing stale is ever run."""
    told = hashlib.sha256(graph.code.encode())
    told.update(repr([_signature(tensor) for tensor in given]).encode())
    for name, value in sorted(graph.state_dict().items()):  # numbers that were built into the graph
        raw = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        told.update(f"{name} {value.dtype} {value.shape}".encode() + raw)
    told.update(repr((torch.__version__, torch.get_num_threads(), _options(graph))).encode())
    # What the processor can do: a home folder may be shared by unlike machines.
    told.update(f"{cpuinfo_field('model name')} {cpuinfo_field('flags')}".encode())
    return told.hexdigest()[:32]


def _signature(tensor: Tensor) -> tuple[object, ...]:
    """What a compiled program takes for granted of a tensor that it is given."""
    return tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.device.type


def _options(graph: GraphModule) -> dict[str, Any]:
    convolves = any(node.target is torch.ops.aten.convolution.default for node in graph.graph.nodes)
    return {"realize_opcount_threshold": REALIZE_THRESHOLD} if convolves else {}


@contextmanager
def _file_lock(path: Path) -> Iterator[None]:
    """Hold a lock file; the system lets go of it whatever becomes of this process."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _compile(graph: GraphModule, given: Sequence[Tensor], path: Path) -> None:
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(path.parent / "inductor"))
    draft = path.with_suffix(f".{os.getpid()}.pt2")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates its own parts
        from torch._inductor import aoti_compile_and_package

        exported = torch.export.export(graph, tuple(given), strict=False)
        aoti_compile_and_package(exported, package_path=str(draft), inductor_configs=_options(graph))
    write_atomic(path, draft.read_bytes())
    draft.unlink()


def _load(path: Path) -> Any:
    # Not `torch._inductor.aoti_load_package`: that imports the compiler, 3 s, to call this.
    from torch._C._aoti import AOTIModelPackageLoader

    return AOTIModelPackageLoader(str(path), "model", False, 1, -1)
