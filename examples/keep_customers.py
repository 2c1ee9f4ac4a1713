"""Decide which customers to make an offer to, before they leave: from a raw table to a calibrated decision, with scikit-learn.

    python examples/keep_customers.py wa_churn.csv     # with a column churn of Yes and No
    python examples/keep_customers.py                  # generated customers, for a first look

The network is one estimator among others. scikit-learn cleans the table, tunes, combines, calibrates and explains. A customer who
leaves costs five times what an offer costs.
"""

import argparse

import numpy
import pandas
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, VotingClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.impute import SimpleImputer
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score
from sklearn.model_selection import HalvingGridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import minidl as dl
from minidl.interop.sklearn import NeuralClassifier, Recipe
from minidl.metrics import calibration_error

OFFER, LOST = 1.0, 5.0
"""What it costs to make an offer, and to lose a customer to whom none was made."""


def generate_customers(generator, count=1200):
    """Return a messy table: text, missing values, rows that are there twice."""
    months, price = generator.integers(1, 72, count), generator.uniform(20, 110, count).round(2)
    contract = generator.choice(["month", "year", "two years"], count, p=[0.5, 0.25, 0.25])
    payment = generator.choice(["cheque", "card", "transfer"], count)
    logit = (
        -1.0 - 0.04 * months + 0.025 * (price - 65) + 2.5 * (contract == "month") * (price > 60) + (payment == "cheque")
    )
    leaves = generator.uniform(size=count) < 1 / (1 + numpy.exp(-logit))
    table = pandas.DataFrame({"months": months, "price": price, "contract": contract, "payment": payment})
    table["paid"] = numpy.where(generator.uniform(size=count) < 0.1, numpy.nan, (months * price).round(2))
    table["payment"] = table["payment"].where(generator.uniform(size=count) > 0.05, None)
    table["churn"] = numpy.where(leaves, "Yes", "No")
    return pandas.concat([table, table.sample(30, random_state=0)], ignore_index=True)


def clean(table):
    """Return the columns and whether each customer left. Rows that are there twice would be in both parts of a split."""
    twice, gaps = int(table.duplicated().sum()), int(table.isna().any(axis=1).sum())
    table = table.drop_duplicates().dropna(subset=["churn"])
    left = (table.pop("churn") == "Yes").astype(int)
    text = table.select_dtypes(exclude="number").columns
    print(f"{len(table)} customers after {twice} copies were dropped, {left.mean():.1%} left; "
          f"{table.shape[1] - len(text)} numbers, {len(text)} categories, {gaps} rows with something missing")  # fmt: skip
    return table, left


def build(n_features, n_outputs, hidden=32, dropout=0.0, depth=1):
    return dl.models.mlp([n_features, *[hidden] * depth, n_outputs], dropout=dropout)


def prepare():
    """Return what turns the table into numbers; what it fills in and scales by comes from training data only."""
    numbers = make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler())
    text = OneHotEncoder(handle_unknown="ignore", sparse_output=False)  # missing is a category of its own
    is_number, is_text = make_column_selector(dtype_include="number"), make_column_selector(dtype_exclude="number")
    return make_column_transformer((numbers, is_number), (text, is_text))


def tune(X, y, seed):
    """Return the best of 16 networks: all train for a few epochs, and the better third of them for three times as many."""
    network = NeuralClassifier(Recipe(build), optimizer=dl.AdamW, batch_size=64, random_state=seed)
    space = {
        "neuralclassifier__model__hidden": [16, 64],
        "neuralclassifier__model__depth": [1, 2],
        "neuralclassifier__model__dropout": [0.0, 0.3],
        "neuralclassifier__learning_rate": [1e-3, 3e-3],
    }
    search = HalvingGridSearchCV(
        make_pipeline(prepare(), network), space, resource="neuralclassifier__epochs", min_resources=3, max_resources=27,
        factor=3, cv=3, scoring="neg_log_loss", random_state=seed,
    )  # fmt: skip
    search.fit(X, y)
    found = ", ".join(f"{name.split('__')[-1]} {value:g}" for name, value in sorted(search.best_params_.items()))
    print(f"{search.n_candidates_[0]} networks tried for 3, 9 and 27 epochs; the best: {found}")
    return search.best_estimator_


def cost(y, p, threshold):
    """Return the mean cost of a customer if those likelier to leave than the threshold get an offer."""
    return float(numpy.where(p >= threshold, OFFER, LOST * y).mean())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", nargs="?", help="a CSV file; generated customers if left out")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    raw = pandas.read_csv(options.table) if options.table else generate_customers(numpy.random.default_rng(0))
    X, y = clean(raw)
    X, X_test, y, y_test = train_test_split(X, y, test_size=0.25, stratify=y, random_state=options.seed)

    tuned = tune(X, y, options.seed)
    linear = make_pipeline(prepare(), LogisticRegression(max_iter=1000))
    boosted = make_pipeline(prepare(), HistGradientBoostingClassifier(random_state=options.seed))
    members = [("network", tuned), ("linear", linear), ("boosted", boosted)]
    together = VotingClassifier(members, voting="soft")
    calibrated = VotingClassifier(
        [(name, CalibratedClassifierCV(model, cv=5, ensemble=False)) for name, model in members], voting="soft"
    )
    print(f"\n{'':24}  area under curve  log loss  Brier score  calibration error")
    models = {"logistic regression": linear, "boosted trees": boosted, "network, tuned": tuned,
              "the three together": together, "... each calibrated": calibrated}  # fmt: skip
    for name, model in models.items():  # the last one decides below
        p = model.fit(X, y).predict_proba(X_test)[:, 1]
        print(f"{name:24} {roc_auc_score(y_test, p):17.3f} {log_loss(y_test, p):9.4f} {brier_score_loss(y_test, p):12.4f} "
              f"{calibration_error(y_test, p):18.3f}")  # fmt: skip

    fair = OFFER / LOST  # an offer pays from this probability on, if probabilities are what they say
    print(f"\ncost of a customer: {cost(y_test, p, 2):.3f} without offers, {cost(y_test, p, 0):.3f} with one for each, "
          f"{cost(y_test, p, 0.5):.3f} from 0.5, {cost(y_test, p, fair):.3f} from {fair:.1f}")  # fmt: skip
    chosen = p >= fair
    print(
        f"{chosen.mean():.0%} get an offer; {y_test[chosen].mean():.0%} of them leave, of the others {y_test[~chosen].mean():.0%}"
    )

    found = permutation_importance(
        calibrated, X_test, y_test, scoring="roc_auc", n_repeats=5, random_state=options.seed
    )
    print("\nhow much of the area is lost if a column is shuffled")
    for column in found.importances_mean.argsort()[::-1][:5]:
        print(f"  {X.columns[column]:>16} {found.importances_mean[column]:.3f} +- {found.importances_std[column]:.3f}")


if __name__ == "__main__":
    main()
