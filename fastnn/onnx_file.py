"""ONNX files as data that may be hostile: tensors, attributes and shapes with every number checked.

A tensor is a view of the file's own bytes, so a file cannot ask for more memory than it has. Errors name no file:
`load` does that.
"""

import math
import os
import stat

import numpy as np
from google.protobuf.message import DecodeError
from onnx import AttributeProto, ModelProto, TensorProto

from .arguments import shown

# Protobuf ends there.
MOST_BYTES = 2**31 - 1
# Operators are read as these versions of the standard have them: at 7 came the broadcasting of today, and what comes
# behind the newest one that is known may mean something else.
OPSETS = range(7, 29)
# More axes than any tensor of a dense network, or of a file that is not made to hurt, has.
MOST_AXES = 8
FLOATS = {TensorProto.FLOAT: np.dtype(np.float32), TensorProto.DOUBLE: np.dtype(np.float64)}
# The element type as it lies in raw_data, and the field that has the numbers otherwise.
_STORED = {
    TensorProto.FLOAT: ("<f4", "float_data"),
    TensorProto.DOUBLE: ("<f8", "double_data"),
    TensorProto.FLOAT16: ("<f2", "int32_data"),
    TensorProto.INT64: ("<i8", "int64_data"),
    TensorProto.INT32: ("<i4", "int32_data"),
    TensorProto.BOOL: ("?", "int32_data"),
}
_NUMBERS = {
    *FLOATS,
    TensorProto.FLOAT16,
    TensorProto.BFLOAT16,
    TensorProto.INT8,
    TensorProto.INT16,
    TensorProto.INT32,
    TensorProto.INT64,
    TensorProto.UINT8,
    TensorProto.UINT16,
    TensorProto.UINT32,
    TensorProto.UINT64,
    TensorProto.BOOL,
}


def read_model(path):
    """(`onnx.ModelProto`, bytes that the file has); the file alone is opened, no other that it names."""
    with open(path, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("expected a regular file")
        if status.st_size > MOST_BYTES:
            raise ValueError(f"expected at most {MOST_BYTES} bytes, as ONNX files have, got {status.st_size}")
        content = file.read(status.st_size)
    model = ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError as error:
        raise ValueError(f"not a whole ONNX file: {error}") from error
    if not model.HasField("graph"):
        raise ValueError("not a whole ONNX file: it has no graph")
    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    if len(versions) != 1 or versions[0] not in OPSETS:
        expected = f"one version of ONNX's operators, {OPSETS[0]} to {OPSETS[-1]}"
        raise ValueError(f"opset_import: expected {expected}, got {shown(versions)}")
    return model, len(content)


def type_name(number):
    """An element type for a message."""
    return TensorProto.DataType.Name(number) if number in TensorProto.DataType.values() else shown(number)


def tensor_array(tensor):
    """A read-only array of a TensorProto's numbers."""
    if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
        raise ValueError(
            "expected a tensor in the file, got external data; onnx.save(onnx.load(path), other_path) makes one file, "
            "torch.onnx.export(..., external_data=False) writes one"
        )
    if tensor.HasField("segment"):
        raise ValueError("expected a whole tensor, got a segment")
    if tensor.data_type not in _STORED:
        raise ValueError(f"expected a tensor of {_names(_STORED)}, got {type_name(tensor.data_type)}")
    dtype, field = _STORED[tensor.data_type]
    dtype, shape = np.dtype(dtype), tuple(tensor.dims)
    if len(shape) > MOST_AXES or min(shape, default=0) < 0:
        raise ValueError(f"expected at most {MOST_AXES} axes of at least 0, got {shown(shape)}")
    raw = tensor.HasField("raw_data")
    values = tensor.raw_data if raw else getattr(tensor, field)
    stored = len(values) / dtype.itemsize if raw else len(values)
    if stored != math.prod(shape):
        raise ValueError(f"expected {shown(math.prod(shape))} numbers for shape {shown(shape)}, got {stored:g}")
    if raw:
        array = np.frombuffer(values, dtype)
    elif tensor.data_type == TensorProto.FLOAT16:
        # Bit patterns.
        array = np.array(values, np.int64).astype("<u2").view(dtype)
    else:
        # int32_data may be of any type that is no wider.
        array = np.array(values, np.int64 if field == "int32_data" else dtype)
    array = array.astype(dtype.newbyteorder("="), copy=False).reshape(shape)
    array.flags.writeable = False
    return array


def _names(numbers):
    return ", ".join(map(type_name, numbers))


_KINDS = {
    float: (AttributeProto.FLOAT, "f"),
    int: (AttributeProto.INT, "i"),
    str: (AttributeProto.STRING, "s"),
    list: (AttributeProto.INTS, "ints"),
    tuple: (AttributeProto.FLOATS, "floats"),
}


def attributes(node, **defaults):
    """A node's attributes, those that it does not have from `defaults`: these alone may it have, of these types.

    A default that is a type, not a value, is None where the node has none.
    """
    result = {name: None if isinstance(value, type) else value for name, value in defaults.items()}
    seen = set()
    for attribute in node.attribute:
        name = attribute.name
        if name not in defaults or name in seen:
            raise ValueError(f"expected attributes {', '.join(defaults) or 'none'}, each once, got {shown(name)}")
        seen.add(name)
        default = defaults[name]
        kind, field = _KINDS[default if isinstance(default, type) else type(default)]
        if attribute.type != kind or attribute.ref_attr_name:
            raise ValueError(f"{name}: expected a value of type {AttributeProto.AttributeType.Name(kind)}")
        value = getattr(attribute, field)
        if field == "s":
            value = value.decode(errors="replace")
        result[name] = list(value) if field in ("ints", "floats") else value
    return result


def constant_value(node):
    """The array of a Constant node."""
    if len(node.attribute) != 1:
        raise ValueError(f"expected one attribute, got {len(node.attribute)}")
    attribute = node.attribute[0]
    kinds = {
        "value": (AttributeProto.TENSOR, lambda: tensor_array(attribute.t)),
        "value_float": (AttributeProto.FLOAT, lambda: np.array(attribute.f, np.float32)),
        "value_floats": (AttributeProto.FLOATS, lambda: np.array(attribute.floats, np.float32)),
        "value_int": (AttributeProto.INT, lambda: np.array(attribute.i, np.int64)),
        "value_ints": (AttributeProto.INTS, lambda: np.array(attribute.ints, np.int64)),
    }
    kind, read = kinds.get(attribute.name, (None, None))
    if kind is None or attribute.type != kind or attribute.ref_attr_name:
        raise ValueError(f"expected one of {', '.join(kinds)} with a value of its type, got {shown(attribute.name)}")
    return read()


def described(info, flattened=False):
    """(element type, sizes behind the batch, rows) of an input or output, each size None if it is not told.

    It must be (batch, features); with `flattened` also (batch, ...) of known sizes.
    """
    tensor = info.type.tensor_type
    if not info.type.HasField("tensor_type") or tensor.elem_type not in _NUMBERS:
        kind = type_name(tensor.elem_type) if info.type.HasField("tensor_type") else info.type.WhichOneof("value")
        raise ValueError(f"expected a tensor of numbers, got {kind}")
    if not tensor.HasField("shape"):
        return tensor.elem_type, (None,), None
    sizes = [size.dim_value if size.HasField("dim_value") else None for size in tensor.shape.dim]
    columns = sizes[1:]
    known = all(size is not None for size in columns)
    if any(size is not None and size < 1 for size in columns) or not (
        len(columns) == 1 or (flattened and known and 1 < len(columns) < MOST_AXES)
    ):
        raise ValueError(f"expected shape (batch, features), got {shown(sizes)}")
    return tensor.elem_type, tuple(columns), sizes[0]
