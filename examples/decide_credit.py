"""Decide who gets a credit: a network over numbers and categories, calibrated, with a threshold by cost, and explained.

    python examples/decide_credit.py credit_data.csv      # with a column Status of good and bad
    python examples/decide_credit.py                      # generated customers, for a first look

A credit that is not paid back costs five times what a good customer would have brought.
"""

import argparse

import numpy

import minidl as dl
from minidl.data import Standardizer, read_csv, train_test_split
from minidl.metrics import best_threshold, brier_score, calibration_error, decision_cost, fit_temperature, roc_auc
from minidl.models import TabularNetwork
from minidl.training import EarlyStopping

COST = {"false_positive": 1.0, "false_negative": 5.0}
"""Refusing someone who would have paid, and accepting someone who does not."""


def read_customers(path):
    """Return the table, and for each row whether the credit was not paid back."""
    table = read_csv(path, target="Status", text="codes", missing="fill", ignore=["rownames"])
    return table.X, table.feature_names, dict(table.categories), (table.y == table.classes.index("bad")).astype(int)


def generate_customers(generator, count=3000):
    """Return customers of which those with debts, little income and no fixed job are more often unable to pay."""
    income, debt, age = generator.gamma(4, 40, count), generator.gamma(1, 600, count), generator.uniform(20, 65, count)
    job, home = generator.integers(0, 3, count), generator.integers(0, 2, count)
    logit = -0.4 - 0.012 * income + 0.0012 * debt + numpy.array([-0.6, 0.3, 1.2])[job] + 0.4 * (home == 1) * (age < 35)
    bad = (generator.uniform(size=count) < 1 / (1 + numpy.exp(-logit))).astype(int)
    names = ("Income", "Debt", "Age", "Job", "Home")
    categories = {3: ("fixed", "freelance", "none"), 4: ("owner", "rent")}
    return numpy.stack([income, debt, age, job, home], axis=1).astype("float32"), names, categories, bad


def sigmoid(z):
    return 1 / (1 + numpy.exp(-z))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", nargs="?", help="a CSV file; generated customers if left out")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    dl.seed(options.seed)
    generator = numpy.random.default_rng(options.seed)
    X, names, categories, bad = read_customers(options.table) if options.table else generate_customers(generator)
    kind = "customers" if options.table else "generated customers"
    print(
        f"{len(X)} {kind}, {bad.mean():.1%} did not pay; {len(names) - len(categories)} numbers, {len(categories)} categories"
    )

    X, X_test, bad, bad_test = train_test_split(X, bad, test_size=0.25, stratify=bad, random_state=options.seed)
    X, X_valid, bad, bad_valid = train_test_split(X, bad, test_size=0.25, stratify=bad, random_state=options.seed)
    raw = X_test.copy()
    numbers = [column for column in range(len(names)) if column not in categories]
    scale = Standardizer().fit(X[:, numbers])
    for part in (X, X_valid, X_test):
        part[:, numbers] = scale.transform(part[:, numbers])

    model = TabularNetwork(len(names), categories, hidden=(64, 32), dropout=0.2)
    model.compile(optimizer=dl.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-2), loss=dl.BCEWithLogitsLoss())
    stop = EarlyStopping(patience=10, restore_best_weights=True)
    model.fit(X, bad, epochs=200, batch_size=64, validation_data=(X_valid, bad_valid), callbacks=[stop], verbose=0)

    z_valid, z_test = model.predict(X_valid)[:, 0], model.predict(X_test)[:, 0]
    temperature = fit_temperature(z_valid, bad_valid)
    threshold = best_threshold(bad_valid, sigmoid(z_valid / temperature), **COST)
    p_raw, p = sigmoid(z_test), sigmoid(z_test / temperature)
    print(f"area under the curve {roc_auc(bad_test, p):.3f}")
    print(f"temperature {temperature:.2f}: Brier score {brier_score(bad_test, p_raw):.4f} -> {brier_score(bad_test, p):.4f}, "
          f"calibration error {calibration_error(bad_test, p_raw):.3f} -> {calibration_error(bad_test, p):.3f}")  # fmt: skip
    print(f"cost for each customer: {decision_cost(bad_test, p, 2.0, **COST):.3f} if all are accepted, "
          f"{decision_cost(bad_test, p, 0.5, **COST):.3f} at 0.5, {decision_cost(bad_test, p, threshold, **COST):.3f} "
          f"at {threshold:.3f}")  # fmt: skip

    typical = numpy.array([numpy.median(X[:, c]) if c in numbers else numpy.bincount(X[:, c].astype(int)).argmax()
                           for c in range(len(names))], dtype=X.dtype)  # fmt: skip
    row = int(numpy.argmax(p))
    added = model.explain(X_test[row : row + 1], typical, steps=256)[0] / temperature
    print(f"\nrefused with probability {p[row]:.2f} of not paying; beside a typical customer this comes from")
    for column in numpy.argsort(-abs(added))[:5]:
        value = raw[row, column]
        shown = categories[column][int(value)] if column in categories else f"{value:g}"
        print(f"  {names[column]:>10} = {shown:<10} {added[column]:+.2f}")
    start = model.predict(typical[None])[0, 0] / temperature
    print(f"  all columns {added.sum():+.3f}, and the logit itself {z_test[row] / temperature - start:+.3f}")


if __name__ == "__main__":
    main()
