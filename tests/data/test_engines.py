"""Data that is already on a device stays there."""

import numpy

from minidl.data import Standardizer, batches, train_test_split


def test_batches(engine):
    X, y = numpy.arange(14.0).reshape(7, 2), numpy.arange(7.0)
    host = list(batches(X, y, batch_size=3, shuffle=True, generator=0))
    device = list(batches(engine.asarray(X), engine.asarray(y), batch_size=3, shuffle=True, generator=0))
    for one, other in zip(host, device, strict=True):
        assert type(other[0]) is type(engine.asarray(X))
        numpy.testing.assert_array_equal(engine.to_host(other[0]), one[0])
        numpy.testing.assert_array_equal(engine.to_host(other[1]), one[1])


def test_train_test_split(engine):
    X = numpy.arange(20.0).reshape(10, 2)
    for settings in ({}, {"shuffle": False}, {"stratify": [0, 1] * 5}):
        host = train_test_split(X, random_state=0, **settings)
        device = train_test_split(engine.asarray(X), random_state=0, **settings)
        for one, other in zip(host, device, strict=True):
            numpy.testing.assert_array_equal(engine.to_host(other), one)


def test_standardizer(engine):
    X = numpy.random.default_rng(0).normal(size=(9, 3)).astype("float32")
    on_device = engine.asarray(X)
    standardizer = Standardizer().fit(on_device)
    Z = standardizer.transform(on_device)
    assert type(Z) is type(on_device)
    numpy.testing.assert_allclose(engine.to_host(Z), Standardizer().fit_transform(X), rtol=1e-6)
    numpy.testing.assert_allclose(engine.to_host(standardizer.inverse_transform(Z)), X, rtol=1e-5, atol=1e-6)
