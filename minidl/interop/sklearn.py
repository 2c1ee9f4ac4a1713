"""Models of minidl as estimators of scikit-learn: pipelines, searches, ensembles, calibration and the rest take them.

The extra ``sklearn`` installs scikit-learn, 1.6 or newer. See docs/scikit_learn.md.
"""

from __future__ import annotations

import contextvars
import copy
import numbers
from collections.abc import Callable
from typing import Any

import numpy

from minidl import engines, optim, random
from minidl.errors import DataError, MissingDependencyError, ParameterError
from minidl.interop.recipe import Recipe
from minidl.models import Sequential, mlp
from minidl.ops import softmax
from minidl.training import EarlyStopping, Trainable, losses

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.model_selection import train_test_split
    from sklearn.utils import check_random_state
    from sklearn.utils.class_weight import compute_sample_weight
    from sklearn.utils.multiclass import check_classification_targets, type_of_target
    from sklearn.utils.validation import _check_sample_weight, check_is_fitted, column_or_1d, validate_data
except ImportError as error:
    raise MissingDependencyError.needs("minidl.interop.sklearn", "scikit-learn>=1.6", "sklearn") from error

__all__ = ["NeuralClassifier", "NeuralRegressor", "Recipe"]

BATCH = 256
"""How many examples are predicted at once."""


class _NeuralEstimator(BaseEstimator):
    """What the classifier and the regressor share: building, training, predicting and pickling a network."""

    network_: Trainable
    history_: dict[str, list[float]]
    n_features_in_: int
    n_outputs_: int
    _made_of: tuple[Any, tuple[Any, dict[str, Any]], Any]
    """How the network was built: by what, with which optimiser and its settings, for which loss."""

    def __init__(
        self,
        model: Any = (100,),
        *,
        activation: str = "relu",
        dropout: float = 0.0,
        loss: Any = None,
        optimizer: Any = "adam",
        learning_rate: float | None = None,
        weight_decay: float | None = None,
        batch_size: int = 32,
        epochs: int = 100,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        patience: int = 10,
        warm_start: bool = False,
        callbacks: Any = None,
        engine: str | None = None,
        dtype: str = "float32",
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.model = model
        self.activation = activation
        self.dropout = dropout
        self.loss = loss
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.epochs = epochs
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.warm_start = warm_start
        self.callbacks = callbacks
        self.engine = engine
        self.dtype = dtype
        self.random_state = random_state
        self.verbose = verbose

    # what the two differ in -------------------------------------------------------------------------------------------

    def _default_loss(self) -> str:
        raise NotImplementedError

    def _strata(self, target: numpy.ndarray) -> numpy.ndarray | None:
        """Return the labels to stratify the validation data by, if there are any."""
        return None

    # building ---------------------------------------------------------------------------------------------------------

    def _recipe(self) -> Callable[[int, int], Any]:
        """Return how to build the network with the settings of now, whatever happens to the settings later."""
        if callable(self.model):
            return self.model.__sklearn_clone__() if isinstance(self.model, Recipe) else self.model
        one = isinstance(self.model, numbers.Integral)
        try:
            sizes = (int(self.model),) if one else tuple(int(size) for size in self.model)
        except (TypeError, ValueError) as error:
            raise ParameterError(
                f"{type(self).__name__}: model must be the sizes of the hidden layers, such as (64, 32), a Recipe, or a "
                f"function (n_features, n_outputs); got {self.model!r}"
            ) from error
        settings = {"activation": self.activation, "dropout": self.dropout, "dtype": self.dtype}
        return Recipe(_build_mlp, sizes=sizes, **settings)

    def _optimizer_of(self) -> tuple[Any, dict[str, Any]]:
        """Return the class of the optimiser, and its settings."""
        kind, settings = optim.get(self.optimizer) if isinstance(self.optimizer, str) else (self.optimizer, {})
        given = {"lr": self.learning_rate, "weight_decay": self.weight_decay}
        return kind, {**settings, **{name: value for name, value in given.items() if value is not None}}

    def _create(self, made_of: tuple[Any, Any, Any]) -> Trainable:
        """Build and compile a network in the current context."""
        recipe, (kind, settings), loss = made_of
        network = recipe(self.n_features_in_, self.n_outputs_)
        if not isinstance(network, Trainable):
            raise ParameterError(
                f"{type(self).__name__}: model must build a model with fit, such as a Sequential, not a {type(network).__name__}"
            )
        network.build((self.n_features_in_,))
        network.compile(lambda parameters: kind(parameters, **settings), copy.deepcopy(loss))
        return network

    def _in_context(self, function: Callable[[], Any]) -> Any:
        """Call a function on the engine of this estimator, without touching the engine and the generator outside."""

        def run() -> Any:
            engines.use(self.engine or engines.current())
            return function()

        return contextvars.copy_context().run(run)

    # training ---------------------------------------------------------------------------------------------------------

    def _goes_on(self) -> bool:
        """Whether fit continues an earlier one."""
        return bool(self.warm_start) and hasattr(self, "network_")

    def _train(
        self, X: numpy.ndarray, target: numpy.ndarray, weights: numpy.ndarray | None, epochs: int, fresh: bool
    ) -> Any:
        made_of = self._recipe(), self._optimizer_of(), self._default_loss() if self.loss is None else self.loss
        if fresh:
            seed = check_random_state(self.random_state).randint(numpy.iinfo(numpy.int32).max)
            self._generator = numpy.random.default_rng(seed)
        elif self._made_of[0] != made_of[0]:
            raise ParameterError(
                f"{type(self).__name__}: model was {self._made_of[0]!r} when the training began, and is {made_of[0]!r} now; "
                "to train another model, call fit with warm_start=False"
            )

        def train() -> Trainable:
            random.seed(int(self._generator.integers(2**32)))
            network = self._create(made_of) if fresh else self.network_
            if not fresh and self.learning_rate is not None:
                network.optimizer.lr = self.learning_rate
            self._fit_network(network, X, target, weights, epochs)
            return network

        network = self._in_context(train)
        if fresh:
            self.network_, self._made_of, self.history_ = network, made_of, {}
        assert network.history is not None
        for name, values in network.history.history.items():
            self.history_.setdefault(name, []).extend(values)
        self.n_iter_ = len(self.history_.get("loss", []))
        return self

    def _fit_network(
        self, network: Trainable, X: numpy.ndarray, target: numpy.ndarray, weights: numpy.ndarray | None, epochs: int
    ) -> None:
        callbacks = [copy.copy(callback) for callback in self.callbacks or ()]  # they change, the settings must not
        held_out = None
        if weights is not None and not weights.all():  # an example of weight 0 is none, also in the size of a batch
            chosen = numpy.flatnonzero(weights)
            if not len(chosen):
                raise DataError(f"{type(self).__name__}: every sample_weight is 0")
            X, target, weights = X[chosen], target[chosen], weights[chosen]
        if self.early_stopping:
            rows = numpy.arange(len(X))
            chosen, others = train_test_split(
                rows,
                test_size=self.validation_fraction,
                random_state=int(random.generator().integers(2**31)),
                stratify=self._strata(target),
            )
            held_out = _select(X, target, weights, others)
            X, target, weights = _select(X, target, weights, chosen)
            callbacks.append(EarlyStopping(patience=self.patience, restore_best_weights=True))
        network.fit(
            X,
            target,
            sample_weight=_normalised(weights),
            epochs=epochs,
            batch_size=min(self.batch_size, len(X)),
            validation_data=None if held_out is None else (held_out[0], held_out[1], _normalised(held_out[2])),
            callbacks=callbacks,
            verbose=self.verbose,
        )

    def _weights(self, sample_weight: Any, X: numpy.ndarray) -> numpy.ndarray | None:
        if sample_weight is None:
            return None
        return _check_sample_weight(sample_weight, X, dtype=numpy.float64, ensure_non_negative=True)

    # using ------------------------------------------------------------------------------------------------------------

    def _outputs(self, X: Any) -> numpy.ndarray:
        check_is_fitted(self, "network_")
        X = validate_data(self, X, reset=False, dtype="numeric")
        # A product of few rows may be computed in another order than one of many. Whole batches give every example the same
        # bits, whatever it is predicted with.
        head, more = len(X) - len(X) % BATCH, -len(X) % BATCH
        parts = [X[:head]] if head else []
        if more:
            parts.append(numpy.concatenate([X[head:], numpy.repeat(X[-1:], more, axis=0)]))

        def predict() -> list[Any]:
            return [self.network_.predict(part, batch_size=BATCH) for part in parts]

        return numpy.concatenate(self._in_context(predict))[: len(X)].astype(numpy.float64)  # (N, K)

    # pickling: settings and plain arrays, never the network itself ----------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        network = state.pop("network_", None)
        if network is not None:
            state["_weights"] = network.state_dict()
            state["_optimizer_state"] = network.optimizer.state_dict()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        weights, of_optimizer = state.pop("_weights", None), state.pop("_optimizer_state", None)
        super().__setstate__(state)
        if weights is not None:

            def restore() -> Trainable:
                random.seed(0)  # initial weights, which are replaced at once
                network = self._create(self._made_of)
                network.load_state_dict(weights)
                network.optimizer.load_state_dict(of_optimizer)
                network.eval()
                return network

            self.network_ = self._in_context(restore)


class NeuralClassifier(ClassifierMixin, _NeuralEstimator):
    """A classifier for scikit-learn, for two classes, several, or several labels at once.

    Several labels are a matrix of zeros and ones, with a column for each label.

    Parameters
    ----------
    model : tuple of int, int, Recipe or callable, default (100,)
        The sizes of the hidden layers; or what builds a model from the numbers of features and of outputs: a
        :class:`Recipe`, whose settings can be searched as ``model__NAME``, or a function without settings. It gives
        logits, or ends in the softmax (for several labels: the sigmoid) that goes with the loss. There are as many
        outputs as classes, or labels.
    activation : str, default "relu"
        Of the hidden layers, if ``model`` is their sizes; so are ``dropout`` and ``dtype``.
    dropout : float, default 0.0
    loss : str or loss, optional
        The cross-entropy over classes by default, and the binary one for several labels.
    optimizer : str or class, default "adam"
        A name, with the settings of :func:`minidl.optim.get`, or a class such as ``minidl.AdamW``.
    learning_rate : float, optional
        The optimiser's own by default. It may be changed between calls of ``partial_fit``.
    weight_decay : float, optional
        The optimiser's own by default.
    batch_size : int, default 32
        At most the number of examples.
    epochs : int, default 100
        What ``HalvingGridSearchCV`` can take as its resource.
    early_stopping : bool, default False
        Whether to hold out examples, stop when the loss on them has not improved for ``patience`` epochs, and go back to the
        best weights.
    validation_fraction : float, default 0.1
        The share that is held out; each class in proportion.
    patience : int, default 10
    class_weight : dict or "balanced", optional
        As in scikit-learn; multiplied with ``sample_weight``.
    warm_start : bool, default False
        Whether another ``fit`` goes on with the same network.
    callbacks : list of Callback, optional
        A copy of each takes part in the training.
    engine : str, optional
        ``"numpy"``, ``"native"`` or ``"cupy"``; that of the caller by default.
    dtype : str, default "float32"
    random_state : int, RandomState or None, default None
        Of initial weights, shuffling, dropout and what is held out. The generator of ``minidl.seed`` is neither used nor
        changed.
    verbose : int, default 0
        As in ``Sequential.fit``.

    Attributes
    ----------
    classes_ : numpy.ndarray, shape (K,)
        The classes, sorted; the numbers of the labels if there are several.
    network_ : Sequential or another model
    history_ : dict of str to list of float
        The loss of each epoch, and of validation with ``early_stopping``.
    n_iter_ : int
        Epochs so far.
    n_features_in_, n_outputs_ : int
    feature_names_in_ : numpy.ndarray
        Of a DataFrame whose columns all have names.

    Raises
    ------
    MinidlError
        From ``fit``, for settings and data that ``Sequential.fit`` does not take; bad input is a ValueError, as in
        scikit-learn.

    Notes
    -----
    An example of weight 2 counts as two, because weights are divided by their mean: the loss is a weighted mean. Networks
    want features of similar size, so put a ``StandardScaler`` before one.

    Examples
    --------
    >>> import numpy
    >>> X = numpy.random.default_rng(0).normal(size=(200, 2))
    >>> y = numpy.where(X[:, 0] * X[:, 1] > 0, "same", "different")
    >>> model = NeuralClassifier((16,), learning_rate=0.01, random_state=0).fit(X, y)
    >>> model.score(X, y) > 0.95
    True
    >>> print(model.predict([[1.0, 2.0], [1.0, -2.0]]))
    ['same' 'different']
    """

    def __init__(
        self,
        model: Any = (100,),
        *,
        activation: str = "relu",
        dropout: float = 0.0,
        loss: Any = None,
        optimizer: Any = "adam",
        learning_rate: float | None = None,
        weight_decay: float | None = None,
        batch_size: int = 32,
        epochs: int = 100,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        patience: int = 10,
        class_weight: Any = None,
        warm_start: bool = False,
        callbacks: Any = None,
        engine: str | None = None,
        dtype: str = "float32",
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(
            model,
            activation=activation,
            dropout=dropout,
            loss=loss,
            optimizer=optimizer,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            batch_size=batch_size,
            epochs=epochs,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            patience=patience,
            warm_start=warm_start,
            callbacks=callbacks,
            engine=engine,
            dtype=dtype,
            random_state=random_state,
            verbose=verbose,
        )
        self.class_weight = class_weight

    def _default_loss(self) -> str:
        return "binary_crossentropy" if self._multilabel else "sparse_categorical_crossentropy"

    def _strata(self, target: numpy.ndarray) -> numpy.ndarray | None:
        return None if self._multilabel else target

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> NeuralClassifier:
        """Train on examples X, (N, F), and their classes y, (N,), or labels, (N, L).

        Returns
        -------
        NeuralClassifier
            The estimator itself.
        """
        fresh = not self._goes_on()
        return self._fit(X, y, sample_weight, self.epochs, fresh, None)

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> NeuralClassifier:
        """Train for one epoch on some of the examples.

        Parameters
        ----------
        X : array, shape (N, F)
        y : array, shape (N,), or (N, L) for several labels
        classes : array, shape (K,), optional
            All classes there are. The first call needs it, except for several labels.
        sample_weight : array, shape (N,), optional

        Returns
        -------
        NeuralClassifier
            The estimator itself.
        """
        fresh = not hasattr(self, "network_")
        return self._fit(X, y, sample_weight, 1, fresh, classes, partial=True)

    def _fit(
        self, X: Any, y: Any, sample_weight: Any, epochs: int, fresh: bool, classes: Any, partial: bool = False
    ) -> NeuralClassifier:
        X, y = validate_data(self, X, y, reset=fresh, multi_output=True, dtype="numeric")
        check_classification_targets(y)
        kind = type_of_target(y, input_name="y")
        if kind == "multiclass-multioutput":
            raise DataError(
                f"{type(self).__name__}: y has several columns of classes; for a classifier of each column use "
                "sklearn.multioutput.MultiOutputClassifier"
            )
        multilabel = kind == "multilabel-indicator"
        if multilabel:
            y = y.toarray() if hasattr(y, "toarray") else y  # (N, L)
            found = numpy.arange(y.shape[1])
        else:
            y = column_or_1d(y, warn=True)  # (N,)
            if partial and fresh and classes is None:
                raise DataError(f"{type(self).__name__}: the first partial_fit needs classes, all there are")
            found = numpy.unique(y if classes is None else classes)
        if fresh:
            if len(found) < 2 and not multilabel:
                raise DataError(f"{type(self).__name__}: y has only one class, {found[0]!r}; at least two are needed")
            self.classes_, self._multilabel, self.n_outputs_ = found, multilabel, len(found)
        elif multilabel != self._multilabel or (multilabel and len(found) != self.n_outputs_):
            raise DataError(f"{type(self).__name__}: y is of another kind or width than that of the first call")
        weights = self._weights(sample_weight, X)
        if self.class_weight is not None:
            of_class = compute_sample_weight(self.class_weight, y)
            weights = of_class if weights is None else weights * of_class
        target = y if multilabel else self._positions(y)
        return self._train(X, target, weights, epochs, fresh)

    def _positions(self, y: numpy.ndarray) -> numpy.ndarray:
        """Return the position of each class in ``classes_``."""
        unknown = numpy.setdiff1d(y, self.classes_)
        if len(unknown):
            raise DataError(
                f"{type(self).__name__}: y has {unknown[:3]}, which is not among the classes {self.classes_}"
            )
        return numpy.searchsorted(self.classes_, y)

    def predict(self, X: Any) -> numpy.ndarray:
        """Return the likeliest class of each example, (N,), or the labels that are likelier than not, (N, L)."""
        logits = self._logits(X)
        if self._multilabel:
            return (logits > 0).astype(int)
        return self.classes_[logits.argmax(axis=1)]

    def predict_proba(self, X: Any) -> numpy.ndarray:
        """Return the probability of each class, or of each label: (N, K), float64."""
        logits = self._logits(X)
        return _sigmoid(logits) if self._multilabel else softmax(logits)[0]

    def decision_function(self, X: Any) -> numpy.ndarray:
        """Return the logits, (N, K); of two classes the logit of the second, (N,)."""
        logits = self._logits(X)
        if self.n_outputs_ == 2 and not self._multilabel:
            return logits[:, 1] - logits[:, 0]
        return logits

    def _logits(self, X: Any) -> numpy.ndarray:
        outputs = self._outputs(X)
        if losses.absorbed_activation(self.network_, self.network_.loss, by_name=True) is None:
            return outputs
        p = numpy.clip(outputs, numpy.finfo(numpy.float64).tiny, None)  # the model ends in its softmax or sigmoid
        return numpy.log(p) - numpy.log1p(-numpy.minimum(p, 1 - 1e-16)) if self._multilabel else numpy.log(p)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


class NeuralRegressor(RegressorMixin, _NeuralEstimator):  # numpydoc ignore=PR02
    """A regressor for scikit-learn, for one number or several.

    Parameters
    ----------
    model, activation, dropout : see :class:`NeuralClassifier`
    loss : str or loss, default "mean_squared_error"
    optimizer, learning_rate, weight_decay, batch_size, epochs : see :class:`NeuralClassifier`
    early_stopping, validation_fraction, patience, warm_start : see :class:`NeuralClassifier`
    callbacks, engine, dtype, random_state, verbose : see :class:`NeuralClassifier`

    Notes
    -----
    Numbers far from 0 and 1 are learned slowly; ``sklearn.compose.TransformedTargetRegressor`` standardises them.

    Examples
    --------
    >>> import numpy
    >>> X = numpy.random.default_rng(0).uniform(-1, 1, size=(300, 2))
    >>> y = X[:, 0] * X[:, 1]
    >>> NeuralRegressor((32,), learning_rate=0.01, random_state=0).fit(X, y).score(X, y) > 0.95
    True
    """

    def _default_loss(self) -> str:
        return "mean_squared_error"

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> NeuralRegressor:
        """Train on examples X, (N, F), and numbers y, (N,) or (N, outputs).

        Returns
        -------
        NeuralRegressor
            The estimator itself.
        """
        return self._fit(X, y, sample_weight, self.epochs, not self._goes_on())

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> NeuralRegressor:
        """Train for one epoch on some of the examples.

        Returns
        -------
        NeuralRegressor
            The estimator itself.
        """
        return self._fit(X, y, sample_weight, 1, not hasattr(self, "network_"))

    def _fit(self, X: Any, y: Any, sample_weight: Any, epochs: int, fresh: bool) -> NeuralRegressor:
        X, y = validate_data(self, X, y, reset=fresh, multi_output=True, y_numeric=True, dtype="numeric")
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        outputs = 1 if y.ndim == 1 else y.shape[1]
        if fresh:
            self.n_outputs_, self._flat = outputs, y.ndim == 1
        elif outputs != self.n_outputs_:
            raise DataError(f"{type(self).__name__}: y has {outputs} columns, but {self.n_outputs_} in the first call")
        return self._train(X, y, self._weights(sample_weight, X), epochs, fresh)

    def predict(self, X: Any) -> numpy.ndarray:
        """Return the numbers of each example, (N,) or (N, outputs), float64."""
        outputs = self._outputs(X)
        return outputs.reshape(len(outputs)) if self._flat else outputs

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


def _build_mlp(
    n_features: int, n_outputs: int, *, sizes: tuple[int, ...], activation: str, dropout: float, dtype: str
) -> Sequential:
    return mlp([n_features, *sizes, n_outputs], activation, dropout, dtype=dtype)


def _select(
    X: numpy.ndarray, target: numpy.ndarray, weights: numpy.ndarray | None, rows: numpy.ndarray
) -> tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray | None]:
    return X[rows], target[rows], None if weights is None else weights[rows]


def _normalised(weights: numpy.ndarray | None) -> numpy.ndarray | None:
    """Return weights with mean 1: fit divides by the number of examples, so the loss is then their weighted mean."""
    return None if weights is None else weights / weights.mean()


def _sigmoid(logits: numpy.ndarray) -> numpy.ndarray:
    e = numpy.exp(-abs(logits))
    return numpy.where(logits >= 0, 1.0, e) / (1.0 + e)
