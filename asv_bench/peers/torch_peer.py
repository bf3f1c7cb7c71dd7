import os

import torch
from torch.nn import functional
from work import RATES, activations_of, batches_of, data

from . import Case

torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())

MODULES = {"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh, "identity": None}


def versions():
    return f"torch {torch.__version__}"


def module(work, weights, biases):
    layers = []
    for w, b, name in zip(weights, biases, activations_of(work), strict=True):
        layer = torch.nn.Linear(*w.shape, dtype=getattr(torch, work.dtype))
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(w.T.copy()))
            layer.bias.copy_(torch.from_numpy(b))
        layers.append(layer)
        if MODULES[name]:
            layers.append(MODULES[name]())
    return torch.nn.Sequential(*layers)


def train(work, x, y, weights, biases):
    batches = [(torch.from_numpy(a), torch.from_numpy(b)) for a, b in batches_of(work, x, y)]

    def case(compiled, fused):
        net = module(work, weights, biases)
        kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[work.what]
        optimizer = kind(net.parameters(), lr=RATES[work.what], **({"fused": True} if fused else {"foreach": True}))
        loss = lambda a, b: functional.mse_loss(net(a), b)
        if compiled:
            loss = torch.compile(loss)

        def epoch():
            for a, b in batches:
                optimizer.zero_grad(set_to_none=True)
                loss(a, b).backward()
                optimizer.step()

        return Case(epoch, lambda: net[0].weight.detach().numpy().T.copy(), len(batches))

    return {
        "eager, fused": case(False, True),
        "eager, foreach": case(False, False),
        "compiled, fused": case(True, True),
    }


def inference(function, *arguments):
    def call():
        with torch.inference_mode():
            return function(*arguments)

    return Case(call, lambda: call().numpy())


def cases(work):
    # What was compiled for one row counts against the limit of the next.
    torch.compiler.reset()
    x, y, weights, biases = data(work)
    if work.kind == "train":
        return train(work, x, y, weights, biases)
    if work.kind == "activation":
        source, out = torch.from_numpy(x), torch.empty(x.shape)
        into = {
            "relu": lambda: torch.clamp_min(source, 0, out=out),
            "sigmoid": lambda: torch.sigmoid(source, out=out),
            "tanh": lambda: torch.tanh(source, out=out),
            "gelu": lambda: torch.ops.aten.gelu.out(source, out=out),
        }[work.activation]
        found = {"eager, out=": inference(into)}
        plain = getattr(functional, work.activation) if work.activation == "gelu" else getattr(torch, work.activation)
        return found | {"eager": inference(plain, source), "compiled": inference(torch.compile(plain), source)}
    net = module(work, weights, biases).eval()
    source = torch.from_numpy(x)
    found = {"eager": inference(net, source), "compiled": inference(torch.compile(net), source)}
    if work.kind == "linear":
        w, b, out = torch.from_numpy(weights[0]), torch.from_numpy(biases[0]), torch.empty((work.rows, work.sizes[1]))

        def in_place():
            torch.addmm(b, source, w, out=out)
            return out.relu_() if work.activation == "relu" else out.tanh_()

        found["eager, out="] = inference(in_place)
    return found
