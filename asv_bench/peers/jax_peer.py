import jax
import numpy as np
from jax import numpy as jnp
from work import RATES, activations_of, batches_of, data

from . import Case

jax.config.update("jax_enable_x64", True)

FUNCTIONS = {
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "identity": lambda x: x,
}


def versions():
    return f"jax {jax.__version__}"


def forward(activations, parameters, x):
    for (w, b), name in zip(parameters, activations, strict=True):
        x = FUNCTIONS[name](x @ w + b)
    return x


def train(work, x, y, weights, biases):
    activations = activations_of(work)
    rate = RATES[work.what]
    loss = lambda parameters, a, b: jnp.mean((forward(activations, parameters, a) - b) ** 2)

    def update(state, batch):
        parameters, m, v, t = state
        gradient = jax.grad(loss)(parameters, *batch)
        t = t + 1
        if work.what == "sgd":
            return (jax.tree.map(lambda p, g: p - rate * g, parameters, gradient), m, v, t), None
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, gradient)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, gradient)
        factor = rate / (1 - 0.9**t)
        root = jnp.sqrt(1 - 0.999**t)
        step = lambda p, m, v: p - (factor * m / (jnp.sqrt(v) / root + 1e-8)).astype(p.dtype)
        return (jax.tree.map(step, parameters, m, v), m, v, t), None

    def start():
        parameters = [(jnp.array(w), jnp.array(b)) for w, b in zip(weights, biases, strict=True)]
        empty = lambda: jax.tree.map(jnp.zeros_like, parameters) if work.what == "adam" else ()
        return parameters, empty(), empty(), jnp.zeros((), work.dtype)

    batches = [(jnp.array(a), jnp.array(b)) for a, b in batches_of(work, x, y)]
    stacked = tuple(jnp.stack(part) for part in zip(*batches, strict=True))
    one = jax.jit(lambda state, batch: update(state, batch)[0], donate_argnums=0)
    whole = jax.jit(lambda state, batches: jax.lax.scan(update, state, batches)[0], donate_argnums=0)

    def case(run):
        state = start()

        def call():
            nonlocal state
            state = run(state)
            jax.block_until_ready(state)

        return Case(call, lambda: np.array(state[0][0][0]), len(batches))

    def steps(state):
        for batch in batches:
            state = one(state, batch)
        return state

    return {"jit": case(steps), "scan": case(lambda state: whole(state, stacked))}


def cases(work):
    x, y, weights, biases = data(work)
    if work.kind == "train":
        return train(work, x, y, weights, biases)
    source = jnp.array(x)
    if work.kind == "activation":
        function = jax.jit(FUNCTIONS[work.activation])
        call = lambda: function(source).block_until_ready()
    else:
        parameters = [(jnp.array(w), jnp.array(b)) for w, b in zip(weights, biases, strict=True)]
        activations = activations_of(work)
        function = jax.jit(lambda parameters, x: forward(activations, parameters, x))
        call = lambda: function(parameters, source).block_until_ready()
    return {"jit": Case(call, lambda: np.array(call()))}
