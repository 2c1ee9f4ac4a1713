"""Train on real handwritten digits, the PyTorch way: every step written out."""

import numpy

import minidl as dl
from minidl.data import batches, digits, train_test_split

dl.seed(0)
x, y = digits(flat=True)
x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.2, random_state=0, stratify=y)

model = dl.Sequential(dl.Linear(64, 128), dl.ReLU(), dl.Dropout(0.2), dl.Linear(128, 10))
loss, optimizer = dl.CrossEntropyLoss(), dl.AdamW(model.parameters(), lr=2e-3)
for epoch in range(30):
    model.train()
    for batch, target in batches(x_train, y_train, batch_size=32, shuffle=True, generator=epoch):
        loss.forward(model.forward(batch), target)
        model.backward(loss.backward())
        optimizer.step()
        optimizer.zero_grad()

model.eval()
accuracy = numpy.mean(model.forward(x_test).argmax(axis=1) == y_test)
print(f"test accuracy on {len(y_test)} digits: {accuracy:.1%}")
