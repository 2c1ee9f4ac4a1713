"""Read an op: what softmax computes, what its backward computes, and what lies between them."""

import inspect

import numpy

import minidl as dl

x = numpy.log(numpy.array([[1.0, 2.0, 5.0]]))
y, cache = dl.ops.softmax(x)
print("y      ", y)
print("cache  ", cache)

dy = numpy.array([[1.0, 0.0, 0.0]])
print("dx     ", dl.ops.softmax_backward(dy, cache))

print(inspect.getsource(dl.ops.FORMULAS["softmax_backward"]))

# Break a term and let the check name it: without the sum, the outputs of softmax would not compete with each other.
try:
    dl.gradcheck((dl.ops.softmax, lambda dy, cache: cache[0] * dy), x)
except dl.GradcheckError as error:
    print(error)
