"""What a training tells to trackers, and the page about it."""

import base64
import re
import struct
import zlib
from html.parser import HTMLParser

import numpy
import pytest

import minidl as dl
from minidl.errors import OrderError, ParameterError, ShapeError
from minidl.training import History, Report, progress

G = numpy.random.default_rng(0)
X, Y = G.normal(size=(24, 4)).astype("float32"), numpy.arange(24) % 3


def model_of(last=3, loss="sparse_categorical_crossentropy", metrics=("accuracy",)):
    dl.seed(0)
    model = dl.Sequential([dl.Dense(5, activation="tanh", input_shape=(4,)), dl.Dense(last)])
    model.compile("sgd", loss, metrics=list(metrics))
    return model


class TestReport:
    def test_epochs(self):
        told = []
        model = model_of()
        history = model.fit(
            X, Y, 8, 2, callbacks=Report(lambda numbers, step: told.append((step, numbers))), validation_data=(X, Y)
        )
        assert [step for step, _ in told] == [3, 6]
        assert [numbers["epoch"] for _, numbers in told] == [1, 2]
        expected = {
            f"{'validation/' if name.startswith('val_') else 'train/'}{name.removeprefix('val_')}": values[-1]
            for name, values in history.history.items()
        }
        assert told[-1][1] == expected | {"epoch": 2, "learning_rate": 0.01}

    @pytest.mark.parametrize("together", [1, 2])
    def test_single_steps_and_their_norms(self, together):
        told, norms, losses = [], [], []

        class Watch(dl.training.Callback):
            def on_gradients(self, step, logs):
                norms.append(float(numpy.linalg.norm(self.model.flat_buffers()[0].gradients())))
                losses.append(logs["loss"])

        report = Report(lambda numbers, step: told.append((step, numbers)), every=2)
        model_of().fit(X, Y, 4, 2, callbacks=[Watch(), report], gradient_accumulation_steps=together)
        steps = [(step, numbers) for step, numbers in told if "step/loss" in numbers]
        assert [step for step, _ in steps] == [2 * together * (i + 1) for i in range(len(norms) // 2)]
        numpy.testing.assert_allclose([n["step/gradient_norm"] for _, n in steps], norms[1::2], rtol=1e-6)
        assert [n["step/loss"] for _, n in steps] == losses[1::2]
        assert all(n["step/weight_norm"] > 0 for _, n in steps)

    def test_histograms_of_weights_and_gradients(self):
        seen = {}
        model = model_of()
        model[0].bias.trainable = False
        before = model.state_dict()
        model.fit(X, Y, 8, 2, callbacks=Report(print_nothing, histograms=lambda n, v, s: seen.setdefault((n, s), v)))
        names = {name for name, _ in seen}
        assert names == {f"weights/{n}" for n in before} | {f"gradients/{n}" for n in before if n != "0.bias"}
        assert {step for _, step in seen} == {1, 4}  # the first step of each epoch
        numpy.testing.assert_array_equal(seen["weights/1.weight", 1], before["1.weight"])  # before the step
        assert seen["gradients/1.weight", 1].any()
        assert (seen["gradients/1.weight", 1] != seen["gradients/1.weight", 4]).any()

    def test_a_training_that_goes_on_counts_on(self, tmp_path):
        pytest.importorskip("safetensors")

        def run(**more):
            told = []
            report = Report(
                lambda n, step: told.append((step, n)), 2, lambda n, v, step: told.append((step, n, v.sum()))
            )
            model_of().fit(X, Y, 8, 3, callbacks=report, seed=1, **more)
            return told

        whole = run(checkpoint=tmp_path, every=1, keep=99)
        for place in sorted(tmp_path.iterdir()):
            rest = run(resume=place)
            assert rest == whole[len(whole) - len(rest) :]

    def test_mistakes(self):
        with pytest.raises(ParameterError, match="function must be a function"):
            Report(None)
        with pytest.raises(ParameterError, match="histograms must be a function"):
            Report(print_nothing, histograms=3)
        with pytest.raises(ParameterError, match="every must be a whole number"):
            Report(print_nothing, every=0)


def print_nothing(numbers, step):
    pass


class Page(HTMLParser):
    """What a page holds: text, tags, and whatever it would fetch."""

    def __init__(self, path):
        super().__init__()
        self.content = path.read_text(encoding="utf-8")
        self.tags, self.texts, self.fetched, self.open = [], [], [], []
        self.feed(self.content)
        assert not self.open, "a tag is not closed"

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.fetched += [v for n, v in attributes if n in ("src", "href", "data") and not v.startswith("data:")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data.strip())

    def count(self, tag):
        return sum(name == tag for name, _ in self.tags)


class TestPage:
    def page(self, tmp_path, model, *args, **more):
        path = tmp_path / "report.html"
        model.history.report(path, *args, **more)
        page = Page(path)
        assert not page.fetched
        assert not re.search(r"url\(|@import|<script|https?:", page.content)
        return page

    def test_curves_alone(self, tmp_path):
        model = model_of()
        history = model.fit(X, Y, 8, 5, validation_data=(X, Y))
        page = self.page(tmp_path, model)
        assert page.count("svg") == 2  # the loss and the accuracy
        assert page.count("polyline") == 4
        assert page.count("circle") == 20
        assert f"epoch 5: {history.history['val_loss'][-1]:.4g}" in page.texts

    def test_points_lie_where_their_numbers_say(self, tmp_path):
        history = History()
        for epoch, loss in enumerate([4.0, 2.0, float("nan"), 1.0]):
            history.append(epoch, {"loss": loss})
        history.report(tmp_path / "r.html")
        page = Page(tmp_path / "r.html")
        heights = [float(a["cy"]) for tag, a in page.tags if tag == "circle"]
        assert len(heights) == 3
        assert page.count("polyline") == 2  # the nan is a gap
        assert (heights[2] - heights[1]) / (heights[1] - heights[0]) == pytest.approx(0.5, abs=0.02)
        assert heights[0] < heights[1] < heights[2]  # a smaller loss is further down

    def test_a_classifier(self, tmp_path):
        model = model_of()
        model.fit(X, Y, 8, 2)
        page = self.page(tmp_path, model, model, X, Y, ["<a>", "b & c", "d"], "My <title>", 5)
        guess = model.predict(X).argmax(axis=1)
        assert f"Accuracy {(guess == Y).mean():.2%} on 24 examples." in page.texts
        cells = re.findall(r'title="([^"]*)">(\d*)</td>', page.content)
        counts = dl.metrics.confusion_matrix(Y, guess, labels=range(3))
        assert [int(n or 0) for _, n in cells] == counts.ravel().tolist()
        assert "My <title>" in page.texts
        worst = dl.metrics.worst_mistakes(Y, model.predict(X), 5)
        told = [["<a>", "b & c", "d"][guess[i]] + ", but is " + ["<a>", "b & c", "d"][Y[i]] for i in worst]
        assert all(text in page.texts for text in told)
        assert "Dense(5, activation=Tanh())" in page.texts

    def test_two_classes_of_one_output(self, tmp_path):
        for end in (None, "sigmoid"):
            model = dl.Sequential([dl.Dense(1, activation=end, input_shape=(4,))])
            model.compile("sgd", "binary_crossentropy")
            model.fit(X, Y % 2, 8)
            page = self.page(tmp_path, model, model, X, Y % 2)
            right = ((model.predict(X)[:, 0] > (0.5 if end else 0)) == Y % 2).mean()
            assert f"Accuracy {right:.2%} on 24 examples." in page.texts

    @pytest.mark.parametrize("shape", [(24, 1, 6, 5), (24, 6, 5), (24, 3, 6, 5)])
    def test_images_are_shown_as_pictures(self, shape, tmp_path):
        x = G.normal(size=shape).astype("float32")
        model = dl.Sequential([dl.Flatten(), dl.Dense(3)])
        model.compile("sgd", "sparse_categorical_crossentropy")
        model.fit(x, Y, 8)
        page = self.page(tmp_path, model, model, x, Y)
        sources = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
        worst = dl.metrics.worst_mistakes(Y, model.predict(x), 24)
        assert len(sources) == len(worst) > 0
        content = base64.b64decode(sources[0].removeprefix("data:image/png;base64,"))
        assert content[:8] == b"\x89PNG\r\n\x1a\n"
        width, height, depth, colour = struct.unpack(">IIBB", content[16:26])
        channels = 3 if len(shape) == 4 and shape[1] == 3 else 1
        assert (width, height, depth, colour) == (5, 6, 8, 2 if channels == 3 else 0)
        length = struct.unpack(">I", content[33:37])[0]
        rows = numpy.frombuffer(zlib.decompress(content[41 : 41 + length]), numpy.uint8).reshape(6, 1 + 5 * channels)
        image = x[worst[0]].reshape(channels, 6, 5).transpose(1, 2, 0).reshape(6, -1).astype(float)
        expected = (image - image.min()) / (image.max() - image.min()) * 255
        numpy.testing.assert_allclose(rows[:, 1:], expected, atol=0.51)

    def test_a_regression(self, tmp_path):
        model = model_of(1, "mse", ())
        model.fit(X, X[:, 0], 8)
        page = self.page(tmp_path, model, model, X, X[:, 0], mistakes=3)
        error = abs(model.predict(X)[:, 0] - X[:, 0])
        assert f"Mean absolute error {error.mean():.4g} on 24 examples." in page.texts
        worst = numpy.argsort(-error)[:3]
        assert all(str(i) in page.texts for i in worst)

    def test_many_classes_are_listed(self, tmp_path):
        model = model_of(40)
        model.fit(X, Y, 8)
        page = self.page(tmp_path, model, model, X, Y)
        assert "true \\ predicted" not in page.texts
        assert "examples" in page.texts

    def test_mistakes(self, tmp_path):
        with pytest.raises(OrderError, match="no epochs yet"):
            History().report(tmp_path / "r.html")
        model = model_of()
        model.fit(X, Y, 8)
        for args in ((model, X), (None, X, Y)):
            with pytest.raises(ParameterError, match="mistakes need the model, x and y together"):
                model.history.report(tmp_path / "r.html", *args)
        with pytest.raises(ParameterError, match="has 3 classes, but 2 names"):
            model.history.report(tmp_path / "r.html", model, X, Y, ["a", "b"])
        with pytest.raises(ShapeError, match="expected one class or the outputs' shape"):
            model.history.report(tmp_path / "r.html", model, X, X[:, 0])
        assert not (tmp_path / "r.html").exists()


class TestNotebook:
    """A notebook shows a widget where there are widgets, and the line that is written over and over elsewhere."""

    @pytest.mark.parametrize("widgets", [True, False])
    def test_which_bar(self, widgets, monkeypatch, capsys):
        made = []

        class Fake:
            n = 0

            def __init__(self, **settings):
                made.append(self)
                self.settings, self.closed, self.shown = settings, False, []

            def set_postfix_str(self, text, refresh):
                self.shown.append(text)

            def update(self, count):
                self.n += count

            def close(self):
                self.closed = True

        monkeypatch.setattr(progress, "_in_notebook", lambda: True)
        monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if widgets else None)
        monkeypatch.setattr("tqdm.notebook.tqdm", Fake)
        monkeypatch.setattr(progress, "INTERVAL", 0.0)
        model_of().fit(X, Y, 8, 2)
        assert len(made) == (2 if widgets else 0)
        assert all(bar.closed and bar.settings["total"] == 3 and bar.shown for bar in made)
        out, err = capsys.readouterr()
        assert out == ""
        assert len(re.findall(r"epoch \d/2 - 3/3 - ", err)) == 2  # the line at the end of each epoch stays
