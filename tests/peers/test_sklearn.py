"""The estimators of minidl.interop.sklearn: scikit-learn's own checks, and the tools of scikit-learn that take them."""

import copy
import pickle
import warnings

import numpy
import pytest

import minidl as dl
from minidl.errors import DataError, MinidlError, ParameterError, UnknownNameError
from minidl.training import LambdaCallback

pytest.importorskip("sklearn", minversion="1.6")
pytestmark = pytest.mark.peers

import joblib  # noqa: E402
from sklearn import base, calibration, compose, ensemble, impute, inspection, linear_model  # noqa: E402
from sklearn import model_selection as selection  # noqa: E402
from sklearn.datasets import load_digits, load_iris, make_multilabel_classification  # noqa: E402
from sklearn.experimental import enable_halving_search_cv  # noqa: E402, F401
from sklearn.multioutput import MultiOutputClassifier  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import OneHotEncoder, StandardScaler  # noqa: E402
from sklearn.utils.estimator_checks import check_estimator  # noqa: E402

from minidl.interop.sklearn import NeuralClassifier, NeuralRegressor, Recipe  # noqa: E402

IRIS, SPECIES = load_iris(return_X_y=True)
IRIS = (IRIS - IRIS.mean(axis=0)) / IRIS.std(axis=0)
NAMES = numpy.array(["setosa", "versicolor", "virginica"])[SPECIES]
QUICK = {"learning_rate": 0.01, "epochs": 15, "random_state": 0}
TOO_FINE = (
    "Weights and repetitions are the same sum in another order; the check's tolerance of 1e-7 is float32's epsilon."
)


def build(n_features, n_outputs, hidden=8, dropout=0.0, norm=False):
    layers = [
        dl.Linear(n_features, hidden),
        *([dl.BatchNorm1d(hidden)] if norm else []),
        dl.ReLU(),
        dl.Dropout(dropout),
    ]
    return dl.Sequential([*layers, dl.Linear(hidden, n_outputs)])


def build_with_softmax(n_features, n_outputs):
    return dl.Sequential([dl.Linear(n_features, 8), dl.ReLU(), dl.Linear(8, n_outputs), dl.Softmax()])


def build_with_sigmoid(n_features, n_outputs):
    return dl.Sequential([dl.Linear(n_features, n_outputs), dl.Sigmoid()])


@pytest.mark.parametrize("kind", [NeuralClassifier, NeuralRegressor])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_scikit_learns_own_checks(kind, dtype):
    expected = {} if dtype == "float64" else {"check_sample_weight_equivalence_on_dense_data": TOO_FINE}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of scikit-learn: checks that are skipped, features that are deprecated
        found = check_estimator(kind(dtype=dtype), expected_failed_checks=expected, on_skip=None, on_fail=None)
    wrong = [result for result in found if result["status"] not in ("passed", "xfail", "skipped")]
    assert not wrong, wrong
    assert {result["check_name"] for result in found if result["status"] == "skipped"} <= {"check_array_api_input"}
    assert sum(result["status"] == "passed" for result in found) >= 55


# weights ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [NeuralClassifier, NeuralRegressor])
def test_an_example_of_weight_2_counts_as_two(kind):
    y = SPECIES if kind is NeuralClassifier else IRIS[:, 0] * IRIS[:, 1]
    times = numpy.random.default_rng(0).integers(0, 4, len(y))
    settings = QUICK | {"batch_size": 1000, "dtype": "float64"}
    weighted = kind((8,), **settings).fit(IRIS, y, sample_weight=times)
    repeated = kind((8,), **settings).fit(IRIS.repeat(times, axis=0), y.repeat(times))
    show = "predict_proba" if kind is NeuralClassifier else "predict"
    numpy.testing.assert_allclose(getattr(weighted, show)(IRIS), getattr(repeated, show)(IRIS), rtol=1e-9)
    numpy.testing.assert_allclose(weighted.history_["loss"], repeated.history_["loss"], rtol=1e-9)
    plain = kind((8,), **settings).fit(IRIS, y)
    assert abs(getattr(plain, show)(IRIS) - getattr(weighted, show)(IRIS)).max() > 1e-3


def test_weights_are_relative_and_those_of_0_leave_no_trace():
    weights = (numpy.arange(150) % 3 > 0).astype(float)
    one = NeuralClassifier((8,), **QUICK).fit(IRIS, NAMES, sample_weight=weights)
    other = NeuralClassifier((8,), **QUICK).fit(IRIS, NAMES, sample_weight=16 * weights)
    without = NeuralClassifier((8,), **QUICK).fit(IRIS[weights > 0], NAMES[weights > 0])
    assert (one.predict_proba(IRIS) == other.predict_proba(IRIS)).all()
    assert one.predict_proba(IRIS) == pytest.approx(without.predict_proba(IRIS), abs=1e-5)
    with pytest.raises(ValueError, match=r"(?i)weight"):
        NeuralClassifier((8,), **QUICK).fit(IRIS, NAMES, sample_weight=0 * weights)


def test_class_weights_are_weights_of_examples():
    settings = QUICK | {"batch_size": 1000, "dtype": "float64"}
    rare = numpy.concatenate([numpy.arange(50), numpy.arange(50, 60), numpy.arange(100, 105)])
    X, y = IRIS[rare], NAMES[rare]
    balanced = NeuralClassifier((8,), class_weight="balanced", **settings).fit(X, y)
    by_hand = NeuralClassifier((8,), **settings).fit(X, y, sample_weight=numpy.repeat([1, 5, 10], [50, 10, 5]))
    numpy.testing.assert_allclose(balanced.predict_proba(X), by_hand.predict_proba(X), rtol=1e-9)


# what is learned ----------------------------------------------------------------------------------------------------


def test_several_labels_at_once():
    X, y = make_multilabel_classification(400, n_classes=4, random_state=0)
    model = make_pipeline(StandardScaler(), NeuralClassifier((32,), **QUICK)).fit(X, y)
    p = model.predict_proba(X)
    assert p.shape == (400, 4)
    assert ((p > 0.5) == model.predict(X)).all()
    assert (model.predict(X) == y).mean() > 0.85
    from scipy.sparse import csr_matrix

    sparse = make_pipeline(StandardScaler(), NeuralClassifier((32,), **QUICK)).fit(X, csr_matrix(y))
    assert (sparse.predict_proba(X) == p).all()
    assert list(model[-1].classes_) == [0, 1, 2, 3]


def test_several_numbers_at_once():
    y = numpy.stack([IRIS[:, 0] * IRIS[:, 1], IRIS[:, 2]], axis=1)
    model = NeuralRegressor((32,), **QUICK | {"epochs": 60}).fit(IRIS, y)
    assert model.predict(IRIS).shape == (150, 2)
    assert model.score(IRIS, y) > 0.9
    with pytest.raises(DataError, match="3 columns, but 2"):
        model.partial_fit(IRIS, IRIS[:, :3])


def test_several_columns_of_classes_are_for_a_wrapper_of_scikit_learn():
    y = numpy.stack([SPECIES, SPECIES % 2 + 5], axis=1)
    with pytest.raises(ValueError, match="MultiOutputClassifier"):
        NeuralClassifier().fit(IRIS, y)
    assert MultiOutputClassifier(NeuralClassifier((8,), **QUICK)).fit(IRIS, y).score(IRIS, y) > 0.85


@pytest.mark.parametrize(
    ("model", "labels"), [(build_with_softmax, SPECIES), (build_with_sigmoid, numpy.eye(3, dtype=int)[SPECIES])]
)
def test_a_model_may_end_in_the_activation_that_goes_with_the_loss(model, labels):
    model = NeuralClassifier(model, **QUICK).fit(IRIS, labels)
    p, z = model.predict_proba(IRIS), model.decision_function(IRIS)
    assert p == pytest.approx(model.network_.predict(IRIS), abs=1e-6)
    assert (z.argmax(axis=1) == p.argmax(axis=1)).all()
    assert model.predict(IRIS).shape == labels.shape


def test_other_losses_and_optimisers():
    y = IRIS[:, 0] + IRIS[:, 1]
    for settings in (
        {"loss": "mae"},
        {"loss": dl.HuberLoss(), "optimizer": dl.AdamW, "weight_decay": 0.1},
        {"optimizer": "sgd"},
    ):
        model = NeuralRegressor((16,), **QUICK | settings | {"epochs": 40}).fit(IRIS, y)
        assert model.score(IRIS, y) > 0.9, settings
        assert (pickle.loads(pickle.dumps(model)).predict(IRIS) == model.predict(IRIS)).all()
    smooth = NeuralClassifier((8,), loss=dl.CrossEntropyLoss(label_smoothing=0.3), **QUICK).fit(IRIS, NAMES)
    assert smooth.predict_proba(IRIS).max() < NeuralClassifier((8,), **QUICK).fit(IRIS, NAMES).predict_proba(IRIS).max()


def test_early_stopping_keeps_the_best_weights_of_a_share_of_each_class():
    seen = []
    note = LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(logs["val_loss"]))
    noise = numpy.random.default_rng(0).permutation(NAMES)
    model = NeuralClassifier(
        (64,), early_stopping=True, validation_fraction=0.2, patience=4, callbacks=[note], **QUICK | {"epochs": 500}
    ).fit(IRIS, noise)
    assert model.n_iter_ == len(seen) == int(numpy.argmin(seen)) + 5
    assert model.history_["val_loss"] == seen
    assert "model" not in vars(note)  # a copy took part
    with pytest.raises(ValueError, match="least populated class"):
        NeuralClassifier(early_stopping=True).fit(IRIS[:51], NAMES[:51])


# going on -----------------------------------------------------------------------------------------------------------


def test_partial_fit_takes_the_examples_in_parts():
    model = NeuralClassifier((16,), **QUICK)
    with pytest.raises(ValueError, match="needs classes"):
        model.partial_fit(IRIS, NAMES)
    for turn in range(45):
        model.partial_fit(IRIS[turn % 3 :: 3], NAMES[turn % 3 :: 3], classes=numpy.unique(NAMES))
    assert model.n_iter_ == len(model.history_["loss"]) == 45
    assert model.score(IRIS, NAMES) > 0.93
    with pytest.raises(DataError, match="'rose'.*not among the classes"):
        model.partial_fit(IRIS[:2], ["rose", "setosa"])
    settled = model.predict_proba(IRIS)
    model.set_params(learning_rate=1e-12).partial_fit(IRIS, NAMES)  # a rate can be changed on the way
    assert model.predict_proba(IRIS) == pytest.approx(settled, abs=1e-6)


def test_warm_start_goes_on_unless_the_model_is_another():
    model = NeuralClassifier(Recipe(build, hidden=8), warm_start=True, **QUICK).fit(IRIS, NAMES)
    network = model.network_
    assert model.fit(IRIS, NAMES).network_ is network
    assert model.n_iter_ == 30
    with pytest.raises(ParameterError, match=r"model was Recipe\(build, hidden=8\) .* Recipe\(build, hidden=4\) now"):
        model.set_params(model__hidden=4).fit(IRIS, NAMES)
    assert model.set_params(warm_start=False).fit(IRIS, NAMES).n_iter_ == 15


def test_pickled_and_copied_estimators_go_on_alike(tmp_path):
    model = NeuralClassifier(Recipe(build, norm=True, dropout=0.2), **QUICK).fit(IRIS, NAMES)
    model.set_params(model__hidden=99, optimizer="sgd")  # for a later fit; the network stays as it is
    joblib.dump(model, tmp_path / "model.joblib")
    twins = [pickle.loads(pickle.dumps(model)), copy.deepcopy(model), joblib.load(tmp_path / "model.joblib")]
    assert type(model.__getstate__()["_weights"]) is dict
    assert all(type(value) is numpy.ndarray for value in model.__getstate__()["_weights"].values())
    assert "network_" not in model.__getstate__()
    model.set_params(model__hidden=8)
    model.partial_fit(IRIS, NAMES)
    for twin in twins:
        assert twin.get_params()["model__hidden"] == 99
        twin.set_params(model__hidden=8).partial_fit(IRIS, NAMES)
        assert (twin.predict_proba(IRIS) == model.predict_proba(IRIS)).all()
    assert pickle.loads(pickle.dumps(NeuralClassifier())).get_params() == NeuralClassifier().get_params()


# reproducible -------------------------------------------------------------------------------------------------------


def test_a_prediction_does_not_depend_on_what_is_predicted_with_it(host_engine):
    X = numpy.random.default_rng(0).normal(size=(300, 37))
    for dtype in ("float32", "float64"):
        model = NeuralClassifier((100, 20), engine=host_engine.name, dtype=dtype, epochs=1).fit(X, X[:, 0] > 0)
        whole = model.decision_function(X)
        for rows in (slice(0, 1), slice(7, 9), slice(100, 133), slice(40, 299), numpy.arange(300)[::-1]):
            assert (model.decision_function(X[rows]) == whole[rows]).all()


def test_the_same_seed_gives_the_same_bits_and_leaves_the_generator_alone():
    one, other, third = (
        NeuralClassifier(Recipe(build, dropout=0.3), **QUICK | {"random_state": seed}).fit(IRIS, NAMES)
        for seed in (0, 0, 1)
    )
    assert (one.predict_proba(IRIS) == other.predict_proba(IRIS)).all()
    assert (one.predict_proba(IRIS) != third.predict_proba(IRIS)).any()
    before = copy.deepcopy(dl.random.generator())
    engine = dl.engines.current()
    NeuralClassifier(Recipe(build, dropout=0.3), engine="numpy", random_state=numpy.random.RandomState(0)).fit(
        IRIS, NAMES
    )
    assert dl.random.generator().random() == before.random()
    assert dl.engines.current() is engine


# Recipe -------------------------------------------------------------------------------------------------------------


def test_settings_of_a_recipe_are_settings_of_the_estimator():
    model = NeuralClassifier(Recipe(build, hidden=4))
    assert {"model__hidden": 4, "model__dropout": 0.0}.items() <= model.get_params().items()
    twin = base.clone(model).set_params(model__hidden=6, model__dropout=0.5)
    assert (model.model.params, twin.model.params) == ({"hidden": 4}, {"hidden": 6, "dropout": 0.5})
    assert model.model == Recipe(build, hidden=4, dropout=0.0) != twin.model
    assert twin.set_params(epochs=1).fit(IRIS, NAMES).network_.parameters()[0].shape == (6, 4)
    assert repr(model) == "NeuralClassifier(model=Recipe(build, hidden=4))"
    assert "Recipe" in model._repr_html_()


def test_recipes_inside_recipes():
    def outer(n_features, n_outputs, *, inner, scale=1):
        return inner(n_features, n_outputs)

    recipe = Recipe(outer, inner=Recipe(build, hidden=4))
    assert recipe.get_params() == {"inner": recipe.params["inner"], "scale": 1, "inner__hidden": 4, "inner__dropout": 0.0, "inner__norm": False}  # fmt: skip
    twin = base.clone(recipe).set_params(inner__hidden=7, scale=2)
    assert (recipe.get_params()["inner__hidden"], twin.get_params()["inner__hidden"], twin.params["scale"]) == (4, 7, 2)
    assert twin(3, 2).parameters()[0].shape == (7, 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Recipe(build, hiden=3), "unknown argument of build 'hiden'; known: dropout, hidden, norm"),
        (lambda: Recipe(build).set_params(hiden=3), "unknown argument of build 'hiden'"),
        (lambda: Recipe(build).set_params(hidden__x=3), "unknown argument of build 'hidden__x'"),
        (lambda: Recipe(3), "build must be a function"),
        (lambda: Recipe(lambda n: None), "must take n_features and n_outputs first"),
        (lambda: Recipe(lambda n, m, width: None), "needs width"),
        (lambda: NeuralClassifier("wide").fit(IRIS, NAMES), "model must be the sizes of the hidden layers"),
        (lambda: NeuralClassifier(lambda n, m: dl.Linear(n, m)).fit(IRIS, NAMES), "must build a model with fit"),
        (lambda: NeuralClassifier(optimizer="adamm").fit(IRIS, NAMES), "unknown optimizer 'adamm'"),
        (lambda: NeuralClassifier(engine="cuda").fit(IRIS, NAMES), "unknown engine 'cuda'"),
    ],
)
def test_settings_that_make_no_sense(make, message):
    with pytest.raises(MinidlError, match=message) as caught:
        make()
    assert isinstance(caught.value, ValueError)


# with the rest of scikit-learn --------------------------------------------------------------------------------------


def test_searches_reach_the_layers_and_the_epochs():
    pipeline = make_pipeline(StandardScaler(), NeuralClassifier(Recipe(build), **QUICK))
    grid = {"neuralclassifier__model__hidden": [2, 16], "neuralclassifier__learning_rate": [1e-4, 0.03]}
    search = selection.GridSearchCV(pipeline, grid, cv=3).fit(IRIS, NAMES)
    assert search.best_params_["neuralclassifier__learning_rate"] == 0.03
    assert search.best_score_ > 0.9
    halving = selection.HalvingGridSearchCV(
        NeuralClassifier(Recipe(build), **QUICK), {"model__hidden": [2, 4, 8, 16]}, resource="epochs",
        min_resources=2, max_resources=8, factor=2, cv=3, random_state=0,
    ).fit(IRIS, NAMES)  # fmt: skip
    assert halving.n_resources_ == [2, 4, 8]
    assert halving.best_estimator_.n_iter_ == 8
    assert halving.best_params_["model__hidden"] > 2


@pytest.mark.parametrize(
    "wrap",
    [
        lambda m: ensemble.VotingClassifier([("a", m), ("b", linear_model.LogisticRegression())], voting="soft"),
        lambda m: ensemble.StackingClassifier([("a", m), ("b", linear_model.LogisticRegression())], cv=3),
        lambda m: ensemble.BaggingClassifier(m, 3, random_state=0),
        lambda m: calibration.CalibratedClassifierCV(m, cv=3),
        lambda m: calibration.CalibratedClassifierCV(m, cv=3, ensemble=False, method="isotonic"),
        lambda m: ensemble.AdaBoostClassifier(m, n_estimators=3, random_state=0),
    ],
    ids=["Voting", "Stacking", "Bagging", "Calibrated", "isotonic", "AdaBoost"],
)
def test_ensembles_and_calibration(wrap):
    model = wrap(NeuralClassifier((16,), **QUICK)).fit(IRIS[::2], NAMES[::2])
    assert model.score(IRIS[1::2], NAMES[1::2]) > 0.85
    assert model.predict_proba(IRIS).sum(axis=1) == pytest.approx(1)


def test_permutation_importance_finds_the_column_that_decides():
    X = numpy.random.default_rng(0).normal(size=(200, 3))
    model = NeuralClassifier((16,), **QUICK).fit(X, X[:, 1] > 0)
    found = inspection.permutation_importance(model, X, X[:, 1] > 0, n_repeats=3, random_state=0)
    assert found.importances_mean.argmax() == 1
    assert found.importances_mean[1] > 0.3


def test_threads_of_joblib_train_each_for_itself():
    model = NeuralClassifier(Recipe(build, dropout=0.2), **QUICK)
    alone = selection.cross_val_score(model, IRIS, NAMES, cv=4)
    with joblib.parallel_backend("threading", n_jobs=2):
        assert (selection.cross_val_score(model, IRIS, NAMES, cv=4) == alone).all()


def test_a_table_with_names_missing_values_and_text():
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"age": [20.0, 35, None, 51] * 30, "city": ["Rome", "Oslo", "Rome", None] * 30})
    target = numpy.array(["no", "yes", "no", "yes"] * 30)
    columns = compose.make_column_transformer(
        (make_pipeline(impute.SimpleImputer(), StandardScaler()), ["age"]),
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["city"]),
        verbose_feature_names_out=False,
    ).set_output(transform="pandas")
    pipeline = make_pipeline(columns, NeuralClassifier((8,), **QUICK | {"epochs": 40})).fit(table, target)
    assert pipeline.score(table, target) == 1
    assert list(pipeline[-1].feature_names_in_) == ["age", "city_Oslo", "city_Rome", "city_nan"]
    with pytest.raises(ValueError, match="feature names"):
        pipeline[-1].predict(pandas.DataFrame(numpy.zeros((1, 4)), columns=list("abcd")))
    with pytest.raises(UnknownNameError):
        pipeline.set_params(neuralclassifier__optimizer="sdg").fit(table, target)


def test_digits_by_a_convolution():
    def convolution(n_features, n_outputs, channels=8):
        return dl.Sequential(
            [
                dl.Unflatten(1, (1, 8, 8)),
                dl.Conv2d(1, channels, 3),
                dl.ReLU(),
                dl.MaxPool2d(2),
                dl.Flatten(),
                dl.Dense(n_outputs),
            ]
        )

    X, y = load_digits(return_X_y=True)
    model = NeuralClassifier(Recipe(convolution), learning_rate=0.01, epochs=6, random_state=0).fit(
        X[:1200] / 16, y[:1200]
    )
    assert model.score(X[1200:] / 16, y[1200:]) > 0.88
