"The published procedure, written out step by step, beside the package's on whole films"

import cv2
import numpy as np
from test_geometry import literal_crop
from test_inversion import literal_published
from test_patches import film

from ocf_study import inversion, patches


def test_thirty_films_give_the_published_patches_and_decisions():
    "Every body decides as the published code would; patches differ by the last bits alone"
    decided, apart = [], []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        grey, points = film(rng, (1400, 900), seed % 3 == 0)
        crops = [literal_crop(grey, body) for body in points]
        cut, _, inverted, votes = patches.film_patches(
            grey, points, variant='published', detector='published', film_id=str(seed)
        )
        theirs = np.array([literal_published(crop) < 0 for crop in crops])
        decided.append(votes.tolist() == theirs.tolist())
        assert inverted.tolist() == inversion.film_vote(theirs, key=str(seed)).tolist()
        for crop, patch, turned in zip(crops, cut, inverted, strict=True):
            resized = cv2.resize(crop, (224, 224), interpolation=cv2.INTER_LINEAR).astype(int)
            resized = 65535 - resized if turned else resized
            apart.append((resized - patch).std() / patch.std())
    assert sum(decided) == 30
    assert max(apart) < 1e-4, max(apart)  # of a patch's standard deviation
