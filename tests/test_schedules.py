"""Learning-rate schedules against PyTorch's formulas, written out again with the C library's functions."""

import math

import numpy as np
import pytest

import fastnn
from fastnn import schedules
from fastnn.schedules import Cosine, Exponential, OneCycle, ReduceOnPlateau, Step

# Some dozen additions and multiplications of numbers near 1, against library functions good to a unit or two.
RTOL = 64 * np.finfo(float).eps
TOTALS = [1, 2, 3, 10, 97]


def assert_rates(schedule, total, expected, base=0.3):
    t = np.arange(total)
    rates = schedule(t, base, total)
    assert rates.dtype == np.float64
    np.testing.assert_allclose(rates, [expected(i) for i in range(total)], rtol=RTOL, atol=RTOL * base)
    # One at a time gives the same bits as all at once.
    np.testing.assert_array_equal(np.concatenate([schedule(t[i : i + 1], base, total) for i in t]), rates)


@pytest.mark.parametrize("total", TOTALS)
def test_step_is_steplr(total):
    chained, rates = 0.3, []
    for t in range(total):
        if t > 0 and t % 3 == 0:
            chained *= 0.5
        rates.append(chained)
    assert_rates(Step(3, gamma=0.5), total, lambda t: rates[t])


@pytest.mark.parametrize("total", TOTALS)
@pytest.mark.parametrize("gamma", [0.9, 1.0, 1.01])
def test_exponential_is_exponentiallr(total, gamma):
    assert_rates(Exponential(gamma), total, lambda t: 0.3 * gamma**t)


@pytest.mark.parametrize("total", TOTALS)
@pytest.mark.parametrize("minimum", [0.0, 0.01])
def test_cosine_is_cosineannealinglr(total, minimum):
    rates = [0.3]
    for t in range(1, total):
        # The recursion that PyTorch chains.
        ratio = (1 + math.cos(math.pi * t / total)) / (1 + math.cos(math.pi * (t - 1) / total))
        rates.append(ratio * (rates[-1] - minimum) + minimum)
    schedule = Cosine(minimum=minimum)
    # The recursion's error grows where its divisor is small.
    np.testing.assert_allclose(schedule(np.arange(total), 0.3, total), rates, rtol=1e-11)
    assert_rates(schedule, total, lambda t: minimum + (0.3 - minimum) * (1 + math.cos(math.pi * t / total)) / 2)


def test_cosine_with_warm_up_is_linearlr_then_cosineannealinglr():
    def expected(t):
        if t < 4:
            return 0.3 * (0.25 + 0.75 * t / 4)
        return 0.3 * (1 + math.cos(math.pi * (t - 4) / 16)) / 2

    assert_rates(Cosine(warmup=4, warmup_factor=0.25), 20, expected)
    rates = Cosine(warmup=4, total=20, minimum=0.1)([0, 4, 12, 20, 25], 0.3, 7)
    np.testing.assert_allclose(rates, [0.1, 0.3, 0.2, 0.1, 0.1], rtol=RTOL)
    assert rates[1] == 0.3
    assert rates[3] == rates[4] == 0.1


def one_cycle(t, total, rising, divisor, end_divisor, three_phases, base):
    """PyTorch's get_lr."""
    initial = base / divisor
    lowest = initial / end_divisor
    if three_phases:
        phases = [
            (rising * total - 1, initial, base),
            (2 * rising * total - 2, base, initial),
            (total - 1, initial, lowest),
        ]
    else:
        phases = [(rising * total - 1, initial, base), (total - 1, base, lowest)]
    start = 0.0
    for i, (end, first, last) in enumerate(phases):
        if t <= end or i == len(phases) - 1:
            share = (t - start) / (end - start)
            return last + (first - last) / 2 * (1 + math.cos(math.pi * share))
        start = end
    raise AssertionError


@pytest.mark.parametrize("total", [5, 10, 97, 1000])
@pytest.mark.parametrize("three_phases", [False, True])
@pytest.mark.parametrize("rising", [0.3, 0.5])
def test_one_cycle_is_onecyclelr(total, three_phases, rising):
    # start_divisor 2 keeps the high and the low end in one scale, which the tolerance is of.
    schedule = OneCycle(rising=rising, three_phases=three_phases, start_divisor=2, end_divisor=10)
    assert_rates(schedule, total, lambda t: one_cycle(t, total, rising, 2, 10, three_phases, 0.3))
    assert schedule.per == "update"


def test_one_cycle_by_hand():
    rates = OneCycle(rising=0.3)(np.arange(100), 1.0, 100)
    assert rates[0] == pytest.approx(1 / 25)
    assert rates[29] == rates.max() == 1.0
    assert rates[99] == pytest.approx(1 / 25 / 1e4)
    assert (np.diff(rates[:30]) > 0).all()
    assert (np.diff(rates[29:]) < 0).all()


@pytest.mark.parametrize("total", [1, 2, 3])
def test_short_cycles_are_defined(total):
    for three_phases in (False, True):
        for rising in (0.0, 0.3, 0.5):
            rates = OneCycle(rising=rising, three_phases=three_phases)(np.arange(total), 1.0, total)
            assert ((rates > 0) & (rates <= 1)).all()


def test_the_cosine_is_exact_at_its_ends_and_near_the_librarys():
    share = np.linspace(0, 1, 1001)
    fall = schedules._fall(share)
    assert fall[[0, 500, 1000]].tolist() == [1, pytest.approx(0.5), 0]
    np.testing.assert_allclose(fall, [math.cos(math.pi * s / 2) ** 2 for s in share], atol=4e-16)
    np.testing.assert_allclose(fall[:-1], [math.cos(math.pi * s / 2) ** 2 for s in share[:-1]], rtol=1e-12)


GOLDEN = [
    ["0x1.3e93e93e93e94p-4", "0x1.3e7496c32bee8p-5"],
    ["0x1.999999999999ap-4", "0x1.347145fcb3ed4p-6"],
    ["0x1.8164840e171a0p-4", "0x1.4af32456809d0p-4"],
    ["0x1.999999999999ap-4", "0x1.916872b020c49p-5"],
]


def test_golden_bits():
    """The same on every machine: neither cosines nor powers come from the C library."""
    rates = [
        Cosine(warmup=3)(np.arange(10), 0.1, 10),
        OneCycle()(np.arange(10), 0.1, 10),
        Exponential(0.97)(np.arange(10), 0.1, 10),
        Step(3, 0.7)(np.arange(10), 0.1, 10),
    ]
    assert [[float(rate).hex() for rate in r[[2, 7]]] for r in rates] == GOLDEN


def learning_rates(schedule, numbers, base=1.0):
    state, rates = schedule.start(), []
    for number in numbers:
        state = schedule.observe(state, number, base)
        rates.append(base if state.learning_rate is None else state.learning_rate)
    return rates


def test_plateau_by_hand():
    schedule = ReduceOnPlateau(factor=0.5, patience=1)
    # Two epochs that are no better: one is let pass, the second reduces.
    assert learning_rates(schedule, [3, 2, 2, 2, 2, 2, 1]) == [1, 1, 1, 0.5, 0.5, 0.25, 0.25]


@pytest.mark.parametrize(
    ("settings", "numbers", "expected"),
    [
        ({"patience": 0}, [1, 1, 1], [1, 0.5, 0.25]),
        # Not better by a part of 1e-4, then by more.
        ({"patience": 0}, [1, 0.99995, 0.9998], [1, 0.5, 0.5]),
        ({"patience": 0, "threshold": 0.1, "threshold_mode": "abs"}, [1, 0.95, 0.85], [1, 0.5, 0.5]),
        ({"patience": 0, "mode": "max"}, [1, 1, 2, 2], [1, 0.5, 0.5, 0.25]),
        ({"patience": 0, "mode": "max", "threshold": 0.1}, [1, 1.05, 1.2], [1, 0.5, 0.5]),
        ({"patience": 0, "cooldown": 2}, [1] * 8, [1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.125]),
        ({"patience": 0, "minimum": 0.4}, [1] * 4, [1, 0.5, 0.4, 0.4]),
        ({"patience": 0, "eps": 0.3}, [1] * 4, [1, 0.5, 0.5, 0.5]),
        ({"patience": 0, "eps": 0.5}, [1] * 3, [1, 1, 1]),
        ({"patience": 0}, [math.nan, math.nan, 1, math.nan], [0.5, 0.25, 0.25, 0.125]),
        ({"patience": 0}, [math.inf, 5, 4], [0.5, 0.5, 0.5]),
    ],
)
def test_plateau_settings_by_hand(settings, numbers, expected):
    assert learning_rates(ReduceOnPlateau(factor=0.5, **settings), numbers) == expected


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Step(10**400), ValueError, r"size: expected below 2\*\*63, got 1000"),
        (lambda: Step(0), ValueError, "size: expected at least 1, got 0"),
        (lambda: Step(1.5), TypeError, "size: expected a whole number, got 1.5"),
        (lambda: Exponential(0), ValueError, "gamma: expected a finite number above 0, got 0"),
        (lambda: Cosine(warmup=-1), ValueError, "warmup: expected at least 0, got -1"),
        (lambda: Cosine(total=0), ValueError, "total: expected at least 1, got 0"),
        (lambda: OneCycle(rising=1), ValueError, "rising: expected a finite number of at least 0 and below 1, got 1"),
        (lambda: OneCycle(rising=0.6, three_phases=True), ValueError, "rising: expected at most 0.5 with three phases"),
        (lambda: OneCycle(three_phases=1), TypeError, "three_phases: expected True or False, got 1"),
        (lambda: ReduceOnPlateau(factor=1), ValueError, "factor: expected a finite number of at least 0 and below 1"),
        (lambda: ReduceOnPlateau(mode="low"), ValueError, "mode: expected one of min, max, got 'low'"),
        (lambda: ReduceOnPlateau(threshold_mode=""), ValueError, "threshold_mode: expected one of rel, abs, got ''"),
        (lambda: fastnn.LearningRateScheduler(0.1), TypeError, "schedule: expected an object of fastnn.schedules or a"),
        (
            lambda: fastnn.LearningRateScheduler(Step(2), per="batch"),
            ValueError,
            "per: expected one of epoch, update, got 'batch'",
        ),
        (
            lambda: fastnn.LearningRateScheduler(ReduceOnPlateau(), per="update"),
            ValueError,
            "per: expected 'epoch' for ReduceOnPlateau",
        ),
    ],
)
def test_bad_settings(make, error, message):
    with pytest.raises(error, match=message):
        make()


# ---- In a fit


@pytest.fixture
def data(rng):
    x = rng.standard_normal((50, 3)).astype(np.float32)
    return x, (x**2).sum(axis=1)


def make(**optimizer):
    return fastnn.Trainer(fastnn.MLP([3, 8, 1], activation="tanh", seed=0), optimizer=fastnn.Adam(**optimizer))


def test_rates_reach_the_updates(data):
    """A fit under a schedule is steps with the optimizer changed by hand."""
    x, y = data
    for schedule, per in [(OneCycle(), None), (Cosine(warmup=3), "update"), (Step(2), None), (Exponential(0.7), None)]:
        fitted, stepped = make(learning_rate=0.1), make(learning_rate=0.1)
        callback = fastnn.LearningRateScheduler(schedule, per=per)
        history = fitted.fit(x, y, batch_size=16, epochs=5, shuffle=False, callbacks=[callback])
        by_update = callback.per == "update"
        rates = schedule(np.arange(20 if by_update else 5), 0.1, 20 if by_update else 5)
        for update in range(20):
            rate = float(rates[update if by_update else update // 4])
            stepped.optimizer = fastnn.Adam(learning_rate=rate)
            first = update % 4 * 16
            stepped.step(x[first : first + 16], y[first : first + 16])
        np.testing.assert_array_equal(fitted.net.parameters, stepped.net.parameters)
        assert history.metrics["learning_rate"] == (rates[3::4] if by_update else rates).tolist()
        assert fitted.optimizer.learning_rate == 0.1


def test_how_calls_are_cut_does_not_show(data, monkeypatch):
    callbacks = [fastnn.LearningRateScheduler(OneCycle())]
    whole, cut = make(), make()
    whole.fit(*data, batch_size=4, epochs=3, seed=1, callbacks=callbacks)
    monkeypatch.setattr(fastnn.fit_loop, "CALL_SECONDS", 0.0)
    cut.fit(*data, batch_size=4, epochs=3, seed=1, callbacks=callbacks)
    np.testing.assert_array_equal(whole.net.parameters, cut.net.parameters)


def test_after_the_fit_the_optimizers_rate_counts_again(data):
    class Still:
        # Kept: where an update still read them, it would not move.
        rates = np.zeros(1)
        learning_rates = lambda self, base, position, count: self.rates
        on_epoch_end = staticmethod(lambda *_: None)

    train = make(learning_rate=0.1)
    before = train.net.parameters.copy()
    # Batches of as many rows as the step has.
    train.fit(*data, batch_size=None, callbacks=[Still()])
    np.testing.assert_array_equal(train.net.parameters, before)
    train.step(*data)
    moved = np.abs(train.net.parameters - before).max()
    # Adam's first steps are of the length of the rate.
    assert 0.01 < moved <= 0.11


def test_a_function_of_the_users_own(data):
    train = make(learning_rate=0.1)
    halve = fastnn.LearningRateScheduler(lambda t, rate: rate / (1 + t), per="update")
    history = train.fit(*data, batch_size=25, epochs=2, callbacks=[halve])
    assert history.metrics["learning_rate"] == [0.1 / 2, 0.1 / 4]
    for bad in (math.nan, -1.0):
        with pytest.raises(ValueError, match="schedule: learning_rate: expected a finite number of at least 0"):
            train.fit(*data, callbacks=[fastnn.LearningRateScheduler(lambda t, rate, bad=bad: bad)])


def test_plateaus_in_a_fit(data):
    train = make(learning_rate=0.1)
    numbers = iter([5.0, 4.0, 4.0, 4.0, 3.0])
    schedule = ReduceOnPlateau(monitor="score", factor=0.5, patience=0)

    def score(y, prediction):
        return next(numbers)

    callbacks = [fastnn.LearningRateScheduler(schedule)]
    history = train.fit(*data, epochs=5, callbacks=callbacks, metrics=[score])
    assert history.metrics["learning_rate"] == [0.1, 0.1, 0.1, 0.05, 0.025]
    with pytest.raises(ValueError, match="monitor: expected one of loss, learning_rate, seconds, got 'score'"):
        train.fit(*data, epochs=5, callbacks=callbacks)


def test_two_schedulers_are_one_too_many(data):
    with pytest.raises(ValueError, match="callbacks: expected at most one LearningRateScheduler, got 2"):
        make().fit(*data, callbacks=[fastnn.LearningRateScheduler(Step(1))] * 2)
