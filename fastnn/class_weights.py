"""Weights of classes: at the door they become weights of rows, for kernels know of no others."""

from collections.abc import Mapping

import numpy as np

from .arguments import real_number, shape_text, shown, wrong_shape
from .kernels.codes import Loss
from .validation import as_sample_weight, real_array


def weighted(data, class_weight, sample_weight, net, loss) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Data in which each row counts by the weight of its class too.

    Args:
        data: (x, y, sample_weight) as `as_training_data` returns them.
        class_weight: a dict from class to weight, in which 1 stands for a class that it has not; an array with a weight
            for each class; "balanced", which is rows / (classes * rows of the class), of the rows and classes in y;
            or None.
        sample_weight: that of the user, or None: the product is made of these numbers, and rounded once. Its first rows
            are those of data.

    Raises:
        ValueError, TypeError: class_weight is none of these, or targets are no classes.
    """
    if class_weight is None:
        return data
    x, y, _ = data
    labels, classes = _labels(y, net.out_features, loss)
    weight, name = _by_class(class_weight, labels, classes)[labels], "class_weight"
    if sample_weight is not None:
        name = "class_weight * sample_weight"
        with np.errstate(over="ignore"):
            weight = weight * real_array(sample_weight, "sample_weight")[: y.shape[0]]
    return x, y, as_sample_weight(weight, y.shape[0], net.dtype, name)


def _labels(y, out_features, loss):
    """(the class of each row, how many classes there are) of targets as kernels take them."""
    if loss.custom:
        raise ValueError("class_weight: expected None with a loss of your own, which can take weights as a column of y")
    if loss.code not in (Loss.SOFTMAX_CROSS_ENTROPY, Loss.BINARY_CROSS_ENTROPY):
        raise ValueError(
            f"class_weight: expected None with {loss.name}, whose targets are no classes; sample_weight takes a weight "
            "for each row"
        )
    if y.shape[1] > 1:
        # Of soft targets each class would count by its share, which no weight of the row can say.
        bad = (np.count_nonzero(y, axis=1) != 1) | (y.max(axis=1) != 1)
        labels, classes = y.argmax(axis=1), out_features
    elif loss.code == Loss.SOFTMAX_CROSS_ENTROPY:
        return y[:, 0].astype(np.intp), out_features
    else:
        bad = (y[:, 0] != 0) & (y[:, 0] != 1)
        labels, classes = (y[:, 0] == 1).astype(np.intp), 2
    if bad.any():
        row = int(bad.argmax())
        raise ValueError(
            "class_weight: expected targets of one class each, of 1 for it and 0 for others, got "
            f"{shown(y[row].tolist())} at row {row}; sample_weight takes a weight for each row"
        )
    return labels, classes


def _by_class(class_weight, labels, classes):
    """The weights of the classes, float64 (classes,)."""
    if isinstance(class_weight, str) and class_weight == "balanced":
        counts = np.bincount(labels, minlength=classes)
        # No row asks for the weight of a class without rows.
        return labels.size / (np.count_nonzero(counts) * np.maximum(counts, 1))
    if hasattr(class_weight, "to_dict"):
        # A pandas Series is in the order of its index: that of value_counts() has the largest class first.
        class_weight = class_weight.to_dict()
    if isinstance(class_weight, Mapping):
        for key in class_weight:
            if key not in range(classes):
                raise ValueError(f"class_weight: expected classes in 0 .. {classes - 1}, got {shown(key)}")
        found = (real_number(class_weight.get(i, 1), f"class_weight[{i}]", 0) for i in range(classes))
        return np.fromiter(found, np.float64, classes)
    weights = None if isinstance(class_weight, str) else np.asarray(class_weight)
    if weights is None or weights.ndim == 0 or weights.dtype.kind not in "biuf":
        raise TypeError(
            f"class_weight: expected a dict, an array with a weight for each of {classes} classes or 'balanced', got "
            f"{shown(class_weight)}"
        )
    # A masked array is refused there, whose mask would be lost.
    weights = real_array(class_weight, "class_weight")
    if weights.shape != (classes,):
        raise wrong_shape("class_weight", shape_text(classes), weights)
    # Of classes without rows too: one that is no weight is a mistake.
    return np.array([real_number(float(weight), f"class_weight[{i}]", 0) for i, weight in enumerate(weights)])
