"""The classic first program: one neuron learns a straight line, down to the noise in the data."""

from minidl import Dense, Sequential, seed
from minidl.data import make_regression, train_test_split

seed(42)
X, y = make_regression(n_samples=1000, n_features=1, noise=0.1, random_state=42)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.2, random_state=42)

model = Sequential([Dense(units=1, input_shape=(1,))])
model.compile(optimizer="sgd", loss="mean_squared_error")
model.fit(X_train, y_train, epochs=100, batch_size=32, validation_data=(X_test, y_test))

loss = model.evaluate(X_test, y_test, verbose=2)
predictions = model.predict(X_test)

print(f"mean squared error on the test data: {loss:.4f}; the noise alone has {0.1**2:.4f}")
print(f"first predictions: {predictions[:3, 0].round(3)}, truth: {y_test[:3].round(3)}")
