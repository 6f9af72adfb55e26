"""No file that somebody built and added by accident: binary files are data, where data is kept."""
import os

import tree

DATA = ((".safetensors", ("tests/data/", "tests/models/")), (".f32", ("tests/data/",)), (".png", ("",)))
CORPORA = "tests/fuzz/"
LOOKED_AT_BYTES = 8000  # as git does, to tell text from the rest


def is_binary(root, path):
    with open(os.path.join(root, path), "rb") as f:
        return b"\0" in f.read(LOOKED_AT_BYTES)


def is_data(path):
    return path.startswith(CORPORA) or any(path.endswith(end) and path.startswith(folders) for end, folders in DATA)


def check(root):
    return [tree.finding(path, 1, "a binary file that is no data of the tests: was it built?")
            for path in tree.tracked(root) if not is_data(path) and is_binary(root, path)]
