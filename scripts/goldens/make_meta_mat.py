#!/usr/bin/env python3
"""Writes tests/fixtures/data/meta.mat: a small file of the structure of the ILSVRC2012 devkit's (a struct array
`synsets` with ILSVRC2012_ID, WNID, words, ...; here 4 classes and 2 groups), by scipy.io.savemat, as a check of our
reader. Run from the repository's root, with scipy from PyPI."""
import numpy as np
import scipy.io

fields = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("gloss", "O"), ("num_children", "O"),
          ("children", "O"), ("wordnet_height", "O"), ("num_train_images", "O")]
rows = [(1, "n01491361", 0), (2, "n01484850", 0), (3, "n01443537", 0), (4, "n01440764", 0),
        (1001, "n00001740", 4), (1002, "n00001930", 2)]
synsets = np.zeros((len(rows), 1), dtype=fields)
for i, (number, wnid, children) in enumerate(rows):
    synsets[i, 0] = (float(number), wnid, f"words of {wnid}", "a gloss that says what it is", float(children),
                     np.arange(1, children + 1, dtype=np.float64), 0.0, 1300.0)
scipy.io.savemat("tests/fixtures/data/meta.mat", {"synsets": synsets}, do_compression=True)
scipy.io.savemat("tests/fixtures/data/meta_uncompressed.mat", {"synsets": synsets}, do_compression=False)
