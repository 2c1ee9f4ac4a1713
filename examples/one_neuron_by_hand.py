"""One neuron, one example: every number worked out by hand, then by minidl, then checked.

The neuron predicts w x + b. With x = 2, target y = 3, w = 1 and b = 0.5 it predicts 2.5. The loss is one half of the
square:

    L     = (prediction - y)^2 / 2 = (2.5 - 3)^2 / 2   =  0.125
    delta = dL/dprediction = prediction - y            = -0.5
    dL/dw = delta * dprediction/dw = delta * x         = -0.5 * 2 = -1.0
    dL/db = delta * dprediction/db = delta * 1         = -0.5
"""

import numpy

import minidl as dl

x, y = numpy.array([[2.0]]), numpy.array([[3.0]])
neuron, loss = dl.Linear(1, 1, dtype="float64"), dl.MSELoss(reduction="half_sum")
neuron.weight.value, neuron.bias.value = [[1.0]], [0.5]

prediction = neuron.forward(x)
value = loss.forward(prediction, y)
delta = loss.backward()
neuron.backward(delta)
print(f"prediction {prediction.item()}, loss {value}, delta {delta.item()}")
print(f"dL/dw {neuron.weight.grad.item()}, dL/db {neuron.bias.grad.item()}")
assert (prediction.item(), float(value), delta.item()) == (2.5, 0.125, -0.5)
assert (neuron.weight.grad.item(), neuron.bias.grad.item()) == (-1.0, -0.5)

# A popular article gives delta = 2 (3 - 2.5) = 1 and multiplies by the neuron's output instead of its input. The sign
# is reversed, the 2 belongs to another loss, and the last factor is the wrong one. Is that a gradient? Ask gradcheck:


def half_square(w, b):
    """L(w, b) for the one example; the cache is the prediction."""
    output = w * 2.0 + b
    return (output - 3.0) ** 2 / 2, (output,)


def by_hand(dloss, cache):
    (output,) = cache
    delta = output - 3.0
    return dloss * delta * 2.0, dloss * delta  # times the input; times 1


def from_the_article(dloss, cache):
    (output,) = cache
    delta = 2 * (3.0 - output)
    return dloss * delta * output, dloss * delta  # times the output


print("dL/dw and dL/db by hand:         ", *by_hand(1.0, (2.5,)))
print("dL/dw and dL/db from the article:", *from_the_article(1.0, (2.5,)))

w, b = numpy.array([1.0]), numpy.array([0.5])
print(dl.gradcheck((half_square, by_hand), w, b))
try:
    dl.gradcheck((half_square, from_the_article), w, b)
except dl.GradcheckError as error:
    for problem in error.report.problems:
        print("the article's gradient:", problem)
