"""What a class or function computes, as text: two with the same text compute the same, in any session.

Of a user's own code its source counts, and everything that this refers to: defaults, closures, globals, base
classes. Of a library's the name and version.
"""

import ast
import builtins
import copyreg
import dis
import functools
import hashlib
import inspect
import json
import linecache
import sys
import textwrap
import types
from collections.abc import Iterator
from pathlib import Path

from inklab.imported_files import sha256_behind

Description = str | list[object]
"""Text, or a list of descriptions."""

ATOMS = (types.NoneType, bool, int, float, complex, str, bytes, types.EllipsisType, types.NotImplementedType)
DESCRIPTORS = (types.MemberDescriptorType, types.GetSetDescriptorType)
GENERATED = frozenset(
    "__module__ __dict__ __weakref__ __doc__ __qualname__ __firstlineno__ __static_attributes__ "
    "__annotations__ __annotate__ __annotate_func__ __annotations_cache__ _abc_impl __abstractmethods__ "
    "__dataclass_fields__ __dataclass_params__ __match_args__".split()
)
"""Attributes of a class that Python derives from others, or that compute nothing."""


class UnknownIdentityError(Exception):
    """An object refers to something that can't be described, such as an open file."""


class ObjectIdentity:
    """What an object computes.

    Args:
        value: a class, a function, or anything that can be called.

    Attributes:
        sha256: of its description.
        modules: names of the user's own modules that its code comes from.

    Raises:
        UnknownIdentityError: it refers to something that can't be described.

    Example:
        >>> double, same, triple = (lambda x: 2 * x), (lambda x: 2 * x), (lambda x: 3 * x)
        >>> ObjectIdentity(double).sha256 == ObjectIdentity(same).sha256
        True
        >>> ObjectIdentity(double).sha256 == ObjectIdentity(triple).sha256
        False
    """

    def __init__(self, value: object) -> None:
        self.modules: set[str] = set()
        self._order: dict[int, int] = {}
        self._kept: list[object] = []  # so that no other object gets an id that was seen
        try:
            description = self._describe(value)
        except RecursionError:
            raise UnknownIdentityError("it refers to objects nested too deeply") from None
        text = json.dumps([getattr(value, "__name__", ""), description])
        self.sha256 = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

    def _describe(self, value: object) -> Description:
        if type(value) in ATOMS:
            return [type(value).__name__, repr(value)]
        if type(value) in (tuple, list, set, frozenset):
            parts = [self._describe(item) for item in value]  # type: ignore[attr-defined]
            is_ordered = isinstance(value, tuple | list)
            return [type(value).__name__, *(parts if is_ordered else sorted(parts, key=json.dumps))]
        if isinstance(value, types.MappingProxyType) or type(value) is dict:
            return ["dict", *([self._describe(key), self._describe(value[key])] for key in value)]
        if id(value) in self._order:
            return ["seen", str(self._order[id(value)])]
        self._order[id(value)] = len(self._order)
        self._kept.append(value)
        return self._describe_once(value)

    def _describe_once(self, value: object) -> Description:
        match value:
            case types.ModuleType():
                return self._module(value)
            case types.FunctionType() | types.BuiltinFunctionType() | type() if _is_library_global(value):
                return ["library", value.__module__ or "", value.__qualname__, _version(value.__module__)]
            case types.BuiltinMethodType():  # of an object, such as `file.read`
                return ["method", value.__name__, self._describe(value.__self__)]
            case types.FunctionType():
                return self._function(value)
            case type():
                return self._class(value)
            case types.MethodType() | staticmethod() | classmethod():
                owner = getattr(value, "__self__", None)
                return [type(value).__name__, self._describe(value.__func__), self._describe(owner)]
            case property():
                return ["property", *map(self._describe, (value.fget, value.fset, value.fdel))]
            case functools.partial():
                return ["partial", *map(self._describe, (value.func, value.args, value.keywords))]
        if isinstance(value, DESCRIPTORS):
            return ["slot", value.__name__]
        return _array(value) or self._instance(value)

    def _module(self, module: types.ModuleType) -> Description:
        if _is_library(module.__name__):
            return ["module", module.__name__, _version(module.__name__)]
        file = getattr(module, "__file__", None)
        if module.__name__ == "__main__" or not file or not Path(file).is_file():
            raise UnknownIdentityError(f"it refers to the module '{module.__name__}' as a whole")
        self.modules.add(module.__name__)
        return ["module", module.__name__, sha256_behind(Path(file))]

    def _function(self, function: types.FunctionType) -> Description:
        self.modules.add(function.__module__ or "")
        code, known = function.__code__, function.__globals__
        cells = zip(code.co_freevars, function.__closure__ or (), strict=True)
        closure = [[name, self._cell(cell)] for name, cell in cells]
        names = sorted(name for name in set(_global_names(code)) if not hasattr(builtins, name))
        described = [[name, self._describe(known[name]) if name in known else "missing"] for name in names]
        attributes = {key: item for key, item in vars(function).items() if key != "__wrapped__"}
        defaults = [function.__defaults__, function.__kwdefaults__, attributes]
        return [
            "function",
            _source(code) or self._bytecode(code),
            self._describe(defaults),
            closure,
            described,
        ]

    def _cell(self, cell: types.CellType) -> Description:
        try:
            content = cell.cell_contents
        except ValueError:
            return "empty"
        return self._describe(content)

    def _bytecode(self, code: types.CodeType) -> Description:
        """Where there is no source: in a script that Python reads from a pipe, say."""
        constants = [
            self._bytecode(constant) if isinstance(constant, types.CodeType) else self._describe(constant)
            for constant in code.co_consts
        ]
        names = [*code.co_names, "", *code.co_varnames, "", *code.co_freevars]
        instructions = code.co_code + code.co_exceptiontable
        counts = [code.co_argcount, code.co_kwonlyargcount, code.co_flags]
        version = ".".join(map(str, sys.version_info[:2]))
        return ["bytecode", version, instructions.hex(), str(counts), str(names), *constants]

    def _class(self, cls: type) -> Description:
        self.modules.add(cls.__module__)
        members = {key: item for key, item in vars(cls).items() if key not in GENERATED}
        return ["class", cls.__name__, self._describe([type(cls), cls.__bases__]), self._describe(members)]

    def _instance(self, value: object) -> Description:
        """Anything else, by what pickle would keep of it."""
        wrapped = getattr(value, "__wrapped__", None)
        if isinstance(wrapped, types.FunctionType) and not _is_library(wrapped.__module__):
            return ["wrapper", type(value).__qualname__, self._describe(wrapped)]
        try:
            reduce = copyreg.dispatch_table.get(type(value))
            reduced = reduce(value) if reduce else value.__reduce_ex__(4)
        except Exception as error:  # a foreign object may raise anything
            raise UnknownIdentityError(
                f"it refers to an object of type {type(value).__qualname__}"
            ) from error
        if isinstance(reduced, str):
            module = str(getattr(value, "__module__", ""))
            return ["global", module, reduced, _version(module)]
        self._kept.append(reduced)
        maker, *rest = reduced
        return ["object", self._describe(maker), *(self._describe(_as_list(part)) for part in rest)]


def _as_list(value: object) -> object:
    return list(value) if isinstance(value, Iterator) else value


def _array(value: object) -> Description | None:
    """NumPy arrays and tensors by their bytes; None for anything else. Imports neither."""
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    if numpy and isinstance(value, numpy.ndarray) and not value.dtype.hasobject:
        kind, shape, raw = str(value.dtype), value.shape, value.tobytes()
    elif torch and isinstance(value, torch.Tensor) and value.layout == torch.strided and not value.is_meta:
        kind, shape = f"{value.dtype} {value.requires_grad}", tuple(value.shape)
        raw = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    else:
        return None
    return ["array", type(value).__qualname__, kind, str(shape), hashlib.sha256(raw).hexdigest()]


# ---------------------------------------------------------------- libraries


def _is_library(module: str | None) -> bool:
    """Whether a module is installed, rather than the user's own."""
    top = (module or "builtins").partition(".")[0]
    if top in sys.stdlib_module_names or top in ("builtins", "inklab"):
        return True
    loaded = sys.modules.get(top)
    files = [getattr(loaded, "__file__", None), *getattr(loaded, "__path__", ())]
    return any(not {"site-packages", "dist-packages"}.isdisjoint(Path(file).parts) for file in files if file)


def _is_library_global(value: types.FunctionType | types.BuiltinFunctionType | type) -> bool:
    if not _is_library(value.__module__):
        return False
    if isinstance(value, types.BuiltinFunctionType):  # a method of an object is none
        return value.__self__ is None or isinstance(value.__self__, types.ModuleType | type)
    if isinstance(value, type):  # classes of C need not lie where they say
        return "<locals>" not in value.__qualname__
    owner: object = sys.modules.get(value.__module__)
    for part in value.__qualname__.split("."):
        owner = inspect.getattr_static(owner, part, None)
    return getattr(owner, "__func__", owner) is value


def _version(module: str | None) -> str:
    top = (module or "").partition(".")[0]
    return "" if top in sys.stdlib_module_names else str(getattr(sys.modules.get(top), "__version__", ""))


# ---------------------------------------------------------------- source


def _global_names(code: types.CodeType) -> Iterator[str]:
    """Global names that a function reads, also in the functions and classes within it."""
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"):
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _global_names(constant)


def _source(code: types.CodeType) -> str:
    """The text of a function or lambda, of a file or a notebook's cell; "" if it is not to be had."""
    linecache.checkcache(code.co_filename)
    definitions = _definitions("".join(linecache.getlines(code.co_filename)))
    texts = definitions.get((code.co_firstlineno, code.co_name), [])
    return texts[0] if len(texts) == 1 else ""


@functools.lru_cache(maxsize=64)
def _definitions(source: str) -> dict[tuple[int, str], list[str]]:
    """The functions and lambdas in a file, by first line and name."""
    texts: dict[tuple[int, str], list[str]] = {}
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return texts
    lines = source.splitlines()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min(part.lineno for part in (node, *node.decorator_list))
            text = textwrap.dedent("\n".join(lines[first - 1 : node.end_lineno]))
            texts.setdefault((first, node.name), []).append(text)
        elif isinstance(node, ast.Lambda):
            text = ast.get_source_segment(source, node) or ""
            texts.setdefault((node.lineno, "<lambda>"), []).append(text)
    return texts
