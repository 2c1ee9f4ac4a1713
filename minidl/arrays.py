"""Anything that holds rows to a NumPy array: always by position, never by a label, the same everywhere.

pandas, polars, pyarrow and PyTorch are recognised by the module of their classes; none of them is imported. Whatever else a user
holds is taken by ``__array__``, ``__array_interface__``, the buffer protocol or ``__dlpack__``.
"""

from __future__ import annotations

import decimal
import numbers
from collections.abc import Mapping
from typing import Any

import numpy

from minidl.errors import DataError, DtypeError, EngineError, ParameterError
from minidl.ops import Array, namespace

__all__ = [
    "arrays_by_name",
    "check_real",
    "from_dlpack",
    "is_elsewhere",
    "is_sparse",
    "is_table",
    "library_of",
    "take_rows",
    "to_host",
]

ON_HOST, ON_GPU = (1, 3), (2, 13)
"""Kinds of devices in DLPack: memory that the CPU reads, and memory that CUDA reads."""
LIBRARIES = ("pandas", "polars", "pyarrow", "torch")


def library_of(data: Any) -> str | None:
    """Return which of pandas, polars, pyarrow and torch an object, or a base of its class, comes from.

    >>> library_of([1, 2]) is None
    True
    """
    for base in type(data).__mro__:
        root = base.__module__.partition(".")[0]
        if root in LIBRARIES:
            return root
    return None


def is_table(data: Any) -> bool:
    """Whether an object holds named columns: a DataFrame of pandas or polars, or a pyarrow Table or RecordBatch."""
    mark = {"pandas": "columns", "polars": "get_columns", "pyarrow": "schema"}.get(library_of(data) or "")
    return mark is not None and hasattr(data, mark)


def is_sparse(data: Any) -> bool:
    """Whether an object is a sparse matrix or array in SciPy's manner."""
    return hasattr(data, "nnz") and hasattr(data, "toarray")


def is_elsewhere(data: Any) -> bool:
    """Whether an array names another namespace than NumPy's, as CuPy's do."""
    return hasattr(data, "dtype") and namespace(data) is not numpy


def to_host(array: Any, where: str = "", name: str = "the array") -> numpy.ndarray:
    """Return a ``numpy.ndarray`` of anything that holds rows, without a copy if that is possible.

    ====================================================  ==========================================================
    given                                                 becomes
    ====================================================  ==========================================================
    arrays of NumPy and CuPy, memory maps, ``matrix``     the same values as a plain array
    pandas, polars, pyarrow columns                       their values; missing numbers become nan
    pandas, polars, pyarrow tables                        (N, columns), in the common dtype of the columns
    PyTorch tensors                                       their values, detached, moved to the host
    lists, tuples, ``__array__``, ``__dlpack__``, ...     as NumPy converts them
    objects that are all numbers, or rows of one length   int64 or float64
    records (structured arrays) of numbers                (N, fields), in the common dtype of the fields
    ====================================================  ==========================================================

    Parameters
    ----------
    array : array-like
    where, name : str
        For messages: the caller, and its argument.

    Raises
    ------
    DataError
        If the rows differ in length, or values are masked.
    DtypeError
        If it is no array: a sparse matrix, a lazy table, an iterator, or a table that mixes numbers with something else.

    Examples
    --------
    >>> to_host([[1, 2], [3, 4]])
    array([[1, 2],
           [3, 4]])
    >>> to_host(numpy.array([1, 2.5], dtype=object))
    array([1. , 2.5])
    """
    if type(array) is numpy.ndarray and array.dtype.kind not in "OV":
        return array
    if where:
        name = f"{where}: {name}"
    if isinstance(array, numpy.ma.MaskedArray) and numpy.ma.is_masked(array):
        first = int(numpy.argwhere(numpy.ma.getmaskarray(array)).flat[0]) if array.ndim else 0
        raise DataError(
            f"{name} has masked values, the first in {name.rpartition(' ')[2]}[{first}]; fill in or drop them"
        )
    if is_sparse(array):
        raise DtypeError(f"{name} is a sparse matrix, {type(array).__name__}; convert it with .toarray()")
    try:
        found = _converted(array, name)
    except (DataError, DtypeError):
        raise
    except ValueError as error:  # lists of lists of different lengths
        raise DataError(f"{name} is no regular array: {error}") from error
    except Exception as error:  # whatever the conversion of another library raises
        raise DataError(f"{name} is a {_kind(array)}, which cannot be converted to an array: {error}") from error
    if found.dtype.kind == "V" and found.dtype.names is not None:
        return _of_records(found, name)
    if found.dtype.kind != "O":
        return found
    if found.ndim == 0 and not isinstance(array, (numpy.ndarray, numbers.Number, decimal.Decimal)):
        raise DtypeError(f"{name} must hold real numbers, got a {_kind(array)}{_advice(array)}")
    try:
        return _of_objects(found, name, library_of(array) is not None)
    except OverflowError as error:
        raise DataError(f"{name} holds an integer that is beyond the range of float64") from error


def arrays_by_name(state_dict: Mapping[str, Any], where: str) -> dict[str, numpy.ndarray]:
    """Return the entries of a state as arrays on the host.

    >>> arrays_by_name({"weight": [1.0, 2.0]}, "load_state_dict")
    {'weight': array([1., 2.])}

    Raises
    ------
    ParameterError
        If it is no mapping, or a name is no text.
    DtypeError
        If an entry cannot be an array.
    """
    if not isinstance(state_dict, Mapping):
        raise ParameterError(f"{where}: expected a mapping of names to arrays, got {type(state_dict).__name__}")
    found = {}
    for name, value in state_dict.items():
        if not isinstance(name, str):
            raise ParameterError(f"{where}: expected names as text, got {name!r}")
        try:
            found[name] = to_host(value)
        except (DataError, DtypeError) as error:
            raise DtypeError(f"{where}: {name} cannot be read as a NumPy array: {error}") from error
    return found


def check_real(array: Array, where: str, name: str, advice: str = "") -> None:
    """Raise DtypeError unless an array holds real numbers or booleans."""
    kind = array.dtype.kind
    if kind in "fiub":
        return
    if kind in "Mm":
        advice = "subtract a first date and divide by a unit, such as numpy.timedelta64(1, 'D'), to have numbers"
    raise DtypeError(f"{where}: {name} must hold real numbers, got dtype {array.dtype}{'; ' if advice else ''}{advice}")


def take_rows(data: Any, rows: Any) -> Any:
    """Return rows by position, in the same kind of container.

    Parameters
    ----------
    data : array, tensor, sparse matrix, or table or column of pandas, polars or pyarrow
    rows : slice, or integer array on the host

    Examples
    --------
    >>> take_rows(numpy.array([5, 6, 7]), numpy.array([2, 0]))
    array([7, 5])
    """
    library = library_of(data)
    if library == "pandas":
        return data.iloc[rows] if hasattr(data, "iloc") else data[rows]
    if library == "pyarrow":
        return data.slice(rows.start, rows.stop - rows.start) if isinstance(rows, slice) else data.take(rows)
    if is_sparse(data):
        return data.tocsr()[rows]
    if isinstance(rows, slice) or library is not None:
        return data[rows]
    return data[namespace(data).asarray(rows)]


def from_dlpack(array: Any, xp: Any = numpy, name: str = "the array") -> Array:
    """Return an array that shares the memory of another library's, such as a PyTorch tensor or an array of JAX.

    Parameters
    ----------
    array : object with ``__dlpack__``
    xp : module, default numpy
        The namespace of the result: ``numpy`` for memory of the host, ``cupy`` for that of a GPU.
    name : str
        For messages.

    Raises
    ------
    DtypeError
        If it records gradients (its library would not learn of what is done with the memory), has a dtype that NumPy has not,
        such as bfloat16, or cannot be handed over.
    EngineError
        If it is on another device.

    Examples
    --------
    >>> x = numpy.ones(3)
    >>> numpy.shares_memory(from_dlpack(x), x)
    True
    """
    if getattr(array, "requires_grad", False):
        raise DtypeError(
            f"{name} is a {_kind(array)} that requires grad; give x.detach(), or use a model inside a PyTorch graph with "
            "minidl.interop.torch.MinidlModule"
        )
    dtype = str(getattr(array, "dtype", ""))
    if "bfloat16" in dtype or "float8" in dtype:
        raise DtypeError(
            f"{name} has dtype {dtype}, which NumPy has not; convert it to float32, in PyTorch with x.float()"
        )
    try:
        device = int(array.__dlpack_device__()[0])
    except (RuntimeError, ValueError):  # of PyTorch, for devices that DLPack does not know
        device = -1
    if device not in (ON_HOST if xp is numpy else ON_GPU):
        place = getattr(array, "device", f"a device of kind {device}")
        where, how, other = ("host", "x.cpu()", "cupy") if xp is numpy else ("GPU", "x.cuda()", "native")
        raise EngineError(
            f"{name} is on {place}, but the engine computes on the {where}; move it, in PyTorch with {how}, or choose "
            f"another engine, minidl.use({other!r})"
        )
    try:
        return xp.from_dlpack(array)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:  # whatever the other library cannot hand over
        raise DtypeError(f"{name} is a {_kind(array)} whose memory cannot be shared: {error}") from error


# conversions ----------------------------------------------------------------------------------------------------------


def _converted(array: Any, name: str) -> numpy.ndarray:
    if is_elsewhere(array) and hasattr(array, "get"):  # CuPy copies to the host only if it is told to
        return numpy.asarray(array.get())
    library = library_of(array)
    if library == "torch" and not isinstance(array, tuple):  # torch.Size is one
        return _of_tensor(array, name)
    if is_table(array):
        return _of_table(array, name)
    if library is not None and library != "torch":
        return _of_column(array, library, name)
    if isinstance(array, (list, tuple)) and any(map(_is_foreign, array)):
        return numpy.asarray([to_host(item, "", f"{name}[{index}]") for index, item in enumerate(array)])
    if not hasattr(array, "__array__") and hasattr(array, "__dlpack__"):
        return numpy.from_dlpack(array)
    return numpy.asarray(array)


def _is_foreign(item: Any) -> bool:
    return not isinstance(item, (list, tuple, numbers.Number, str, numpy.ndarray)) and (
        library_of(item) is not None or hasattr(item, "__dlpack__")
    )


def _of_tensor(tensor: Any, name: str) -> numpy.ndarray:
    if not hasattr(tensor, "detach"):
        raise DtypeError(f"{name} must hold real numbers, got a {_kind(tensor)}")
    if str(tensor.layout) != "torch.strided" or tensor.is_quantized:
        raise DtypeError(f"{name} is a sparse or quantised tensor; convert it with .to_dense() or .dequantize()")
    values = tensor.detach().cpu().resolve_conj().resolve_neg()
    if tensor.is_floating_point() and str(tensor.dtype) not in ("torch.float16", "torch.float32", "torch.float64"):
        values = values.float()  # exact: bfloat16 and the kinds of float8 are parts of float32
    return values.numpy()


def _of_column(column: Any, library: str, name: str) -> numpy.ndarray:
    if library == "polars":
        if not hasattr(column, "to_numpy"):
            raise DtypeError(f"{name} is a {_kind(column)}, which holds no values yet; call .collect() first")
        return numpy.asarray(column.to_numpy())
    if library == "pyarrow":
        if hasattr(column, "combine_chunks"):
            return numpy.asarray(column.to_numpy())
        if not hasattr(column, "to_numpy"):
            return numpy.asarray(column.as_py())
        return numpy.asarray(column.to_numpy(zero_copy_only=False))
    dtype = getattr(column, "dtype", None)
    if isinstance(dtype, numpy.dtype) or dtype is None or not hasattr(column, "to_numpy"):
        return numpy.asarray(column)
    kind = getattr(dtype, "kind", "O")  # of an extension array of pandas
    if kind in "fiub":
        if column.isna().any():
            return column.to_numpy(dtype="float64", na_value=numpy.nan)
        plain = getattr(dtype, "numpy_dtype", getattr(dtype, "subtype", None))
        return numpy.asarray(column.to_numpy(dtype=plain))
    if kind == "M":
        return numpy.asarray(column.to_numpy(dtype="datetime64[ns]"))  # a time zone becomes UTC
    return numpy.asarray(column.to_numpy() if kind != "O" else numpy.asarray(column, dtype=object))


def _of_table(table: Any, name: str) -> numpy.ndarray:
    library = library_of(table)
    titles: list[Any]
    if library == "pandas":
        titles, columns = list(table.columns), [table.iloc[:, index] for index in range(table.shape[1])]
    elif library == "polars":
        titles, columns = list(table.columns), table.get_columns()
    else:
        titles, columns = list(table.schema.names), list(table.columns)
    if not columns:
        return numpy.empty((len(table), 0))
    arrays = [to_host(column, "", f"{name}, column {title!r},") for title, column in zip(titles, columns, strict=True)]
    odd = [k for k, array in enumerate(arrays) if array.dtype.kind not in "fiub" or array.ndim != 1]
    if odd and len(arrays) > 1:
        array = arrays[odd[0]]
        what = f"dtype {array.dtype}" if array.ndim == 1 else f"arrays of shape {array.shape[1:]}"
        example = f", such as {array.flat[0]!r}" if array.size and array.dtype.kind in "OU" else ""
        raise DtypeError(
            f"{name}: column {titles[odd[0]]!r} must hold real numbers, got {what}{example}; leave the column out, or turn it "
            "into numbers (text into one column of 0 and 1 for each of its values)"
        )
    result = numpy.empty((len(arrays[0]), len(arrays)), dtype=numpy.result_type(*arrays))
    for k, array in enumerate(arrays):
        result[:, k] = array
    return result if arrays[0].ndim == 1 else arrays[0]


def _of_records(records: numpy.ndarray, name: str) -> numpy.ndarray:
    fields = {field: records.dtype[field] for field in records.dtype.names or ()}
    odd = [field for field, dtype in fields.items() if dtype.kind not in "fiub" or dtype.shape]
    if odd:
        raise DtypeError(
            f"{name} is a structured array whose field {odd[0]!r} has dtype {fields[odd[0]]}; give the fields that hold "
            "numbers as a plain array of shape (N, fields)"
        )
    result = numpy.empty((*records.shape, len(fields)), dtype=numpy.result_type(*fields.values()))
    for k, field in enumerate(fields):
        result[..., k] = records[field]
    return result


def _of_objects(objects: numpy.ndarray, name: str, with_missing: bool) -> numpy.ndarray:
    """Return objects as numbers if all are (or missing), or as an array if all are rows of one length; else as they are."""
    kinds = set(map(type, objects.flat))
    if kinds and all(issubclass(kind, (bool, numpy.bool_)) for kind in kinds):
        return objects.astype(bool)
    if kinds and all(issubclass(kind, (numbers.Integral, bool, numpy.bool_)) for kind in kinds):
        whole = numpy.array([int(item) for item in objects.flat]).reshape(objects.shape)
        return whole.astype(numpy.float64) if whole.dtype.kind == "O" else whole  # beyond 64 bits
    if kinds and all(_is_number(kind) or (with_missing and _is_missing(kind)) for kind in kinds):
        values = [numpy.nan if _is_missing(type(item)) else float(item) for item in objects.flat]
        return numpy.array(values, dtype=numpy.float64).reshape(objects.shape)
    if (
        objects.ndim == 1
        and kinds
        and all(issubclass(kind, (list, tuple, numpy.ndarray)) or _is_column(kind) for kind in kinds)
    ):
        rows = [to_host(row, "", f"{name}[{index}]") for index, row in enumerate(objects)]
        shapes = {row.shape for row in rows}
        if len(shapes) > 1:
            raise DataError(
                f"{name} is no regular array: its rows have the shapes {', '.join(map(str, sorted(shapes)))}"
            )
        return numpy.asarray(rows)
    return objects


def _is_missing(kind: type) -> bool:
    return kind is type(None) or kind.__name__ == "NAType"


def _is_number(kind: type) -> bool:
    return issubclass(kind, (numbers.Real, decimal.Decimal, numpy.bool_))


def _is_column(kind: type) -> bool:
    return kind.__module__.partition(".")[0] in LIBRARIES and kind.__name__ in ("Series", "Tensor")


def _kind(data: Any) -> str:
    return type(data).__name__


def _advice(data: Any) -> str:
    if hasattr(data, "__next__") or hasattr(data, "__iter__"):
        return "; make an array of it, for example with numpy.asarray(list(...))"
    return ""
