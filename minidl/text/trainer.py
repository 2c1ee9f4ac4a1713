"""Training a language model on one long text, step by step, so that it can stop and go on anywhere."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import numpy

from minidl import engines, optim, random
from minidl.errors import DataError, FileFormatError, NonFiniteError, ParameterError
from minidl.layers import CrossEntropyLoss, inference
from minidl.text.batches import Windows

__all__ = ["Trainer"]

VALIDATION_STEPS = 20
"""Batches of a validation."""


class Trainer:
    """Steps of AdamW on random windows of a text, with a warm-up and half a cosine, and the gradients' norm clipped.

    What a step does depends on the seed and its number, on the weights, on the optimiser's state and on the generator of
    ``minidl.seed``, from which dropout draws. :meth:`state` returns all of that but the weights. So training that was stopped
    and goes on gives the same bits as training in one go, on the same engine with as many threads.

    Parameters
    ----------
    model : Layer
        ``forward(ids)`` takes ids (N, T) and returns logits (N, T, V).
    tokens : integer array, shape (T,)
        The text to train on.
    validation : integer array, shape (T,)
        The text to judge by; it may be too short for a window, and then there is no judgement.
    length : int
        The tokens of a window.
    batch_size : int
        The windows of a batch.
    steps : int
        All steps: the rate falls to a tenth over them.
    lr : float
        The rate after the warm-up, which takes a twentieth of the steps, at most 200.
    weight_decay : float, default 0.1
        Of weights; biases and norms have none, as in :func:`minidl.optim.param_groups_weight_decay`.
    max_norm : float, default 1.0
        What the norm of the gradients is clipped to.
    seed : int, default 0
        Decides which windows are drawn.

    Attributes
    ----------
    step : int
        The number of steps taken.

    Raises
    ------
    DataError
        If the text is too short for a window.
    ParameterError
        If a setting is out of range.
    """

    def __init__(
        self,
        model: Any,
        tokens: numpy.ndarray,
        validation: numpy.ndarray,
        length: int,
        batch_size: int,
        steps: int,
        lr: float,
        weight_decay: float = 0.1,
        max_norm: float = 1.0,
        seed: int = 0,
    ) -> None:
        if steps < 1:
            raise ParameterError(f"Trainer: steps must be at least 1, got {steps}")
        self.model, self.steps, self.max_norm, self.step = model, int(steps), max_norm, 0
        self.windows = Windows(tokens, length, batch_size, seed)
        self.validation: Windows | None = None
        if len(validation) > length:
            self.validation = Windows(validation, length, batch_size, None, VALIDATION_STEPS)
        self.loss = CrossEntropyLoss(class_axis=-1)
        groups = optim.param_groups_weight_decay(model, weight_decay)
        self.optimizer = optim.AdamW(groups, lr=lr, betas=(0.9, 0.99))
        warmup = max(min(int(steps) // 20, 200), 1)
        rise = optim.LinearLR(self.optimizer, 1 / (warmup + 1), total_iters=warmup)
        fall = optim.CosineAnnealingLR(self.optimizer, max(steps - warmup, 1), eta_min=lr / 10)
        self.schedule = optim.SequentialLR(self.optimizer, [rise, fall], [warmup])
        self._print = hashlib.sha256(numpy.ascontiguousarray(tokens).tobytes()).hexdigest()

    def advance(self) -> float:
        """Take one step and return its loss.

        Raises
        ------
        NonFiniteError
            If the loss is nan or infinite; the step is not taken.
        """
        place = engines.current().asarray
        x, y = self.windows.batch(self.step)
        with numpy.errstate(over="ignore", invalid="ignore", divide="ignore"):  # the loss is looked at instead
            value = float(self.loss.forward(self.model.forward(place(x)), place(y)))
            if not math.isfinite(value):
                raise NonFiniteError(f"the loss became {value} in step {self.step + 1}; lower the learning rate")
            self.model.backward(self.loss.backward())
            self.optimizer.clip_grad_norm(self.max_norm)
            self.optimizer.step()
            self.optimizer.zero_grad()
        self.schedule.step()
        self.step += 1
        return value

    def evaluate(self) -> float | None:
        """Return the loss over the beginning of the validation text, or None if it is too short."""
        if self.validation is None:
            return None
        place, total, count = engines.current().asarray, 0.0, 0
        with inference(evaluate=True):
            for i in range(len(self.validation)):
                x, y = self.validation[i]
                total += y.size * float(self.loss.forward(self.model.forward(place(x)), place(y)))
                count += y.size
        return total / count

    def state(self) -> tuple[dict[str, numpy.ndarray], dict[str, Any]]:
        """Return the optimiser's state, and the rest as values that JSON has."""
        rest = {
            "step": self.step,
            "schedule": self.schedule.state_dict(),
            "generator": random.generator().bit_generator.state,
            "text": self._print,
        }
        return self.optimizer.state_dict(), rest

    def load_state(self, optimizer: Mapping[str, numpy.ndarray], rest: Mapping[str, Any]) -> None:
        """Load the result of :meth:`state`.

        Raises
        ------
        DataError
            If the text is another one.
        FileFormatError
            If the state is damaged.
        ParameterError, ShapeError, DtypeError
            If the state is that of another model.
        """
        if rest.get("text") != self._print:
            raise DataError("the text, or its part for validation, is not the one that the checkpoint was trained on")
        self.optimizer.load_state_dict(optimizer)
        try:
            self.schedule.load_state_dict(rest["schedule"])
            random.generator().bit_generator.state = rest["generator"]
            self.step = int(rest["step"])
        except (KeyError, TypeError, ValueError) as error:
            raise FileFormatError(f"the state of the training is damaged: {error}") from error
