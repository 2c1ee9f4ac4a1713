"""Write a layer of your own, check it, and train with it. It only needs forward and backward."""

import numpy

import minidl as dl


class Swish(dl.Layer):
    """y = x sigmoid(b x), with a trained b (Ramachandran et al. 2017)."""

    def __init__(self):
        super().__init__()
        self.b = dl.Parameter(numpy.ones(1, dtype="float32"), name="b")

    def forward(self, x):
        self.x, self.s = x, 1 / (1 + numpy.exp(-self.b.value * x))
        return x * self.s

    def backward(self, dy):
        slope = self.s * (1 - self.s)  # of the sigmoid
        self.b.accumulate((dy * self.x * self.x * slope).sum().reshape(1))
        return dy * (self.s + self.b.value * self.x * slope)


if __name__ == "__main__":
    random = numpy.random.default_rng(0)
    print(dl.gradcheck(Swish(), random.normal(size=(4, 3))))

    dl.seed(0)
    x = random.uniform(-2, 2, size=(512, 1)).astype("float32")
    model = dl.Sequential(dl.Linear(1, 16), Swish(), dl.Linear(16, 1))
    model.compile("adam", "mse")
    history = model.fit(x, numpy.sin(2 * x), epochs=200, verbose=0)
    print(f"loss after 200 epochs: {history.history['loss'][-1]:.5f}")
