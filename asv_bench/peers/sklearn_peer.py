"""scikit-learn: whole networks through partial_fit and predict.

Its loss is the sum over outputs of half the squared error, ours their mean: the rate of sgd makes up for that.
"""

import warnings

import sklearn
from sklearn.neural_network import MLPRegressor
from work import RATES, batches_of, data

from . import Case

# Squeezed and wrong-shaped targets warn at every call, and a warning takes time.
warnings.simplefilter("ignore")


def versions():
    return f"scikit-learn {sklearn.__version__}"


def cases(work):
    if work.kind not in ("train", "infer"):
        return {}
    x, y, weights, biases = data(work)
    batches = [(a, b.ravel() if b.shape[1] == 1 else b) for a, b in batches_of(work, x, y)]
    net = MLPRegressor(
        hidden_layer_sizes=work.sizes[1:-1],
        activation=work.activation,
        solver=work.what if work.kind == "train" else "adam",
        alpha=0,
        batch_size=work.rows,
        momentum=0,
        nesterovs_momentum=False,
        random_state=0,
        shuffle=False,
    )
    # The first call makes the arrays, which then take the common start.
    net.set_params(learning_rate_init=1e-300).partial_fit(*batches[0])
    for mine, given in zip((*net.coefs_, *net.intercepts_), (*weights, *biases), strict=True):
        mine[:] = given
    if work.kind == "infer":
        return {"predict": Case(lambda: net.predict(x), lambda: net.predict(x).reshape(len(x), -1))}
    rate = RATES[work.what]
    if work.what == "sgd":
        rate *= 2 / work.sizes[-1]
    net.set_params(learning_rate_init=rate)
    net._optimizer.learning_rate_init = net._optimizer.learning_rate = rate
    if work.what == "adam":
        net._optimizer.t = 0
        for moment in (*net._optimizer.ms, *net._optimizer.vs):
            moment[:] = 0

    def epoch():
        for a, b in batches:
            net.partial_fit(a, b)

    return {"partial_fit": Case(epoch, lambda: net.coefs_[0].copy(), len(batches))}
