"""The optimisers' updates."""

import numpy
from family import Family, random, unaligned

SETTINGS = {
    "sgd_update": [
        (0, {"lr": 0.1, "weight_decay": 0.01, "grad_scale": 0.5}),
        (1, {"lr": 0.1, "momentum": 0.9, "dampening": 0.1, "nesterov": True}),
        (1, {"lr": 0.1, "momentum": 0.9, "first_step": True}),
    ],
    "adagrad_update": [(1, {"lr": 0.1, "lr_decay": 0.1, "step": 3, "weight_decay": 0.1})],
    "rmsprop_update": [(1, {"lr": 0.1}), (3, {"lr": 0.1, "momentum": 0.9, "grad_scale": 2.0})],
    "adam_update": [
        (2, {"lr": 0.1, "step": 2, "weight_decay": 0.1}),
        (3, {"lr": 0.1, "step": 5, "weight_decay": 0.1, "decoupled": True, "grad_scale": 0.25}),
    ],
}
STATES = {"sgd_update": 1, "adagrad_update": 1, "rmsprop_update": 3, "adam_update": 3}


def few_updates(engine, dtype):
    wide = "float32" if dtype == "float16" else dtype
    for name, settings in SETTINGS.items():
        for states, options in settings:
            for n in (0, 1, 15, 1027, 8195):
                for place in (numpy.array, unaligned):
                    value, grad = place(random(n, dtype)), random(n, dtype, 1)
                    given = [numpy.abs(random(n, wide, 2 + i)) for i in range(states)]
                    arrays = [*given, *[None] * (STATES[name] - states)]
                    getattr(engine, name)(value, grad, *arrays, **options)
                    for what, array in zip(("value", "first", "second", "third"), (value, *given), strict=False):
                        yield f"{what} after {name} of {n}", array


def more_updates(engine, dtype):
    """The factor of clipping as an array, as it is on a device."""
    for name, settings in SETTINGS.items():
        options = settings[-1][1]
        wide = "float32" if dtype == "float16" else dtype
        value, given = random(100, dtype), [numpy.abs(random(100, wide, 2 + i)) for i in range(STATES[name])]
        scale = numpy.array(0.25, wide)
        getattr(engine, name)(value, random(100, dtype, 1), *given, **{**options, "grad_scale": scale})
        yield f"value after {name} with a factor on the device", value


UPDATES = Family(
    "update/updates.cu",
    ops=tuple(SETTINGS),
    few=few_updates,
    more=more_updates,
    planted={
        "packs without looking at the alignment": [
            ("all_aligned(value, grad, first, second, third) ? n / PACK : 0", "n / PACK")
        ],
        "one element too many": [
            ("i < n; i += share.step) {\n        real a = first", "i <= n; i += share.step) {\n        real a = first")
        ],
        "the last pack half full": [
            (
                "? n / PACK : 0;\n    for (size i = share.first; i < packs; i += share.step) {\n        pack values",
                "? (n + PACK - 1) / PACK : 0;\n    for (size i = share.first; i < packs; i += share.step) {\n        pack values",
            )
        ],
        "the rest from the first element on": [
            (
                "size i = packs * PACK + share.first; i < n; i += share.step) {\n        real a",
                "size i = share.first; i < n; i += share.step) {\n        real a",
            )
        ],
        "a state is not written": [("if (second) ((state_pack *)second)[i] = b;", "")],
        "the decay is left out": [("return decay != 0 ? g + decay * value : g;", "return g;")],
        "the first step as the others": [
            ("b = first_step ? g : momentum * b + fresh * g;", "b = momentum * b + fresh * g;")
        ],
        "the decay of the shrunken value": [("old *= shrink;\n", "")],
        "Nesterov's step is left out": [("(nesterov ? g + momentum * b : b)", "b")],
        "the gradient is not scaled": [("    g *= scale;\n", "")],
    },
)
