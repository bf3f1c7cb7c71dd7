"""`fastnn demo`: a classifier of scanned digits, from raw pixels to a picture of its mistakes."""

import importlib
import pathlib
import time

import numpy as np

from . import check
from .files import check_writable
from .kernels import reference
from .kernels.catalog import CATALOG
from .kernels.codes import Loss
from .kernels.layout import workspace_size
from .optimizers import AdamW
from .sequential import MLP
from .trainer import Trainer

SEED = 0
SIZES = (64, 128, 64, 10)
BATCH = 32


def check_output(path):
    """Raise the ImportError, OSError or ValueError that drawing to this file would end in."""
    try:
        importlib.import_module("sklearn")
        from matplotlib.backend_bases import FigureCanvasBase
    except ImportError as error:
        raise ImportError(
            'the demo needs the extra "demo": pip install "scikit-learn>=1.4" "matplotlib>=3.8"'
        ) from error
    formats = FigureCanvasBase.get_supported_filetypes()
    if pathlib.Path(path).suffix[1:].lower() not in formats:
        raise ValueError(f"output: expected a name that ends in one of .{', .'.join(formats)}, got {path!r}")
    check_writable(path)


def load_digits():
    """scikit-learn's 1,797 scans of 8 x 8 pixels: (x, y, test x, test y), a stratified fifth held out."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    data = load_digits()
    x = (data.data / 16 - 0.5).astype(np.float32)
    x, test_x, y, test_y = train_test_split(x, data.target, test_size=0.2, stratify=data.target, random_state=SEED)
    return x, y, test_x, test_y


def compare_with_reference(net, x, y):
    """Worst errors of the network's own kernels against NumPy, as shares of their tolerances, by kernel."""
    target = y[:, None].astype(net.dtype)
    workspace = np.empty(max(workspace_size(net.table, net.parameters, len(x), 2)), net.dtype)
    rows = {row.name: row for row in CATALOG}
    start = {"table": net.table, "parameters": net.parameters, "x": x}
    loss = {"y": target, "sample_weight": np.empty(0, net.dtype), "loss": int(Loss.SOFTMAX_CROSS_ENTROPY)}
    cases = {
        "forward": {**start, "out": np.empty((len(x), net.out_features), net.dtype), "workspace": workspace},
        "loss_and_gradient": {**start, **loss, "gradient": np.empty_like(net.parameters), "workspace": workspace},
    }
    return {name: max(check.compare(rows[name], arguments).values()) for name, arguments in cases.items()}


def reference_epoch(net, x, y, batches):
    """Seconds of plain NumPy, extrapolated from some batches, for one epoch of the same work."""
    gradient, moments = np.empty_like(net.parameters), np.zeros((2, net.parameter_count), net.dtype)
    parameters, hyper = net.parameters.copy(), AdamW().hyper()
    target, nothing = y[:, None].astype(net.dtype), np.empty(0, net.dtype)
    total = -(-len(x) // BATCH)
    start = time.perf_counter()
    for i in range(batches):
        rows = slice(i * BATCH, (i + 1) * BATCH)
        code = int(Loss.SOFTMAX_CROSS_ENTROPY)
        reference.loss_and_gradient(net.table, parameters, x[rows], target[rows], nothing, code, gradient, nothing)
        reference.adamw(parameters, gradient, *moments, i + 1, hyper)
    return (time.perf_counter() - start) * total / batches


def draw(path, history, x, y, labels):
    """Loss curve, and 60 test digits with their predictions: all that are wrong, marked, and some that are right."""
    # Not by pyplot, whose backend and figures are those of the program.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 6), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.4))
    ax = left.subplots()
    for name, label in (("loss", "training"), ("val_loss", "test")):
        ax.plot(history.epochs, history.metrics[name], label=label)
    ax.set(yscale="log", xlabel="epoch", ylabel="cross-entropy", title="Loss")
    ax.grid(alpha=0.3)
    ax.legend()

    wrong = np.flatnonzero(labels != y)[:60]
    chosen = np.concatenate([wrong, np.flatnonzero(labels == y)[: 60 - len(wrong)]])
    right.suptitle(f"Test digits: prediction, and the truth where it is wrong ({np.sum(labels != y)} of {len(y)})")
    for panel, i in zip(right.subplots(6, 10).flat, chosen, strict=True):
        panel.imshow(x[i].reshape(8, 8), cmap="gray_r")
        panel.set(xticks=[], yticks=[])
        if labels[i] == y[i]:
            panel.set_title(str(labels[i]), fontsize=10)
        else:
            panel.set_title(f"{labels[i]}, is {y[i]}", fontsize=10, color="crimson")
            for spine in panel.spines.values():
                spine.set(color="crimson", linewidth=2.5)
    figure.savefig(path, dpi=110)


def run(output="fastnn-demo.png", epochs=60):
    """Train, test, compare, time and draw; returns the exit status, 1 if a kernel is outside its tolerance."""
    x, y, test_x, test_y = load_digits()
    net = MLP(SIZES, activation="relu", dtype="float32", seed=SEED)
    print(f"{len(x):,} scanned digits to learn from, {len(test_x)} held out\n\n{net.summary()}\n")
    trainer = Trainer(net, loss="softmax_cross_entropy", optimizer=AdamW(learning_rate=2e-3))
    start = time.perf_counter()
    trainer.step(x[:1], y[:1])  # compiles, the first time on a machine
    net.predict(x[:1])
    print(
        f"kernels ready in {time.perf_counter() - start:.1f} s (compiled once on a machine, then read from its cache)"
    )
    # Before the fit, at whose end the gradient is smaller than what is tolerated.
    print("this network's kernels against the NumPy reference:")
    shares = compare_with_reference(net, x, y)
    for name, share in shares.items():
        print(f"    {name:20} worst error {share:.2%} of its tolerance")
    print()
    history = trainer.fit(
        x, y, batch_size=BATCH, epochs=epochs, seed=SEED, validation_data=(test_x, test_y), progress=True
    )
    labels = net.predict(test_x).argmax(1)
    print(f"test accuracy {np.mean(labels == test_y):.2%}\n")

    timer = Trainer(net.copy(), loss="softmax_cross_entropy", optimizer=AdamW())
    timer.fit(x, y, batch_size=BATCH, epochs=2, seed=SEED, progress=False)
    seconds = timer.fit(x, y, batch_size=BATCH, epochs=9, seed=SEED, progress=False).metrics["seconds"]
    ours, theirs = float(np.median(seconds)), reference_epoch(net, x, y, batches=10)
    print(f"\none epoch: fastnn {ours * 1e3:.2f} ms, NumPy reference {theirs * 1e3:.1f} ms ({theirs / ours:.3g} times)")
    draw(output, history, test_x, test_y, labels)
    print(f"wrote {output}")
    return 0 if max(shares.values()) <= 1 else 1
