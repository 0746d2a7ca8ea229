#!/bin/bash
# Pillow: an uncompressed TIFF with the tag Orientation = 6 or 8 (turn by 90 degrees to display, as
# cameras and film scanners write it) comes out of np.asarray(Image.open(...)) scrambled: the pixels
# are turned, the shape is not. The same picture with LZW compression is turned, as JPEG it is not.
# Nothing warns.
set -euo pipefail
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
cd "$room"
python3 -m venv env
env/bin/pip install -q --disable-pip-version-check pillow==12.0.0 numpy==2.3.3
cat > try.py <<'PY'
import numpy as np
import PIL
from PIL import Image

film = (np.arange(60 * 40).reshape(60, 40) % 251).astype(np.uint8)
smooth = np.repeat(np.arange(60, dtype=np.uint8)[:, None], 40, 1)


def read(picture, compression):
    Image.fromarray(picture).save('a.tif', tiffinfo={274: 6}, compression=compression)
    return np.asarray(Image.open('a.tif'))


def what(found, stored):
    if np.array_equal(found, stored):
        return 'as stored'
    return 'turned' if np.array_equal(found, np.rot90(stored, -1)) else 'scrambled'


exif = Image.Exif()
exif[274] = 6
Image.fromarray(smooth).save('a.jpg', exif=exif, quality=100)
print('Pillow', PIL.__version__)
print('Guess: a tag is obeyed or it is not, alike for every way to store the same pixels.')
plain, packed = what(read(film, 'raw'), film), what(read(film, 'tiff_lzw'), film)
jpeg = np.asarray(Image.open('a.jpg')).shape == smooth.shape
print(f'It does: TIFF uncompressed: {plain}; TIFF, LZW: {packed}; JPEG as stored: {jpeg}')
raise SystemExit((plain, packed, jpeg) != ('scrambled', 'turned', True))
PY
env/bin/python try.py
