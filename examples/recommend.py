"""Recommend films: vectors for users and films, trained on what each user chose beside films drawn at random.

    python examples/recommend.py ratings.csv      # columns userId, movieId, rating, timestamp, as MovieLens has them
    python examples/recommend.py                  # generated choices, for a first look

The last fifth of what each user liked is held out. Popular films, the same for everyone, are what the model has to beat.
"""

import argparse

import numpy

import minidl as dl
from minidl.data import read_csv
from minidl.metrics import ndcg, recall_at_k
from minidl.models import NegativeSampling, TwoTower


def read_choices(path):
    """Return users, items (from 0) and times of the ratings of at least 4 of 5."""
    table = read_csv(path, ignore=["rownames", "title", "year", "genres"], dtype="float64")
    column = dict(zip(table.feature_names, table.X.T, strict=True))
    liked = column["rating"] >= 4
    users, items, times = (column[name][liked] for name in ("userId", "movieId", "timestamp"))
    return numpy.unique(users, return_inverse=True)[1], numpy.unique(items, return_inverse=True)[1], times


def generate_choices(generator, users=200, items=300, each=40):
    """Return choices of users who have tastes: each film is chosen by its popularity and by how well it fits."""
    tastes, films = generator.normal(size=(users, 4)), generator.normal(size=(items, 4))
    score = 1.2 * tastes @ films.T + generator.normal(size=items)  # (users, items)
    noisy = score + generator.gumbel(size=score.shape)  # the largest are a draw without replacement from softmax(score)
    chosen = numpy.argsort(-noisy, axis=1)[:, :each]
    who, what = numpy.repeat(numpy.arange(users), each), chosen.reshape(-1)
    return who, what, generator.permutation(len(who))


def hold_out_last(users, times, share=0.2):
    """Return which choices are among the last of their user, by time."""
    order = numpy.lexsort((times, users))
    counts = numpy.bincount(users)
    place = numpy.empty(len(users), dtype=int)
    place[order] = numpy.arange(len(users)) - numpy.repeat(numpy.cumsum(counts) - counts, counts)
    return place >= counts[users] - numpy.floor(share * counts[users])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ratings", nargs="?", help="a CSV file; generated choices if left out")
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    dl.seed(options.seed)
    generator = numpy.random.default_rng(options.seed)
    users, items, times = read_choices(options.ratings) if options.ratings else generate_choices(generator)
    shape = users.max() + 1, items.max() + 1
    later = hold_out_last(users, times)
    known, relevant = numpy.zeros(shape, dtype=bool), numpy.zeros(shape, dtype=bool)
    known[users[~later], items[~later]] = True
    relevant[users[later], items[later]] = True
    relevant &= ~known
    kind = "choices" if options.ratings else "generated choices"
    print(f"{shape[0]} users, {shape[1]} items, {known.sum()} {kind} to learn from, {relevant.sum()} held out")

    def report(name, scores):
        scores = numpy.where(known, -numpy.inf, scores)
        print(
            f"{name:>10}: recall@20 {recall_at_k(relevant, scores, 20):.3f}, NDCG@20 {ndcg(relevant, scores, 20):.3f}"
        )

    report("popular", numpy.broadcast_to(known.sum(axis=0), shape))
    model = TwoTower(*shape, width=options.width)
    model.compile(optimizer=dl.Adam(model.parameters(), lr=3e-3, weight_decay=1e-5), loss=dl.CrossEntropyLoss())
    choices = NegativeSampling(users[~later], items[~later], shape[1], negatives=32, batch_size=128, seed=options.seed)
    model.fit(choices, epochs=options.epochs, verbose=0)
    report("two towers", model.score_all(numpy.arange(shape[0])))
    print(f"for user 0: items {model.recommend(numpy.array([0]), k=5, known=known[:1])[0].tolist()}")


if __name__ == "__main__":
    main()
