"""Attributes that other libraries have: set on an object of ours they would change nothing, and so they are refused.

Any other name that we do not have is the user's own.
"""

_FREEZE = "a fit moves all layers; to keep some, train a model of the others on what these predict"
_FIT = "it is an argument of fit"
_TRAINER = "a Trainer has it, and fit takes it"
_OPTIMIZER = "an optimizer has it"

# By class: what is said of each name.
OF_TRAINERS = {
    "lr": "did you mean 'learning_rate'?",
    "criterion": "did you mean 'loss'?",
    "loss_fn": "did you mean 'loss'?",
    "model": "it stays with its 'net'",
    "batch_size": _FIT,
    "callbacks": _FIT,
    "metrics": _FIT,
}
OF_MODELS = {
    "lr": "a Trainer has it, as 'learning_rate'",
    "learning_rate": "a Trainer has it",
    "optimizer": _TRAINER,
    "loss": _TRAINER,
    "trainable": _FREEZE,
    "requires_grad": _FREEZE,
    "training": "fits drop units and predict does not",
    "weights": "did you mean 'parameters', or the 'weight' of a layer?",
}
OF_DENSE_LAYERS = {
    "weights": "did you mean 'weight'?",
    "kernel": "did you mean 'weight'?",
    "biases": "did you mean 'bias'?",
    "gamma": "did you mean 'scale'?",
    "beta": "did you mean 'shift'?",
    "requires_grad": _FREEZE,
    "weight_decay": _OPTIMIZER,
    "l1": _OPTIMIZER,
    "l2": _OPTIMIZER,
}
OF_STANDARDIZE = {
    "std": "did you mean 'scale'?",
    "variance": "'scale' is the standard deviation",
    "trainable": "once it has learned, a fit leaves it alone",
}


class RefusesElsewhere:
    """Objects refuse the names in the `_elsewhere` of their class; those of a subclass, which may need them, do not."""

    def __setattr__(self, name, value):
        said = type(self).__dict__.get("_elsewhere", {}).get(name)
        if said is not None:
            raise AttributeError(f"{name}: a {type(self).__name__} has no such attribute to set; {said}")
        super().__setattr__(name, value)
