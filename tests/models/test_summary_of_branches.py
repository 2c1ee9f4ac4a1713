"""Summaries and pictures of models whose layers do not stand in one row."""

import minidl as dl


def model():
    return dl.Sequential(
        {
            "stem": dl.Linear(4, 4),
            "block": dl.Residual(
                {"fc1": dl.Linear(4, 3), "act": dl.Tanh(), "fc2": dl.Linear(3, 2)},
                shortcut=dl.Linear(4, 2),
                activation="relu",
            ),
            "sides": dl.Parallel(dl.Linear(2, 3), dl.Identity()),
        }
    )


def test_rows_and_what_they_take():
    rows = {row.name: row for row in model().summary().rows}
    assert {name: row.sources for name, row in rows.items()} == {
        "stem": ("input",),
        "block.fc1": ("stem",),
        "block.act": ("block.fc1",),
        "block.fc2": ("block.act",),
        "block.shortcut": ("stem",),
        "block": ("block.fc2", "block.shortcut"),
        "block.activation": ("block",),
        "sides.0": ("block.activation",),
        "sides.1": ("block.activation",),
        "sides": ("sides.0", "sides.1"),
    }
    assert [rows[name].output_shape for name in ("block.shortcut", "block", "sides")] == [(2,), (2,), (5,)]
    assert (rows["block"].flops, rows["block"].parameters) == (2, 0)


def test_totals_are_the_models():
    summary = model().summary()
    assert summary.parameters == sum(row.parameters for row in summary.rows) == 20 + 15 + 8 + 10 + 9
    assert summary.flops == model().flops((4,))


def test_an_identity_shortcut_is_an_arrow_past_the_branch():
    text = dl.Sequential(dl.Residual(dl.Linear(2, 2)), dl.ReLU()).to_mermaid()
    assert 'input -- "N x 2" --> l0_0\n' in text
    assert 'l0_0 -- "N x 2" --> l0\n' in text
    assert 'input -- "N x 2" --> l0\n' in text
    assert "0: Residual: branch + x" in text


def test_shapes_that_are_not_known():
    rows = dl.Sequential(dl.Residual(dl.Conv2d(2, 2, 1))).summary().rows
    assert [row.output_shape for row in rows] == [None, None]
