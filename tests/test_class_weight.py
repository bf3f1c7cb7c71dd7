"""Weights of classes: what NumPy makes of them, and that they are weights of rows, to the bit."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight

import fastnn
from fastnn import Trainer

CLASSES = 3
WEIGHTS = np.array([0.5, 3.0, 10.0])


@pytest.fixture
def data(rng):
    x = rng.normal(size=(90, 4))
    return x, (x[:, 0] > 0.7).astype(int) + (x[:, 1] > 0.9)


def network(outputs=CLASSES, dtype="float32", **more):
    return fastnn.MLP([4, 8, outputs], activation="tanh", dtype=dtype, seed=0, **more)


def same(first, second):
    np.testing.assert_array_equal(first.parameters, second.parameters)
    np.testing.assert_array_equal(first.statistics, second.statistics)


def log_softmax(z):
    return z - np.log(np.exp(z).sum(axis=1, keepdims=True))


def log_sigmoids(z):
    """Logarithms of the probabilities of 1 and of 0."""
    return -np.logaddexp(0, -z), -np.logaddexp(0, z)


def test_the_loss_is_the_mean_weighted_by_the_classes_of_rows(data):
    x, y = data
    net, weight = network(dtype="float64"), WEIGHTS[y]
    losses = -log_softmax(net.predict(x))[np.arange(90), y]
    expected = (weight * losses).sum() / weight.sum()
    for targets in (y, y[:, None].astype(float), np.eye(CLASSES)[y]):
        for class_weight in (WEIGHTS, WEIGHTS.tolist(), dict(enumerate(WEIGHTS)), pd.Series(WEIGHTS[::-1], [2, 1, 0])):
            loss, _ = net.loss_and_gradient(x, targets, "softmax_cross_entropy", class_weight=class_weight)
            assert loss == pytest.approx(expected, rel=1e-12)
    assert net.evaluate(x, y, "softmax_cross_entropy", class_weight=WEIGHTS)["loss"] == pytest.approx(
        expected, rel=1e-12
    )


def test_the_two_classes_of_one_output_are_0_and_1(data):
    x, y = data[0], (data[1] > 0).astype(int)
    net = network(1, "float64")
    ones, zeros = log_sigmoids(net.predict(x).ravel())
    losses, weight = -np.where(y == 1, ones, zeros), np.where(y == 1, 7.0, 1.0)
    expected = (weight * losses).sum() / weight.sum()
    for class_weight in ({1: 7}, {0: 1, 1: 7}, {False: 1, True: 7}, {1.0: 7.0}, [1, 7]):
        loss, _ = net.loss_and_gradient(x, y, "binary_cross_entropy", class_weight=class_weight)
        assert loss == pytest.approx(expected, rel=1e-12)


def test_rows_with_a_single_one_have_classes_under_sigmoids_too(data):
    x, y = data
    net, weight = network(dtype="float64"), WEIGHTS[y]
    hot = np.eye(CLASSES)[y]
    ones, zeros = log_sigmoids(net.predict(x))
    losses = -np.where(hot == 1, ones, zeros).mean(axis=1)
    loss, _ = net.loss_and_gradient(x, hot, "binary_cross_entropy", class_weight=WEIGHTS)
    assert loss == pytest.approx((weight * losses).sum() / weight.sum(), rel=1e-12)


def test_the_gradient_is_that_of_the_loss(data):
    x, y = data
    net = network(dtype="float64")

    def loss_at(parameters):
        net.parameters = parameters
        return net.loss_and_gradient(x, y, "softmax_cross_entropy", class_weight="balanced")[0]

    start, direction = net.parameters.copy(), np.cos(np.arange(net.parameter_count))
    _, gradient = net.loss_and_gradient(x, y, "softmax_cross_entropy", class_weight="balanced")
    step = 1e-5
    slope = (loss_at(start + step * direction) - loss_at(start - step * direction)) / (2 * step)
    # Differences have an error of step^2, and eps / step of rounding.
    assert gradient @ direction == pytest.approx(slope, rel=1e-7)


@pytest.mark.parametrize(("loss", "outputs"), [("softmax_cross_entropy", CLASSES), ("binary_cross_entropy", 1)])
def test_training_by_classes_is_training_by_the_weights_of_their_rows(data, rng, dtype, loss, outputs):
    x, y = data[0], data[1] if outputs > 1 else (data[1] > 0).astype(int)
    # Numbers that float32 does not have: the product is rounded once.
    table, sample_weight = WEIGHTS[: max(outputs, 2)] / 3, rng.uniform(0.1, 1, 90)
    fits = {"batch_size": 16, "epochs": 2, "seed": 1, "validation_split": 0.2}
    nets = [network(outputs, dtype.__name__, standardize=True) for _ in range(2)]
    nets[0].fit(x, y, loss, "adam", sample_weight=sample_weight, class_weight=table, **fits)
    nets[1].fit(x, y, loss, "adam", sample_weight=table[y] * sample_weight, **fits)
    same(*nets)
    unweighted = network(outputs, dtype.__name__, standardize=True)
    unweighted.fit(x, y, loss, "adam", sample_weight=sample_weight, **fits)
    assert not np.array_equal(unweighted.parameters, nets[0].parameters)
    trainers = [Trainer(net, loss, "adam") for net in nets]
    values = [
        trainers[0].step(x, y, sample_weight, class_weight=table),
        trainers[1].step(x, y, table[y] * sample_weight),
    ]
    assert values[0] == values[1]
    same(*nets)


def test_balanced_is_of_the_rows_that_are_trained_on(data):
    x, y = data
    y = np.sort(y)  # The rows held back are of class 2, which others lack.
    rest = 90 - np.count_nonzero(y == 2)
    share = (90 - rest) / 90
    assert set(y[:rest]) == {0, 1}
    by_class, by_row = network(), network()
    history = by_class.fit(
        x, y, "softmax_cross_entropy", class_weight="balanced", epochs=3, seed=0, validation_split=share
    )
    weight = compute_sample_weight("balanced", y[:rest])
    by_row.fit(x[:rest], y[:rest], "softmax_cross_entropy", sample_weight=weight, epochs=3, seed=0)
    same(by_class, by_row)
    assert history.metrics["val_loss"][-1] == by_class.evaluate(x[rest:], y[rest:], "softmax_cross_entropy")["loss"]


def test_balanced_is_scikit_learns(data):
    x, y = data
    weight = compute_class_weight("balanced", classes=np.arange(CLASSES), y=y)
    net = network()
    found = [net.loss_and_gradient(x, y, "softmax_cross_entropy", class_weight=given) for given in ("balanced", weight)]
    assert found[0][0] == found[1][0]
    np.testing.assert_array_equal(found[0][1], found[1][1])
    found = net.evaluate(x, y, "softmax_cross_entropy", class_weight="balanced", metrics=["accuracy"])
    assert found["accuracy"] == pytest.approx(balanced_accuracy_score(y, net.predict(x).argmax(axis=1)), rel=1e-6)


def test_what_a_fit_reports_has_no_classes_weights_but_its_loss(data):
    x, y = data
    net = network()
    history = net.fit(
        x,
        y,
        "softmax_cross_entropy",
        batch_size=None,
        class_weight="balanced",
        seed=0,
        validation_data=(x, y),
        metrics=["accuracy", "softmax_cross_entropy"],
    )
    numbers = {name: values[-1] for name, values in history.metrics.items()}
    after = net.evaluate(x, y, "softmax_cross_entropy", metrics=["accuracy"])
    assert numbers["accuracy"] == numbers["val_accuracy"] == after["accuracy"]
    assert (
        numbers["softmax_cross_entropy"] == numbers["val_softmax_cross_entropy"] == numbers["val_loss"] == after["loss"]
    )
    before, _ = network().loss_and_gradient(x, y, "softmax_cross_entropy", class_weight="balanced")
    assert numbers["loss"] == pytest.approx(before, rel=1e-6)


def test_a_fit_resumes_with_its_classes_weights(data):
    def interrupt(trainer, history):
        if trainer.epochs == 2:
            raise KeyboardInterrupt

    x, y = data
    through, cut = network(), network()
    given = {"class_weight": {2: 20}, "sample_weight": np.linspace(0.1, 1, 90)}
    whole = through.fit(x, y, "softmax_cross_entropy", "adam", epochs=4, seed=0, validation_split=0.1, **given)
    trainer = Trainer(cut, "softmax_cross_entropy", "adam")
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(x, y, epochs=4, seed=0, validation_split=0.1, callbacks=[interrupt], **given)
    history = trainer.resume(x, y, callbacks=[lambda trainer, history: None], **given)
    same(through, cut)
    assert history.metrics["loss"] == whole.metrics["loss"]


def each_way(net, x, y, loss, class_weight, **more):
    """Calls of all that take weights of classes."""
    trainer = Trainer(net, loss)
    return [
        lambda: net.fit(x, y, loss, class_weight=class_weight, **more),
        lambda: trainer.fit(x, y, class_weight=class_weight, **more),
        lambda: trainer.step(x, y, class_weight=class_weight, **more),
        lambda: net.loss_and_gradient(x, y, loss, class_weight=class_weight, **more),
        lambda: net.evaluate(x, y, loss, class_weight=class_weight, **more),
    ]


@pytest.mark.parametrize(
    ("class_weight", "error", "message"),
    [
        ({3: 1.0}, ValueError, "class_weight: expected classes in 0 .. 2, got 3"),
        ({-1: 1.0}, ValueError, "class_weight: expected classes in 0 .. 2, got -1"),
        ({"a": 1.0}, ValueError, "class_weight: expected classes in 0 .. 2, got 'a'"),
        ({1: -1.0}, ValueError, r"class_weight\[1\]: expected a finite number of at least 0, got -1.0"),
        ({1: "2"}, TypeError, r"class_weight\[1\]: expected a real number, got '2'"),
        ([1, 2], ValueError, r"class_weight: expected shape \(3,\), got \(2,\)"),
        ([1, 2, np.nan], ValueError, r"class_weight\[2\]: expected a finite number of at least 0, got nan"),
        (
            2.0,
            TypeError,
            "class_weight: expected a dict, an array with a weight for each of 3 classes or 'balanced', got",
        ),
        (np.ma.array([1, 2, 3]), TypeError, "class_weight: expected an array of real numbers, got a masked array"),
        ([{0: 1}] * 3, TypeError, "class_weight: expected a dict, an array"),
        ([1e300, 1, 1], ValueError, "class_weight: weights must be 0 or within the normal numbers of float32, got 1e"),
    ],
)
def test_what_is_no_weights_of_classes_is_refused(data, class_weight, error, message):
    net = network()
    before = net.parameters.copy()
    for call in each_way(net, *data, "softmax_cross_entropy", class_weight):
        with pytest.raises(error, match=f"^{message}"):
            call()
    np.testing.assert_array_equal(net.parameters, before)


def test_a_word_is_balanced_and_of_more_than_a_batch(data):
    *others, step, _, evaluate = each_way(network(), *data, "softmax_cross_entropy", "equal")
    for call in (others[0], evaluate):
        with pytest.raises(TypeError, match=r"class_weight: expected a dict, an array .* or 'balanced', got 'equal'"):
            call()
    with pytest.raises(ValueError, match="class_weight: expected a dict or an array, since a step does not see all"):
        step()
    with pytest.raises(ValueError, match=r"class_weight \* sample_weight: weights must be 0 or within"):
        network().fit(*data, "softmax_cross_entropy", class_weight={0: 1e30}, sample_weight=np.full(90, 1e30))


@pytest.mark.parametrize(
    ("loss", "outputs", "targets", "message"),
    [
        ("mse", 1, np.arange(90) % 2, "expected None with mse, whose targets are no classes"),
        ("poisson", 1, np.arange(90) % 2, "expected None with poisson, whose targets are no classes"),
        (lambda y, p: (0.0, 0 * p), 1, np.arange(90) % 2, "expected None with a loss of your own"),
        ("binary_cross_entropy", 1, np.full(90, 0.5), r"expected targets of one class each, .* got \[0.5\] at row 0"),
        (
            "binary_cross_entropy",
            2,
            np.ones((90, 2)),
            r"expected targets of one class each, .* got \[1.0, 1.0\] at row 0",
        ),
        ("binary_cross_entropy", 2, np.zeros((90, 2)), r"expected targets of one class each, .* got \[0.0, 0.0\]"),
        ("softmax_cross_entropy", 2, np.full((90, 2), 0.5), r"expected targets of one class each, .* got \[0.5, 0.5\]"),
        ("softmax_cross_entropy", 2, np.tile([0.0, 0.9], (90, 1)), "expected targets of one class each"),
    ],
)
def test_targets_that_are_no_classes_are_refused(data, loss, outputs, targets, message):
    for call in each_way(network(outputs, "float64"), data[0], targets, loss, [1.0, 2.0]):
        with pytest.raises(ValueError, match=f"^class_weight: {message}"):
            call()
