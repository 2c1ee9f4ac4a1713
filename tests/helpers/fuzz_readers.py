"""Every reader, given thousands of damaged files: it loads them, or raises one of our errors, within little memory.

python tests/helpers/fuzz_readers.py COUNT SEED    # prints what else was raised, and fails if anything was
"""

import gzip
import io
import json
import logging
import random
import resource
import sys
import tarfile
import tempfile
import traceback
from pathlib import Path

import numpy

import minidl as dl
from minidl import data, text, weights
from minidl.data import images
from minidl.errors import MinidlError
from minidl.text.tokenizers import read_json

EXTRA = 1 << 30
"""Bytes of address space beyond what the process has at the start: far more than any of these files needs."""
INTERESTING = (
    b"\0",
    b"\xff",
    b"\xff\xff\xff\xff",
    b"\0\0\0\0",
    b"\x7f\xff\xff\xff",
    b"\x80",
    b'"',
    b"\n",
    b",",
    b"\r",
    b"\\",
)


def mutate(content, rng):
    """Return a damaged copy."""
    content = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        at = rng.randrange(len(content) + 1)
        kind = rng.randrange(6)
        if kind == 0 and at < len(content):
            content[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            piece = rng.choice(INTERESTING)
            content[at : at + len(piece)] = piece
        elif kind == 2:
            content[at:at] = rng.choice(INTERESTING) * rng.choice((1, 2, 100))
        elif kind == 3:
            del content[at : at + rng.choice((1, 2, 8, 64))]
        elif kind == 4:
            del content[at:]
        else:
            other = rng.randrange(len(content) + 1)
            content[at:at] = content[other : other + rng.choice((1, 16, 256))]
    return bytes(content)


def wordpiece_of(pieces):
    """Return a tokenizer.json of Hugging Face."""
    return {
        "added_tokens": [{"id": 1, "content": "[UNK]"}],
        "normalizer": {"type": "BertNormalizer", "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        "decoder": {"type": "WordPiece", "prefix": "##"},
        "model": {"type": "WordPiece", "vocab": {piece: i for i, piece in enumerate(pieces)}},
    }


def read_wordpiece(path):
    """Read a tokenizer.json without the package that reads other kinds."""
    found = read_json(path)
    if isinstance(found, dict):
        text.WordPieceTokenizer.from_tokenizer_json(found)


def valid_files():
    """Return files that can be read: their names, contents, and readers."""
    array = numpy.arange(24, dtype="int16").reshape(2, 3, 4)
    table = 'a,b,c\n1,x,2.5\n3,"y, z",1e3\nNA,x,-4\n'.encode("utf-8-sig")
    tensors = {"weight": numpy.ones((3, 4), "float32"), "bias": numpy.ones(3, "float32")}

    def read_table(path):
        return data.read_csv(path, target=-1, missing="fill")

    images.CIFAR_BATCH, images.CIFAR_ARCHIVE = 2 * images.CIFAR_RECORD, 20 * images.CIFAR_RECORD
    model = dl.Linear(4, 3)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data.write_idx(folder / "a", array)
        data.write_idx(folder / "a.gz", array)
        weights.save_file(tensors, folder / "m.safetensors", {"about": "it"})
        weights.save_file(tensors, folder / "s", max_shard_size=16)
        pairs = text.BytePairTokenizer.train("to be or not to be, to be", 260, ["<end>"])
        pairs.save(folder / "bpe.json")
        text.CharTokenizer("tobe rn").save(folder / "char.json")
        pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "to", "##be", "or"]
        text.WordPieceTokenizer({piece: i for i, piece in enumerate(pieces)}).save(folder / "wordpiece.json")
        text.write_tokens(folder / "tokens.npy", pairs.encode("to be or not"), pairs.vocab_size)
        checkpoint = text.Checkpoint({"kind": "gpt"}, pairs, tensors, {"step": numpy.array(3)}, {"step": 3})
        text.save_checkpoint(folder / "c.safetensors", checkpoint)
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w:gz", format=tarfile.PAX_FORMAT) as tar:
            for batch in [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]:
                member = tarfile.TarInfo(f"cifar-10-batches-bin/{batch}")
                member.size, member.mtime = images.CIFAR_BATCH, 1.5  # a fraction: in a header of its own
                tar.addfile(member, io.BytesIO(bytes(member.size)))
        return [
            ("a", (folder / "a").read_bytes(), data.read_idx),
            ("a.gz", (folder / "a.gz").read_bytes(), data.read_idx),
            ("t.csv", table, read_table),
            ("t.csv.gz", gzip.compress(table), read_table),
            ("m.safetensors", (folder / "m.safetensors").read_bytes(), model.load),
            ("m.safetensors", (folder / "m.safetensors").read_bytes(), weights.load_file),
            ("s.index.json", (folder / "s.index.json").read_bytes(), weights.load_file),
            ("bpe.json", (folder / "bpe.json").read_bytes(), text.load_tokenizer),
            ("char.json", (folder / "char.json").read_bytes(), text.load_tokenizer),
            ("wordpiece.json", (folder / "wordpiece.json").read_bytes(), text.load_tokenizer),
            ("vocab.txt", "\n".join(pieces).encode(), text.load_tokenizer),
            ("tokenizer.json", json.dumps(wordpiece_of(pieces)).encode(), read_wordpiece),
            ("tokens.npy", (folder / "tokens.npy").read_bytes(), text.open_tokens),
            ("c.safetensors", (folder / "c.safetensors").read_bytes(), text.load_checkpoint),
            ("cifar-10-binary.tar.gz", archive.getvalue(), lambda path: data.cifar10(path.parent, download=False)),
            (
                "cifar-10-binary.tar.gz",
                gzip.decompress(archive.getvalue()),
                lambda path: data.cifar10(path.parent, False),
            ),
        ]


def damaged_states(rng):
    """Return calls that load a state with something wrong in it."""
    model = dl.Sequential([dl.Linear(3, 2), dl.BatchNorm1d(2)])
    optimizer = dl.Adam(model.parameters())
    odd = (
        None,
        3,
        "x",
        b"x",
        [],
        {},
        numpy.ones(3),
        numpy.array("x"),
        numpy.array(None),
        float("nan"),
        10**400,
        [[1], [2, 3]],
    )
    for owner in (model, optimizer):
        state = owner.state_dict()
        for _ in range(3):
            state[rng.choice([*state, "other", 7, None])] = rng.choice(odd)
        if rng.random() < 0.3:
            del state[rng.choice(list(state))]
        yield owner.load_state_dict, state
        yield owner.load_state_dict, rng.choice(odd)


def attempt(problems, what, call, argument):
    """Call, and note any error that is neither ours nor the operating system's about a missing file."""
    try:
        call(argument)
    except (MinidlError, FileNotFoundError, IsADirectoryError):
        pass
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        problems.setdefault(
            (what, type(error).__name__, f"{Path(place.filename).name}:{place.lineno}"), str(error)[:200]
        )


def main(count, seed):
    """Print what was raised that should not have been; return how many kinds."""
    logging.disable()  # every archive here is another than the published one
    rng = random.Random(seed)
    problems: dict[tuple[str, str, str], str] = {}
    files = valid_files()
    read = 0
    with tempfile.TemporaryDirectory() as name:
        for file, content, reader in files:
            path = Path(name) / file
            path.write_bytes(content)
            if file != "s.index.json":
                reader(path)  # so that the fuzzing is of files that could be read
            for _ in range(count):
                path.write_bytes(mutate(content, rng))
                attempt(problems, file, reader, path)
                read += 1
            path.unlink()
        for _ in range(count // 2):
            for call, state in damaged_states(rng):
                attempt(problems, call.__qualname__, call, state)
                read += 1
    print(json.dumps({"read": read, "problems": [[*key, text] for key, text in problems.items()]}))
    return len(problems)


if __name__ == "__main__":
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + EXTRA, size + EXTRA))
    sys.exit(bool(main(int(sys.argv[1]), int(sys.argv[2]))))
