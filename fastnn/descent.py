"""An optimizer of an estimator of `fastnn.sklearn` under way."""

import numpy as np
from sklearn.neural_network._stochastic_optimizers import AdamOptimizer, SGDOptimizer

from .kernels import optimizer as layout
from .kernels.codes import Optimizer
from .kernels.regularized_training import begin_updates, training_plan
from .kernels.sweeps import Optimization
from .kernels.table import IN, NORMALIZATION, OUT, is_regularized
from .kernels.training import RATES, train_planned


class Descent:
    """scikit-learn's object for the learning rate and stopping, fastnn's moments and kernel.

    Attributes:
        schedule: scikit-learn's object.
        scheduler: the `LearningRateScheduler` of a schedule of fastnn's, or None.
        steps: updates done so far.
        learning_rate: the schedule's; that of sgd may be assigned between two fits.
        seed: of what dropout drops, or None as long as nothing has been dropped.
    """

    def __init__(self, schedule, scheduler=None):
        self.schedule, self.scheduler, self.seed = schedule, scheduler, None
        self.steps = 0
        # The moments, and the sizes of the layers that they belong to.
        self._states = self._layers = None

    @property
    def learning_rate(self):
        return self.schedule.learning_rate

    @learning_rate.setter
    def learning_rate(self, rate):
        before, self.schedule.learning_rate = self.schedule.learning_rate, rate
        if self._states is not None and isinstance(self.schedule, SGDOptimizer):
            self._scale_velocity(before)

    parameter_count = property(lambda self: self._net.parameter_count)

    def begin(self, net, objective, hyper):
        """Go on with this network.

        Args:
            objective: (code, parameter) of the loss.
            hyper: what the kernel's hyper-parameters hold besides those of the schedule, by place.

        Raises:
            ValueError: it has moments of a network with other layers.
        """
        layers = net.table[:, (IN, OUT, NORMALIZATION)].tolist()
        if self._states is not None and layers != self._layers:
            sizes = lambda layers: [layer[0] for layer in layers] + [layers[-1][1]]
            raise ValueError(
                f"coefs_: expected layers of the sizes {sizes(self._layers)}, of which the optimizer has moments, got "
                f"{sizes(layers)}; fit begins anew"
            )
        self._layers = layers
        self._net, self._objective, self._hyper = net, objective, hyper
        size = net.parameter_count
        needed = (True, True) if isinstance(self.schedule, AdamOptimizer) else (self.schedule.momentum > 0, False)
        old = self._states or [np.zeros(size * used, net.dtype) for used in needed]
        # Loaded by joblib they may lie in a read-only map, where the kernel must not write.
        usable = lambda state: state.dtype == net.dtype and state.flags.carray
        self._states = [state if usable(state) else np.array(state, net.dtype) for state in old]
        self._renew()

    def _renew(self):
        """Tell the kernel what the schedule says now."""
        schedule, hyper = self.schedule, np.zeros(layout.HYPER_SIZE)
        for place, number in self._hyper.items():
            hyper[place] = number
        if isinstance(schedule, AdamOptimizer):
            code = Optimizer.ADAM
            hyper[[layout.LEARNING_RATE, layout.EPS, layout.EPS_HAT]] = schedule.learning_rate_init, schedule.epsilon, 1
            hyper[[layout.MOMENTUM, layout.BETA2]] = schedule.beta_1, schedule.beta_2
        else:
            code = Optimizer.SGD
            hyper[layout.LEARNING_RATE] = schedule.learning_rate
            hyper[[layout.MOMENTUM, layout.NESTEROV]] = schedule.momentum, schedule.nesterov
        self._optimization = Optimization(int(code), hyper, *self._states)
        self._planned = None

    def rate_changed(self, before):
        """Take the schedule's rate, which was `before`.

        scikit-learn's velocity holds the rate, v = momentum v - rate g, and ours does not: it is scaled so that it is
        the one which steps at the old rate have built up.
        """
        if self.schedule.learning_rate != before:
            self._scale_velocity(before)
            self._renew()

    def _scale_velocity(self, before):
        velocity, rate, largest = self._states[0], self.schedule.learning_rate, np.finfo(np.float64).max
        ratio = min(before / rate, largest) if rate != 0 else largest
        # At a rate so low that the velocity would be infinite, steps are 0.
        most = np.finfo(velocity.dtype).max
        with np.errstate(over="ignore"):
            velocity[:] = np.clip(np.multiply(velocity, ratio, dtype=np.float64), -most, most)

    def run(self, x, y, weight, order, batch_size, count, rates):
        """Updates on `count` batches of the data, in this order or as they lie if it is empty; returns their losses.

        rates: a learning rate for each update, or None for the schedule's.
        """
        resources = self._net._resources
        threads = resources.threads(batch_size, self._net.num_threads)
        workspace = resources.training(batch_size, threads)
        # A plan holds addresses: it is good for one workspace.
        if self._planned is None or self._planned[0] is not workspace or self._planned[1] != threads:
            code, parameter = self._objective
            plan = training_plan(self._net.network, self._optimization, code, workspace, threads, parameter)
            self._planned = workspace, threads, plan
        plan = self._planned[2]
        batch_losses = np.empty(count)
        first, self.steps = self.steps + 1, self.steps + count
        plan[RATES] = 0 if rates is None else rates.ctypes.data
        if is_regularized(self._net.table):
            begin_updates(plan, self.seed or 0, first)
        train_planned(plan.ctypes.data, x, y, weight, order, batch_size, first, batch_losses)
        return batch_losses

    def __getstate__(self):
        return {name: self.__dict__[name] for name in ("schedule", "scheduler", "seed", "_states", "_layers", "steps")}
