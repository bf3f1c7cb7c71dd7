"""What the field calls by another name, for messages: a name of ours is the only one that is taken."""

import difflib

# By what is left of a name in small letters without marks: what it may mean, of which a message offers those that it
# has to offer. The first are Keras', PyTorch's, JAX's, Hugging Face's and scikit-learn's names.
_MEANT = {
    # activations
    "linear": "identity",
    "none": "identity",
    "logistic": "sigmoid binary_cross_entropy",
    "expit": "sigmoid",
    "swish": "silu",
    "hardsilu": "hardswish",
    "leaky": "leaky_relu",
    "lrelu": "leaky_relu",
    "gelunew": "gelu_tanh",
    "gelufast": "gelu_tanh",
    "geluapproximate": "gelu_tanh",
    "gelupytorchtanh": "gelu_tanh",
    "rectifier": "relu",
    # losses
    "meansquarederror": "mse",
    "squarederror": "mse",
    "squaredloss": "mse",
    "l2": "mse",
    "l2loss": "mse",
    "meanabsoluteerror": "mae",
    "absoluteerror": "mae",
    "l1": "mae",
    "l1loss": "mae",
    "smoothl1": "huber",
    "smoothl1loss": "huber",
    "pinball": "quantile",
    "poissonnll": "poisson",
    "bce": "binary_cross_entropy",
    "bceloss": "binary_cross_entropy",
    "bcewithlogits": "binary_cross_entropy",
    "bcewithlogitsloss": "binary_cross_entropy",
    "binarycrossentropyfromlogits": "binary_cross_entropy",
    "logloss": "binary_cross_entropy softmax_cross_entropy",
    "ce": "softmax_cross_entropy",
    "nll": "softmax_cross_entropy",
    "nllloss": "softmax_cross_entropy",
    "xent": "softmax_cross_entropy",
    "crossentropy": "softmax_cross_entropy binary_cross_entropy",
    "crossentropyloss": "softmax_cross_entropy binary_cross_entropy",
    "categoricalcrossentropy": "softmax_cross_entropy",
    "sparsecategoricalcrossentropy": "softmax_cross_entropy",
    # optimizers
    "momentum": "sgd",
    "nesterov": "sgd",
    "gradientdescent": "sgd",
    # initializers
    "xavier": "glorot_uniform glorot_normal",
    "glorot": "glorot_uniform glorot_normal",
    "xavieruniform": "glorot_uniform",
    "xaviernormal": "glorot_normal",
    "kaiming": "he_uniform he_normal",
    "he": "he_uniform he_normal",
    "kaiminguniform": "he_uniform",
    "kaimingnormal": "he_normal",
    "lecun": "lecun_normal lecun_uniform",
    # normalization
    "layernorm": "layer",
    "layernormalization": "layer",
    "batchnorm": "batch",
    "batchnormalization": "batch",
    # methods of callbacks
    "onepochbegin": "on_fit_begin on_epoch_end",
    "ontrainbegin": "on_fit_begin",
    "ontrainstart": "on_fit_begin",
    "onfitstart": "on_fit_begin",
    "ontrainend": "on_fit_end",
    "ontrainepochend": "on_epoch_end",
    "onbatchend": "on_batches_end",
    "ontrainbatchend": "on_batches_end",
    # metrics, and what an epoch has of them
    "acc": "accuracy",
    "valacc": "val_accuracy",
}


def did_you_mean(value, options):
    """The end of a message that has refused a name: "; did you mean 'silu'?", or nothing."""
    if not isinstance(value, str):
        return ""
    bare = _bare(value)
    meant = [name for name in _MEANT.get(bare, "").split() if name in options]
    # A name of ours in other letters is nearer than any other.
    meant = meant or [name for name in options if _bare(name) == bare]
    meant = meant or difflib.get_close_matches(value.lower(), options, n=1)
    return f"; did you mean {' or '.join(map(repr, meant))}?" if meant else ""


def _bare(name):
    return "".join(filter(str.isalnum, name.lower()))
