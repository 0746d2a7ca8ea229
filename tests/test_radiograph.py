"Reading one film: every coat gives the same picture; what is no film is refused in one sentence"

import io
import os
import re
import socket
import struct
import subprocess
import sys
import textwrap
import warnings

import cv2
import numpy as np
import pydicom
import pytest
from fsspec.implementations.local import LocalFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    RLELossless,
    generate_uid,
)

from ocf_study import radiograph
from ocf_study.manifest import DataError


def picture(bits=12, shape=(60, 44), seed=0):
    "A film with a ramp, so that facing and up can be told, and the full range of its bits"
    values = np.add.outer(np.arange(shape[0]) * 3, np.arange(shape[1]) * 7) + np.random.default_rng(
        seed
    ).integers(0, 5, shape)
    values = np.rint(values * ((2**bits - 1) / values.max()))
    return values.astype(np.uint8 if bits == 8 else np.uint16)


def dicom(path, values, bits=12, syntax=ExplicitVRLittleEndian, frames=None, **tags):
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID, meta.TransferSyntaxUID = (
        '1.2.840.10008.5.1.4.1.1.1.1',
        generate_uid(),
        syntax,
    )
    ds = FileDataset(
        str(path),
        {},
        file_meta=meta,
        preamble=b'\0' * 128,
        is_implicit_VR=syntax == ImplicitVRLittleEndian,
        is_little_endian=syntax != ExplicitVRBigEndian,
    )
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = (
        meta.MediaStorageSOPClassUID,
        meta.MediaStorageSOPInstanceUID,
        'DX',
    )
    ds.Rows, ds.Columns, ds.SamplesPerPixel = *values.shape[:2], 1
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = (
        values.dtype.itemsize * 8,
        bits,
        bits - 1,
        0,
    )
    ds.PhotometricInterpretation = 'MONOCHROME2'
    ds.PixelData = (
        encapsulate(frames)
        if frames
        else values.astype(
            values.dtype.newbyteorder('>' if syntax == ExplicitVRBigEndian else '<')
        ).tobytes()
    )
    if frames:
        ds['PixelData'].is_undefined_length = True
    for tag, value in tags.items():
        setattr(ds, tag, value)
    if syntax in (RLELossless, JPEG2000Lossless) and not frames:
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.compress(syntax)
    ds.save_as(path, enforce_file_format=True)
    return path


def lossless_jpeg(values, bits=12):
    "A JPEG Lossless (process 14, predictor 1) codestream: no encoder comes with the decoders"
    differences = values.astype(int).copy()
    differences[0, 0] -= 1 << (bits - 1)
    differences[0, 1:] = np.diff(values[0].astype(int))
    differences[1:, 0] = np.diff(values[:, 0].astype(int))
    differences[1:, 1:] = np.diff(values[1:].astype(int), axis=1)
    text = ''
    for d in differences.ravel():
        size = int(abs(d)).bit_length()
        text += f'{size:05b}' + (f'{d if d > 0 else d + (1 << size) - 1:0{size}b}' if size else '')
    text += '1' * (-len(text) % 8)
    code = int(text, 2).to_bytes(len(text) // 8).replace(b'\xff', b'\xff\x00')
    height, width = values.shape

    def segment(marker, body):
        return struct.pack('>BBH', 255, marker, len(body) + 2) + body

    # seventeen codes of five bits: category k is the number k
    table = bytes([0, *[0] * 4, 17, *[0] * 11]) + bytes(range(17))
    return (
        b'\xff\xd8'
        + segment(0xC3, struct.pack('>BHHB', bits, height, width, 1) + bytes([1, 0x11, 0]))
        + segment(0xC4, table)
        + segment(0xDA, bytes([1, 1, 0, 1, 0, 0]))
        + code
        + b'\xff\xd9'
    )


def expected(values, bits=12):
    return np.rint(values * (65535 / (2**bits - 1))).astype(np.uint16)


@pytest.mark.parametrize('bits', range(8, 17))
def test_every_depth_reaches_the_full_range(tmp_path, bits):
    values = picture(bits)
    film = radiograph.read(dicom(tmp_path / 'a.dcm', values, bits), facing='left')
    assert film.dtype == np.uint16 and film.max() == 65535
    np.testing.assert_array_equal(film, expected(values, bits))


@pytest.mark.parametrize(
    'syntax',
    [
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        ExplicitVRBigEndian,
        RLELossless,
        JPEG2000Lossless,
    ],
)
def test_transfer_syntaxes(tmp_path, syntax):
    np.testing.assert_array_equal(
        radiograph.read(dicom(tmp_path / 'a.dcm', picture(), syntax=syntax), facing='left'),
        expected(picture()),
    )


def test_jpeg_lossless(tmp_path):
    path = dicom(
        tmp_path / 'a.dcm', picture(), syntax=JPEGLosslessSV1, frames=[lossless_jpeg(picture())]
    )
    np.testing.assert_array_equal(radiograph.read(path, facing='left'), expected(picture()))
    assert radiograph.header(path)['compression'].startswith('JPEG lossless')


def test_jpeg_baseline(tmp_path):
    code = cv2.imencode('.jpg', picture(8), [cv2.IMWRITE_JPEG_QUALITY, 98])[1].tobytes()
    film = radiograph.read(
        dicom(tmp_path / 'a.dcm', picture(8), 8, JPEGBaseline8Bit, frames=[code]), facing='left'
    )
    assert np.abs(film.astype(int) - expected(picture(8), 8)).max() < 8 * 257


def test_monochrome1_is_the_complement(tmp_path):
    plain = radiograph.read(dicom(tmp_path / '2.dcm', picture()))
    inverse = radiograph.read(
        dicom(tmp_path / '1.dcm', picture(), PhotometricInterpretation='MONOCHROME1')
    )
    np.testing.assert_array_equal(inverse, 65535 - plain)


def test_facing_and_flip(tmp_path):
    path = dicom(tmp_path / 'a.dcm', picture())
    left = radiograph.read(path, facing='left')
    np.testing.assert_array_equal(radiograph.read(path), left[:, ::-1])
    np.testing.assert_array_equal(radiograph.read(path, flip_vertical=True), left[::-1, ::-1])
    assert radiograph.read(path).flags.c_contiguous


def test_modality_lut_comes_before_depth(tmp_path):
    even = picture(11) // 2 * 2
    slope = radiograph.read(
        dicom(tmp_path / 's.dcm', even, RescaleSlope='0.5', RescaleIntercept='0'), facing='left'
    )
    np.testing.assert_array_equal(slope, expected(even // 2, 10))
    lut = Dataset()
    lut.LUTDescriptor, lut.ModalityLUTType = [4096, 0, 16], 'US'
    lut.add_new('LUTData', 'US', (np.arange(4096) ** 2 >> 8).tolist())
    table = radiograph.read(
        dicom(tmp_path / 't.dcm', picture(), ModalityLUTSequence=Sequence([lut])), facing='left'
    )
    np.testing.assert_array_equal(table, expected(picture().astype(int) ** 2 >> 8, 16))
    lifted = radiograph.read(
        dicom(tmp_path / 'n.dcm', picture(), RescaleSlope='1', RescaleIntercept='-1000'),
        facing='left',
    )
    np.testing.assert_array_equal(
        lifted,
        radiograph.read(dicom(tmp_path / 'p.dcm', picture() - picture().min()), facing='left'),
    )


def test_the_window_is_a_choice(tmp_path):
    path = dicom(tmp_path / 'w.dcm', picture(), WindowCenter='1000', WindowWidth='500')
    np.testing.assert_array_equal(radiograph.read(path, facing='left'), expected(picture()))
    windowed = radiograph.read(path, facing='left', voi=True)
    assert (
        (windowed[picture() > 1300] == 65535).all()
        and (windowed[picture() < 700] == 0).all()
        and len(np.unique(windowed)) > 3
    )


@pytest.mark.parametrize('name', ['film.png', 'film.tif', 'lzw.tif'])
def test_sixteen_bit_pictures(tmp_path, name):
    Image.fromarray(picture(16)).save(
        tmp_path / name, **dict(compression='tiff_lzw') if name == 'lzw.tif' else {}
    )
    np.testing.assert_array_equal(radiograph.read(tmp_path / name, facing='left'), picture(16))
    assert radiograph.header(tmp_path / name)['bits'] == 16


def test_a_tiff_whose_zero_is_white(tmp_path):
    Image.fromarray(picture(16)).save(tmp_path / 'white.tif', tiffinfo={262: 0})
    Image.fromarray(picture(8)).save(tmp_path / 'white8.tif')
    np.testing.assert_array_equal(
        radiograph.read(tmp_path / 'white.tif', facing='left'), 65535 - picture(16)
    )
    np.testing.assert_array_equal(
        radiograph.read(tmp_path / 'white8.tif', facing='left'), picture(8) * np.uint16(257)
    )


def test_grey_in_three_channels(tmp_path):
    deep = np.repeat(picture(16)[..., None], 3, 2)
    cv2.imwrite(str(tmp_path / 'deep.png'), deep)
    cv2.imwrite(str(tmp_path / 'deep.tif'), deep)
    Image.fromarray(deep.astype(np.uint8)).save(tmp_path / 'grey.jpg', quality=95)
    for name in ('deep.png', 'deep.tif'):
        np.testing.assert_array_equal(radiograph.read(tmp_path / name, facing='left'), picture(16))
    deep[5, 5, 0] ^= 1
    cv2.imwrite(str(tmp_path / 'off.png'), deep)
    off = radiograph.read(tmp_path / 'off.png', facing='left').astype(int) - picture(16)
    assert np.abs(off).max() <= 1 and np.count_nonzero(off) <= 1


def film_like(shape=(240, 180)):
    "Smooth greys and some grain, as a film has them, 8 bits"
    y, x = np.mgrid[: shape[0], : shape[1]] / shape[0]
    grain = np.random.default_rng(1).normal(0, 4, shape)
    return np.clip(120 + 90 * np.sin(5 * y) * np.cos(4 * x) + grain, 0, 255).astype(np.uint8)


def warned(path, **choices):
    "A film, and the sentences that reading it says; `header` lists the same"
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always')
        film = radiograph.read(path, facing='left', **choices)
    assert all(w.category is radiograph.FilmWarning for w in said)
    listed = radiograph.header(path, pixels=True)['warnings']
    assert [str(p) for p in listed] == [f'warning: {w.message}' for w in said]
    return film, ' | '.join(str(w.message) for w in said)


def test_colour_that_jpeg_leaves_in_greys_is_none(tmp_path):
    grey = film_like()
    for k, chroma in enumerate(([0, 0, 0], [2, 0, -3], [5, 0, -5])):
        noisy = np.clip(grey[..., None].astype(int) + chroma, 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(tmp_path / f'{k}.jpg', quality=90)
        Image.fromarray(noisy).save(tmp_path / f'{k}.png')
        for suffix in ('jpg', 'png'):
            film, said = warned(tmp_path / f'{k}.{suffix}')
            assert not said and np.abs(film // 257 - grey.astype(int)).mean() < 4


@pytest.mark.parametrize(
    'suffix, mode',
    [('jpg', 'RGB'), ('jpg', 'CMYK'), ('tif', 'CMYK')]
    + [(suffix, mode) for suffix in ('png', 'tif') for mode in ('RGB', 'RGBA', 'P', 'LA')],
)
def test_greys_in_every_mode(tmp_path, suffix, mode):
    grey, path = film_like(), tmp_path / f'film.{suffix}'
    image = Image.fromarray(grey)
    (image if mode in ('P', 'LA') else image.convert('RGB')).convert(mode).save(path)
    film, said = warned(path)
    off = np.abs(film // 257 - grey.astype(int)).max()
    assert not said and off <= (20 if suffix == 'jpg' else 0)


@pytest.mark.parametrize('tint', [(1, 0.85, 0.65), (0.75, 0.9, 1), (0.8, 1, 0.9)])
@pytest.mark.parametrize('suffix', ['png', 'jpg', 'dcm'])
def test_a_tinted_film_is_read_and_told(tmp_path, tint, suffix):
    grey = film_like()
    tinted = (grey[..., None] * tint).astype(np.uint8)
    tinted[:12, :40] = (250, 30, 30)  # a label in colour
    path = tmp_path / f'film.{suffix}'
    if suffix == 'dcm':
        tags = dict(SamplesPerPixel=3, PlanarConfiguration=0, PhotometricInterpretation='RGB')
        dicom(path, tinted, 8, **tags)
    else:
        Image.fromarray(tinted).save(path, **dict(quality=92) if suffix == 'jpg' else {})
    film, said = warned(path)
    assert 'tinted' in said and radiograph.header(path)['warnings']
    assert np.corrcoef(film[20:].ravel(), grey[20:].ravel())[0, 1] > 0.99


def test_colour_pictures_are_refused_by_header_and_read(tmp_path):
    grey = film_like()
    y, x = np.mgrid[:240, :180]
    pictures = dict(
        falling=np.stack([grey, grey, 255 - grey], -1),
        one_channel=np.stack([grey, 0 * grey, 0 * grey], -1),
        fields=np.stack([x + 20, y, 255 - x], -1).astype(np.uint8),
        patches=np.random.default_rng(0).integers(0, 256, (30, 23, 3)).repeat(8, 0).repeat(8, 1),
    )
    for name, values in pictures.items():
        Image.fromarray(values.astype(np.uint8)).save(tmp_path / f'{name}.png')
        for reading in (radiograph.header, radiograph.read):
            with pytest.raises(DataError, match=f'{name}.*colour'):
                reading(tmp_path / f'{name}.png')


def coded(path, code, syntax, values, bits=16, **tags):
    "A DICOM film around a codestream"
    more = dict(BitsAllocated=8 if bits == 8 else 16) | tags
    return dicom(path, values, bits, syntax, frames=[code], **more)


def test_what_may_lie_around_a_codestream(tmp_path):
    values = picture(16, (64, 80))
    ds = pydicom.dcmread(dicom(tmp_path / 'j2k.dcm', values, 16, JPEG2000Lossless))
    bare = next(generate_frames(ds.PixelData, number_of_frames=1)).rstrip(b'\0')
    boxes = cv2.imencode('.jp2', values)[1].tobytes()
    boxes = boxes[: boxes.index(b'jp2c') - 4]
    jp2 = boxes + struct.pack('>I4s', len(bare) + 8, b'jp2c') + bare
    large = boxes + struct.pack('>I4sQ', 1, b'jp2c', len(bare) + 16) + bare
    lossless = lossless_jpeg(values, 16)
    whole = {
        'JP2': (jp2, JPEG2000Lossless),
        'JP2, long length': (large, JPEG2000Lossless),
        **{f'JPEG 2000 and {t!r}': (bare + t, JPEG2000Lossless) for t in (b'\xff', b' ', b'\r\n')},
        **{
            f'JPEG and {len(t)} {t[:1]!r}': (lossless + t, JPEGLosslessSV1)
            for t in (b'\xff', b'\0' * 9000, b' ' * 5000)
        },
        'fill bytes': (
            b'\xff\xd8' + b'\xff' * 7 + lossless[2:].replace(b'\xff\xc4', b'\xff' * 3 + b'\xc4'),
            JPEGLosslessSV1,
        ),
        'large comments': (
            lossless[:2]
            + (b'\xff\xfe' + struct.pack('>H', 60002) + bytes(60000)) * 2
            + lossless[2:],
            JPEGLosslessSV1,
        ),
    }
    for k, (name, (code, syntax)) in enumerate(whole.items()):
        path = coded(tmp_path / f'{k}.dcm', code, syntax, values)
        np.testing.assert_array_equal(radiograph.read(path, facing='left'), values, err_msg=name)
        assert radiograph.header(path)['width'] == 80
    thumbnail = b'\xff\xe1' + struct.pack('>H', 12) + b'\xff\xd8\xff\xd9' + bytes(6)
    cut = coded(
        tmp_path / 'cut.dcm', lossless[:2] + thumbnail + lossless[2:-400], JPEGLosslessSV1, values
    )
    palette = coded(
        tmp_path / 'palette.dcm',
        jp2.replace(b'colr', b'pclr', 1),
        JPEG2000Lossless,
        values,
    )
    kind = coded(tmp_path / 'kind.dcm', bare, JPEGLosslessSV1, values)
    for reading in (radiograph.header, radiograph.read):
        for path, message in (
            (cut, 'before its end marker'),
            (palette, 'does not begin as'),
            (kind, 'does not begin as'),
        ):
            with pytest.raises(DataError, match=message):
                reading(path)


def extended_jpeg(levels):
    "A JPEG Extended of 12 bits, each block of 8 x 8 px one level: differences of DC, and no AC"
    text, before = '', 2048
    for level in levels.ravel():
        d, before = int(level) - before, int(level)
        size = abs(d).bit_length()
        text += f'{size:04b}' + (f'{d if d > 0 else d + (1 << size) - 1:0{size}b}' if size else '')
        text += '0'  # end of block
    text += '1' * (-len(text) % 8)
    code = int(text, 2).to_bytes(len(text) // 8).replace(b'\xff', b'\xff\x00')

    def segment(marker, body):
        return struct.pack('>BBH', 255, marker, len(body) + 2) + body

    height, width = (8 * n for n in levels.shape)
    frame = struct.pack('>BHHB', 12, height, width, 1) + bytes([1, 0x11, 0])
    dc = bytes([0, *[0] * 3, 13, *[0] * 12]) + bytes(range(13))
    ac = bytes([0x10, 1, *[0] * 15]) + bytes([0])
    return (
        b'\xff\xd8'
        + segment(0xDB, bytes([0, 8] + [1] * 63))
        + segment(0xC1, frame)
        + segment(0xC4, dc)
        + segment(0xC4, ac)
        + segment(0xDA, bytes([1, 1, 0, 0, 63, 0]))
        + code
        + b'\xff\xd9'
    )


def test_jpeg_extended_of_12_bits(tmp_path):
    levels = picture(12, (9, 7))
    values = levels.repeat(8, 0).repeat(8, 1)
    path = coded(tmp_path / 'a.dcm', extended_jpeg(levels), JPEGExtended12Bit, values, 12)
    np.testing.assert_array_equal(radiograph.read(path, facing='left'), expected(values))
    assert radiograph.header(path)['compression'] == 'JPEG extended'


@pytest.mark.parametrize(
    'syntax', [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian]
)
def test_files_without_preamble_or_file_meta(tmp_path, syntax):
    path = dicom(tmp_path / 'whole.dcm', picture(), syntax=syntax)
    whole = path.read_bytes()
    meta = 132 + 12 + pydicom.dcmread(path).file_meta.FileMetaInformationGroupLength
    for name, data, told in (
        ('preamble.dcm', whole[132:], False),
        ('bare.dcm', whole[meta:], True),
    ):
        (tmp_path / name).write_bytes(data)
        film, said = warned(tmp_path / name)
        np.testing.assert_array_equal(film, expected(picture()))
        assert ('TransferSyntaxUID: the tag is missing: read as' in said) == told
        assert radiograph.header(tmp_path / name)['compression'] == radiograph.SYNTAXES[syntax]


def without(path, *tags):
    ds = pydicom.dcmread(path)
    for tag in tags:
        del ds[tag]
    ds.save_as(path)
    return path


@pytest.mark.parametrize(
    'tags, told',
    [
        (['PixelRepresentation'], ''),
        (['SamplesPerPixel'], ''),
        (['HighBit'], ''),
        (['Modality'], ''),
        (['BitsStored'], 'BitsStored: the tag is missing: read as 12'),
        (['PhotometricInterpretation'], 'read as MONOCHROME2'),
        (['PixelRepresentation', 'HighBit', 'SamplesPerPixel', 'SOPClassUID'], ''),
    ],
)
@pytest.mark.parametrize('syntax', [ExplicitVRLittleEndian, RLELossless, JPEG2000Lossless])
def test_tags_that_can_be_inferred(tmp_path, tags, told, syntax):
    path = without(dicom(tmp_path / 'a.dcm', picture(), syntax=syntax), *tags)
    film, said = warned(path)
    np.testing.assert_array_equal(film, expected(picture()))
    assert told in said and bool(told) == bool(said)


def test_levels_above_the_declared_bits_do_not_tear_the_film(tmp_path):
    for bits in (10, 12, 15):
        film, said = warned(dicom(tmp_path / f'{bits}.dcm', picture(16), bits))
        np.testing.assert_array_equal(film, picture(16))
        assert f'BitsStored = {bits}: levels reach 65,535' in said and 'as they are' in said
    signed = picture(12).astype(np.int16) - 2048
    film, said = warned(dicom(tmp_path / 'signed.dcm', signed, 10, PixelRepresentation=1))
    assert 'levels reach 2,047, above the 511 of 10 bits: taken as they are' in said
    np.testing.assert_array_equal(film, expected(picture() - picture().min()))


def test_negative_levels_without_their_sign_bits(tmp_path):
    signed = picture().astype(np.int16) - 2048
    film, said = warned(
        dicom(tmp_path / 'z.dcm', (signed & 0xFFF).astype(np.uint16), PixelRepresentation=1)
    )
    np.testing.assert_array_equal(film, expected(picture() - picture().min()))
    assert not said


def test_declared_overlays_are_not_told(tmp_path):
    drawn = picture() | np.where(np.indices((60, 44)).sum(0) % 5 == 0, 0x8000, 0).astype(np.uint16)
    path = dicom(tmp_path / 'o.dcm', drawn)
    ds = pydicom.dcmread(path)
    for element, vr, value in ((0x0100, 'US', 16), (0x0102, 'US', 15), (0x0010, 'US', 60)):
        ds.add_new((0x6000, element), vr, value)
    ds.save_as(path)
    film, said = warned(path)
    np.testing.assert_array_equal(film, expected(picture()))
    assert not said


@pytest.mark.parametrize('photometric', ['MONOCHROME1', 'MONOCHROME2'])
def test_padding_is_black_and_counts_for_nothing(tmp_path, photometric):
    inner = (picture().astype(np.int16) // 2 + 100)[10:-10, 8:-8]
    plain = radiograph.read(
        dicom(tmp_path / 'p.dcm', inner, 16, PhotometricInterpretation=photometric), facing='left'
    )
    for k, tags in enumerate(
        (
            dict(PixelPaddingValue=-32768),
            dict(PixelPaddingValue=-32768, PixelPaddingRangeLimit=-30000),
            dict(PixelPaddingValue=9000),
        )
    ):
        padded = np.pad(inner, ((10, 10), (8, 8)), constant_values=tags['PixelPaddingValue'])
        padded[0, 0] = tags.get('PixelPaddingRangeLimit', padded[0, 0])
        tags |= dict(PixelRepresentation=1, PhotometricInterpretation=photometric)
        film = radiograph.read(dicom(tmp_path / f'{k}.dcm', padded, 16, **tags), facing='left')
        np.testing.assert_array_equal(film[10:-10, 8:-8], plain)
        assert film[:10].max() == film[:, :8].max() == 0
    blank = np.full((40, 30), -2000, np.int16)
    path = dicom(tmp_path / 'b.dcm', blank, 16, PixelRepresentation=1, PixelPaddingValue=-2000)
    for reading in (radiograph.header, radiograph.read):
        with pytest.raises(DataError, match='every pixel is padding'):
            reading(path)


def marked_films(folder, marks, stored=None):
    "The same film of 12 bits with marks, in every coat"
    stored = picture() if stored is None else stored
    values = np.where(marks > 0, marks, stored).astype(np.uint16)
    yield dicom(folder / 'sixteen.dcm', values, 16)
    yield dicom(folder / 'twelve.dcm', values, 12)
    for suffix in ('png', 'tif'):
        Image.fromarray(values).save(folder / f'marked.{suffix}')
        yield folder / f'marked.{suffix}'


@pytest.mark.parametrize('level', [65535, 40000, 17000])
@pytest.mark.parametrize('size', [1, 4])
def test_marks_do_not_darken_a_film(tmp_path, level, size):
    "A level that no pixel of the film comes near: the film is as bright as without it."
    marks = np.zeros(picture().shape, int)
    marks[2 : 2 + size, 3 : 3 + size] = level
    for path in marked_films(tmp_path, marks):
        film, said = warned(path)
        there = marks > 0
        np.testing.assert_array_equal(film[~there], expected(picture())[~there])
        top = np.where(there, 0, expected(picture())).max()
        assert (film[there] == top).all()
        assert 'marks' in said and f'{level:,}' in said and f'{size * size} ' in said
        assert any('marks' in str(p) for p in radiograph.header(path, pixels=True)['warnings'])


def test_marks_of_several_levels_far_above_the_rest(tmp_path):
    marks = np.zeros(picture().shape, int)
    marks[0, :5] = [20000, 30000, 40000, 50000, 65535]
    for path in marked_films(tmp_path, marks):
        film, said = warned(path)
        np.testing.assert_array_equal(film[1:], expected(picture())[1:])
        assert '5 from' in said


def test_a_border_of_one_level_is_a_mark_and_with_its_tag_padding(tmp_path):
    border = np.pad(np.zeros((40, 30), int), 3, constant_values=65535)
    stored = np.resize(picture(), border.shape)
    inside = np.s_[3:-3, 3:-3]
    for path in marked_films(tmp_path, border, stored):
        film, said = warned(path)
        np.testing.assert_array_equal(film[inside], expected(stored)[inside])
        assert 'marks' in said
    for bits in (12, 16):
        values = np.where(border > 0, border, stored).astype(np.uint16)
        path = dicom(tmp_path / 'tagged.dcm', values, bits, PixelPaddingValue=65535)
        film, said = warned(path)
        np.testing.assert_array_equal(film[inside], expected(stored)[inside])
        assert not said and (film[border > 0] == 0).all()


def test_marks_far_below_a_signed_film(tmp_path):
    values = picture().astype(np.int32)
    values[0, 0] = -20000
    Image.fromarray(values).save(tmp_path / 'a.tif')
    film, said = warned(tmp_path / 'a.tif')
    np.testing.assert_array_equal(film[1:], expected(picture())[1:])
    assert 'marks' in said and '-20,000' in said


def test_bright_levels_that_belong_to_a_film_are_no_marks(tmp_path):
    "Letters at the top of the declared depth, a bright tail, a film of few levels, 8 bits."
    letters = picture() // 8
    letters[:2, :4] = 4095
    film, said = warned(dicom(tmp_path / 'letters.dcm', letters))
    np.testing.assert_array_equal(film, expected(letters))
    assert not said
    tail = (65535 * np.linspace(0, 1, 40 * 30).reshape(40, 30) ** 6).astype(np.uint16)
    few = np.zeros((40, 30), np.uint16)
    few[::2], few[0, 0] = 7, 65535
    for name, values in (('tail', tail), ('few', few)):
        Image.fromarray(values).save(tmp_path / f'{name}.png')
        film, said = warned(tmp_path / f'{name}.png')
        np.testing.assert_array_equal(film, values)
        assert not said


@pytest.mark.parametrize(
    'tags, told',
    [
        (dict(Modality='CT'), 'Modality = .CT.: not the modality of a projection'),
        (dict(Modality='CT', ImageType=['ORIGINAL', 'PRIMARY', 'LOCALIZER']), ''),
        (dict(Modality='MR'), 'not the modality'),
        (dict(Modality='RG'), ''),
        (dict(Modality=''), ''),
        (dict(ViewPosition='AP'), 'frontal view'),
        (dict(ViewPosition='LL'), ''),
        (dict(PresentationLUTShape='INVERSE'), 'INVERSE.*contradicts MONOCHROME2'),
        (dict(PresentationLUTShape='IDENTITY'), ''),
        (dict(PresentationLUTShape='INVERSE', PhotometricInterpretation='MONOCHROME1'), ''),
        (
            dict(PresentationLUTShape='IDENTITY', PhotometricInterpretation='MONOCHROME1'),
            'IDENTITY.*contradicts MONOCHROME1',
        ),
        (dict(PresentationIntentType='FOR PROCESSING'), 'raw levels of a detector'),
        (dict(PresentationIntentType='FOR PRESENTATION'), ''),
        (dict(WindowCenter=2000, WindowWidth=400), ''),  # a choice for a screen: see the chapter
    ],
)
def test_another_kind_of_picture_is_told(tmp_path, tags, told):
    path = dicom(tmp_path / 'a.dcm', picture(), **tags)
    film, said = warned(path)
    inverted = tags.get('PhotometricInterpretation') == 'MONOCHROME1'
    as_stored = expected(picture())
    np.testing.assert_array_equal(film, 65535 - as_stored if inverted else as_stored)
    assert re.search(told, said) and bool(told) == bool(said)


def test_what_is_no_file_is_named(tmp_path):
    os.mkfifo(tmp_path / 'fifo')
    server = socket.socket(socket.AF_UNIX)
    with server:
        server.bind(str(tmp_path / 'socket'))
        for name in ('fifo', 'socket'):
            with pytest.raises(DataError, match='a pipe, a socket or a device'):
                radiograph.header(tmp_path / name)
    (tmp_path / 'broken').symlink_to('gone.dcm')
    (tmp_path / 'loop').symlink_to(tmp_path / 'loop')
    for name in ('broken', 'loop'):
        with pytest.raises(DataError, match='a link to a file that is not there'):
            radiograph.read(tmp_path / name)
    with pytest.raises(DataError, match='no such film'):
        radiograph.read(tmp_path / 'gone.dcm')


@pytest.mark.parametrize(
    'tags, told',
    [
        (
            dict(PixelSpacing=['0.2', '0.1']),
            'PixelSpacing = .0.2 x 0.1 mm.*2 times as high as wide',
        ),
        (dict(ImagerPixelSpacing=['0.2', '0.2'], PixelAspectRatio=[1, 1]), ''),
        (dict(PixelAspectRatio=[2, 1]), 'PixelAspectRatio = .2:1.*not square'),
        (dict(PixelSpacing=['0.15', '0.151']), ''),
        (dict(PixelSpacing=['0', '0']), 'PixelSpacing.*no spacing can be read'),
        (dict(PixelSpacing=['0.15']), 'PixelSpacing.*no spacing can be read'),
        (dict(PatientOrientation=['A', 'F']), ''),
        (dict(PatientOrientation=['F', 'A']), 'on its side'),
        (dict(PatientOrientation=['L', 'F']), 'frontal'),
    ],
)
def test_geometry_that_the_header_contradicts_is_told(tmp_path, tags, told):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of the library that writes
        path = dicom(tmp_path / 'a.dcm', picture(), **tags)
    film, said = warned(path)
    np.testing.assert_array_equal(film, expected(picture()))
    assert re.search(told, said) and bool(told) == bool(said)
    assert told == '' or [str(p) for p in radiograph.header(path)['warnings']]


def test_a_spacing_that_is_no_number_is_told(tmp_path):
    path = dicom(tmp_path / 'a.dcm', picture(), PixelSpacing=['0.15', '0.15'])
    path.write_bytes(path.read_bytes().replace(b'0.15\\0.15', b'0,15\\0,15'))
    film, said = warned(path)
    assert '0,15' in said and radiograph.header(path)['pixel_mm'] is None


@pytest.mark.parametrize(
    'towards, facing', [(['A', 'F'], 'right'), (['P', 'F'], 'left'), (['PL', 'F'], 'left')]
)
def test_the_header_says_which_way_the_subject_faces(tmp_path, towards, facing):
    path = dicom(tmp_path / 'a.dcm', picture(), PatientOrientation=towards)
    assert radiograph.header(path)['facing'] == facing


def test_the_header_says_which_end_is_up(tmp_path):
    for name, towards, upside in (
        ('up', ['A', 'F'], False),
        ('down', ['A', 'H'], True),
        ('silent', ['', ''], None),
        ('frontal', ['L', 'F'], False),
    ):
        path = dicom(tmp_path / f'{name}.dcm', picture(), PatientOrientation=towards)
        assert radiograph.header(path)['upside'] is upside
    with pytest.warns(radiograph.FilmWarning, match='upside down, which `flip_vertical` puts'):
        radiograph.read(tmp_path / 'down.dcm')
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        radiograph.read(tmp_path / 'down.dcm', flip_vertical=True)
        radiograph.read(tmp_path / 'silent.dcm')


@pytest.mark.parametrize('tag', radiograph._SPACINGS)
def test_spacing_wherever_it_stands(tmp_path, tag):
    path = dicom(tmp_path / 'a.dcm', picture(), **{tag: ['0.15', '0.15']})
    assert radiograph.header(path)['pixel_mm'] == 0.15


def test_tags_of_pictures_are_told(tmp_path):
    image, exif = Image.fromarray(film_like()), Image.Exif()
    exif[274] = 6
    image.save(tmp_path / 'turned.jpg', exif=exif)
    image.save(tmp_path / 'turned.png', exif=exif)
    image.save(tmp_path / 'wide.jpg', dpi=(300, 150))
    image.save(tmp_path / 'wide.png', dpi=(300, 150))
    image.save(tmp_path / 'wide.tif', dpi=(300, 150))
    image.save(tmp_path / 'plain.jpg', dpi=(300, 300))
    for name, told in (
        ('turned.jpg', 'Orientation = 6'),
        ('turned.png', 'Orientation = 6'),
        ('wide.jpg', 'not square'),
        ('wide.png', 'not square'),
        ('wide.tif', 'not square'),
        ('plain.jpg', ''),
    ):
        film, said = warned(tmp_path / name)
        assert film.shape == (240, 180) and told in said and bool(told) == bool(said), name


def test_more_pixels_than_the_header_says_are_told(tmp_path):
    values = picture()
    for surplus in (2, 88, 60 * 44 * 2):
        film, said = warned(
            dicom(tmp_path / 'a.dcm', values, PixelData=values.tobytes() + bytes(surplus))
        )
        np.testing.assert_array_equal(film, expected(values))
        assert f"PixelData = '{5280 + surplus:,} bytes': {surplus:,} bytes more" in said
    odd = picture(8, (5, 5))
    assert not warned(dicom(tmp_path / 'b.dcm', odd, 8, PixelData=odd.tobytes() + b'\0'))[1]
    two = [lossless_jpeg(values), lossless_jpeg(picture(seed=1))]
    film, said = warned(dicom(tmp_path / 'c.dcm', values, syntax=JPEGLosslessSV1, frames=two))
    np.testing.assert_array_equal(film, expected(values))
    assert 'more than one picture, of which the first is read' in said


def test_a_compressed_film_that_ends_early_is_refused(tmp_path):
    "Its library fills in what is missing; the end marker tells, and the header of a cut file"
    code = lossless_jpeg(picture())
    for k, short in enumerate(
        (code[: len(code) * 4 // 10], code[:-2], code[: len(code) // 2] + bytes(len(code) // 2))
    ):
        with pytest.raises(DataError, match='before its end marker'):
            radiograph.read(
                dicom(tmp_path / f'{k}.dcm', picture(), syntax=JPEGLosslessSV1, frames=[short])
            )
    whole = dicom(tmp_path / 'whole.dcm', picture(), syntax=JPEGLosslessSV1, frames=[code])
    radiograph.header(whole)
    (tmp_path / 'cut.dcm').write_bytes(whole.read_bytes()[: -len(code) // 2])
    with pytest.raises(DataError, match='cut.dcm.*past the end of the file'):
        radiograph.header(tmp_path / 'cut.dcm')


@pytest.mark.parametrize('turn', [2, 3, 6])
def test_a_tiff_that_asks_to_be_turned_is_refused(tmp_path, turn):
    Image.fromarray(picture()).save(tmp_path / 'a.tif', tiffinfo={274: turn})
    for reading in (radiograph.header, radiograph.read):
        with pytest.raises(DataError, match=f'a.tif.*{turn}.*as they are stored'):
            reading(tmp_path / 'a.tif')
    Image.fromarray(picture()).save(tmp_path / 'b.tif', tiffinfo={274: 1})
    radiograph.read(tmp_path / 'b.tif')


def test_header_needs_no_pixels(tmp_path):
    path = dicom(
        tmp_path / 'a.dcm', picture(), ConversionType='DF', ImagerPixelSpacing=['0.15', '0.15']
    )
    header = radiograph.header(path)
    cut = tmp_path / 'cut.dcm'
    cut.write_bytes(path.read_bytes()[:-2000] + bytes(2000))
    assert radiograph.header(cut) == header
    cut.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match='truncated'):
        radiograph.header(cut)
    assert (
        header['width'],
        header['height'],
        header['source'],
        header['pixel_mm'],
        header['bits'],
    ) == (44, 60, 'film', 0.15, 12)


@pytest.mark.parametrize(
    'tags, source',
    [
        (dict(Modality='RG'), 'film'),
        (dict(Modality='CR'), 'digital'),
        (dict(Modality='OT', ConversionType='DI'), 'digital'),
        (dict(Modality='OT'), 'unknown'),
    ],
)
def test_source(tmp_path, tags, source):
    assert radiograph.header(dicom(tmp_path / 'a.dcm', picture(), **tags))['source'] == source


def test_any_file_system():
    import fsspec

    png = io.BytesIO()
    Image.fromarray(picture(16)).save(png, 'PNG')
    with fsspec.open('memory://films/a.png', 'wb') as f:
        f.write(png.getvalue())
    np.testing.assert_array_equal(
        radiograph.read('memory://films/a.png', facing='left'), picture(16)
    )


def mutilated(tmp_path):
    "name -> (file, what its refusal says)"
    whole = dicom(tmp_path / 'whole.dcm', picture()).read_bytes()
    j2k = dicom(
        tmp_path / 'j2k.dcm', picture(shape=(300, 200)), syntax=JPEG2000Lossless
    ).read_bytes()

    def keep(name, data):
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    Image.fromarray(picture(16)).save(tmp_path / 'a.png')
    Image.fromarray(picture(8, (200, 200))).save(tmp_path / 'a.jpg')
    Image.fromarray(picture(16, (200, 200))).save(tmp_path / 'a.tif', compression='tiff_lzw')
    two = [Image.fromarray(picture(8)), Image.fromarray(picture(8, seed=1))]
    two[0].save(tmp_path / 'two.tif', save_all=True, append_images=two[1:])
    colour = np.stack([picture(8), picture(8), 255 - picture(8)], -1)
    Image.fromarray(colour).save(tmp_path / 'colour.jpg')
    Image.fromarray(np.full((20, 20), np.nan, np.float32)).save(tmp_path / 'nan.tif')
    lies = lossless_jpeg(picture(shape=(30, 20)))
    return {
        'truncated DICOM': (keep('t.dcm', whole[:-1000]), 'truncated'),
        'DICOM that ends in its first tags': (
            keep('s.dcm', whole[:144]),
            'TransferSyntaxUID: .*truncated',
        ),
        'truncated JPEG 2000': (keep('tj.dcm', j2k[: len(j2k) // 2]), 'truncated|damaged'),
        'truncated PNG': (keep('t.png', (tmp_path / 'a.png').read_bytes()[:900]), 'truncated'),
        'truncated JPEG': (keep('t.jpg', (tmp_path / 'a.jpg').read_bytes()[:-700]), 'truncated'),
        'truncated TIFF': (
            keep('t.tif', (tmp_path / 'a.tif').read_bytes()[:-700]),
            'truncated|not a readable',
        ),
        'multi-frame': (
            dicom(
                tmp_path / 'm.dcm', picture(), NumberOfFrames=2, PixelData=picture().tobytes() * 2
            ),
            'more than one frame',
        ),
        'multi-frame TIFF': (tmp_path / 'two.tif', 'more than one frame'),
        'colour': (
            dicom(
                tmp_path / 'c.dcm',
                picture(8),
                8,
                SamplesPerPixel=3,
                PlanarConfiguration=0,
                PhotometricInterpretation='RGB',
                PixelData=colour.tobytes(),
            ),
            'colour',
        ),
        'colour JPEG': (tmp_path / 'colour.jpg', 'colour'),
        'palette': (
            dicom(tmp_path / 'p.dcm', picture(8), 8, PhotometricInterpretation='PALETTE COLOR'),
            'colour',
        ),
        'constant': (dicom(tmp_path / 'flat.dcm', np.full((20, 20), 9, np.uint16)), 'constant'),
        'NaN': (tmp_path / 'nan.tif', 'NaN'),
        'huge': (dicom(tmp_path / 'h.dcm', picture(), Rows=65000, Columns=65000), 'million pixels'),
        'larger than its file': (dicom(tmp_path / 'l.dcm', picture(), Rows=6000), 'cannot hold'),
        'bomb': (
            dicom(
                tmp_path / 'b.dcm',
                picture(),
                syntax=JPEGLosslessSV1,
                frames=[lies],
                Rows=8000,
                Columns=8000,
            ),
            'cannot hold',
        ),
        'codestream of another size': (
            dicom(tmp_path / 'o.dcm', picture(), syntax=JPEGLosslessSV1, frames=[lies]),
            'another size',
        ),
        'no picture': (dicom(tmp_path / 'n.dcm', picture(), Rows=None), 'the tag is missing'),
        '32 bits': (dicom(tmp_path / '32.dcm', picture().astype(np.uint32), 32), '8 to 16 bits'),
        'deflated': (
            dicom(tmp_path / 'd.dcm', picture(), syntax=DeflatedExplicitVRLittleEndian),
            'is not read',
        ),
        'text': (keep('notes.txt', b'patient moved'), 'not a readable'),
        'empty': (keep('empty.dcm', b''), 'not a readable'),
        'absent': (tmp_path / 'gone.dcm', 'no such film'),
    }


def test_refusals_name_the_file_in_one_sentence(tmp_path):
    for what, (path, reason) in mutilated(tmp_path).items():
        with warnings.catch_warnings(), pytest.raises(DataError) as e:
            warnings.simplefilter('ignore')
            radiograph.read(path)
            pytest.fail(f'{what} was read')
        assert re.search(reason, str(e.value)), what
        assert str(path) in str(e.value) and '\n' not in str(e.value), what
        assert len(e.value.problems) == 1, what


def refusal(reading, *args, **choices):
    "What a reader says of a film that it refuses; empty: it does not"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            reading(*args, **choices)
    except DataError as e:
        return str(e)
    return ''


def test_the_header_alone_refuses_what_read_refuses(tmp_path):
    for what, (path, _) in mutilated(tmp_path).items():
        assert refusal(radiograph.header, path) == refusal(radiograph.read, path) != '', what


ODD = [
    *({tag: None} for tag in ('Rows', 'Columns', 'BitsAllocated', 'BitsStored', 'HighBit')),
    *({tag: None} for tag in ('SamplesPerPixel', 'PixelRepresentation', 'NumberOfFrames')),
    *({tag: None} for tag in ('PhotometricInterpretation', 'RescaleSlope', 'RescaleIntercept')),
    *({'Rows': rows} for rows in (0, 1, 59, 61, 65535)),
    *({'Columns': columns} for columns in (0, 1, 43, 45, 65535)),
    *({'BitsAllocated': bits} for bits in (1, 8, 12, 32)),
    *({'BitsStored': bits} for bits in (0, 7, 10, 16, 17)),
    *({'HighBit': bit} for bit in (0, 15, 16)),
    *({'SamplesPerPixel': n} for n in (0, 2, 3)),
    *({'PixelRepresentation': n} for n in (1, 2)),
    *({'NumberOfFrames': n} for n in (0, 1, 2)),
    *(
        {'PhotometricInterpretation': kind}
        for kind in ('MONOCHROME1', 'RGB', 'HSV', 'PALETTE COLOR')
    ),
    *({'RescaleSlope': slope} for slope in (0, -1, 0.001)),
    *({'PixelPaddingValue': value} for value in (0, 4095, 60000)),
    dict(PixelPaddingValue=0, PixelPaddingRangeLimit=4095),
    dict(ModalityLUTSequence=Sequence([])),
    dict(ModalityLUTSequence=Sequence([Dataset()])),
    dict(PixelAspectRatio=[0, 0]),
    dict(PatientOrientation=['A']),
    dict(PatientOrientation=''),
]


@pytest.mark.parametrize('syntax', [ExplicitVRLittleEndian, RLELossless, JPEG2000Lossless])
def test_header_and_read_agree_on_odd_tags(tmp_path, syntax):
    "Both read a film, or both refuse it with the same sentence, and no warning is lost"
    whole, refused = dicom(tmp_path / 'whole.dcm', picture(), syntax=syntax), 0
    for k, tags in enumerate(ODD):
        ds = pydicom.dcmread(whole)
        for tag, value in tags.items():
            if tag.startswith('PixelPadding'):
                ds.add_new(tag, 'US', value)
            else:
                setattr(ds, tag, value)
        ds.save_as(path := tmp_path / f'{k}.dcm')
        said = refusal(radiograph.read, path)
        whole_size = {'Rows', 'Columns'}.isdisjoint(tags)  # of RLE only decoding tells
        choices = dict(pixels=syntax == RLELossless and not whole_size)
        assert refusal(radiograph.header, path, **choices) == said, tags
        refused += bool(said)
        if not said and not choices['pixels']:
            warned(path)
    assert 25 < refused < len(ODD) - 10


def test_damage_between_the_ends_needs_the_pixels(tmp_path):
    code = bytearray(lossless_jpeg(picture(shape=(300, 200))))
    code[len(code) // 2 : len(code) // 2 + 400] = bytes(400)
    syntax = JPEGLosslessSV1
    dicom(tmp_path / 'a.dcm', picture(shape=(300, 200)), syntax=syntax, frames=[bytes(code)])
    Image.fromarray(picture(16, (300, 200))).save(tmp_path / 'a.png')
    png = bytearray((tmp_path / 'a.png').read_bytes())
    png[len(png) // 2] ^= 0xFF
    (tmp_path / 'a.png').write_bytes(png)
    for name in ('a.dcm', 'a.png'):
        said = refusal(radiograph.read, tmp_path / name)
        assert refusal(radiograph.header, tmp_path / name, pixels=True) == said
        assert said if name == 'a.png' else True


def bombs(tmp_path):
    "Small files that a careless reader would make hundreds of megabytes of"
    small = lossless_jpeg(picture(shape=(30, 20)))
    yield dicom(
        tmp_path / 'tags.dcm',
        picture(),
        syntax=JPEGLosslessSV1,
        frames=[small],
        Rows=8000,
        Columns=8000,
    )
    Image.fromarray(np.zeros((12000, 12000), np.uint8)).save(tmp_path / 'b.png')
    yield tmp_path / 'b.png'
    yield dicom(
        tmp_path / 'deflated.dcm',
        np.zeros((14000, 14000), np.uint16),
        syntax=DeflatedExplicitVRLittleEndian,
    )
    code = cv2.imencode('.jpg', np.zeros((14000, 14000), np.uint8))[1].tobytes()
    siz = (
        b'\xff\x4f\xff\x51'
        + struct.pack('>HH8IHB', 41, 0, 44, 60, 0, 0, 44, 60, 0, 0, 1, 7)
        + b'\1\1'
    )
    comment = struct.pack('>HH', 0xFFFE, len(siz) + 2) + siz
    yield dicom(
        tmp_path / 'comment.dcm',
        picture(8),
        8,
        JPEGBaseline8Bit,
        frames=[code[:2] + comment + code[2:]],
    )
    whole = pydicom.dcmread(
        dicom(tmp_path / 'j2k.dcm', picture(shape=(3000, 1000)), syntax=JPEG2000Lossless)
    )
    code = next(generate_frames(whole.PixelData, number_of_frames=1))
    assert code[:4] == b'\xff\x4f\xff\x51' and code[40:42] == b'\0\1'
    many = (
        code[:4]
        + struct.pack('>H', 38 + 3 * 200)
        + code[6:40]
        + struct.pack('>H', 200)
        + code[42:45] * 200
        + code[45:]
    )
    whole.PixelData = encapsulate([many])
    whole.save_as(tmp_path / 'channels.dcm')
    yield tmp_path / 'channels.dcm'


def test_a_bomb_takes_no_memory(tmp_path):
    "Memory of the whole process: decoders do not take it from Python"
    fuse = picture()
    good = [
        dicom(tmp_path / 'g0.dcm', fuse),
        dicom(tmp_path / 'g1.dcm', fuse, syntax=JPEG2000Lossless),
        dicom(tmp_path / 'g2.dcm', fuse, syntax=JPEGLosslessSV1, frames=[lossless_jpeg(fuse)]),
    ]
    script = """
        import re, sys
        from ocf_study import radiograph
        from ocf_study.manifest import DataError
        peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])/1e3
        for path in sys.argv[1:4]: radiograph.read(path)
        for path in sys.argv[4:]:
            for work in (radiograph.header, radiograph.read):
                before = peak()
                try: work(path)
                except DataError: pass
                else: assert work is radiograph.header, f'{path} was read'
                assert peak() - before < 40, f'{path}: {peak() - before:.0f} MB'
        """
    ended = subprocess.run(
        [
            sys.executable,
            '-W',
            'ignore',
            '-c',
            textwrap.dedent(script),
            *map(str, [*good, *bombs(tmp_path)]),
        ],
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(
    'tags, named',
    [
        (dict(HighBit=15), 'HighBit'),
        (dict(BitsStored=10, HighBit=11), 'HighBit'),
        (dict(RescaleSlope=None), 'RescaleSlope'),
        (dict(PhotometricInterpretation='GREY'), 'PhotometricInterpretation'),
    ],
)
def test_tags_that_are_refused_by_name(tmp_path, tags, named):
    with pytest.raises(DataError, match=named):
        radiograph.read(dicom(tmp_path / 'a.dcm', picture(), **tags))


def test_signed_pixels(tmp_path):
    values = picture().astype(np.int16) - 2048
    signed = radiograph.read(
        dicom(tmp_path / 's.dcm', values, PixelRepresentation=1), facing='left'
    )
    np.testing.assert_array_equal(
        signed,
        radiograph.read(
            dicom(tmp_path / 'u.dcm', (values - values.min()).astype(np.uint16)), facing='left'
        ),
    )


def test_overlay_bits_are_no_grey_levels(tmp_path):
    drawn = picture() | np.where(np.indices((60, 44)).sum(0) % 5 == 0, 0x8000, 0).astype(np.uint16)
    film, said = warned(dicom(tmp_path / 'o.dcm', drawn))
    np.testing.assert_array_equal(film, expected(picture()))
    assert 'taken for an overlay' in said


def test_a_voi_table_is_a_choice(tmp_path):
    lut = Dataset()
    lut.LUTDescriptor = [4096, 0, 16]
    lut.add_new('LUTData', 'US', (np.arange(4096) ** 2 >> 8).tolist())
    path = dicom(tmp_path / 'v.dcm', picture(), VOILUTSequence=Sequence([lut]))
    np.testing.assert_array_equal(radiograph.read(path, facing='left'), expected(picture()))
    np.testing.assert_array_equal(
        radiograph.read(path, facing='left', voi=True),
        expected(picture().astype(int) ** 2 >> 8, 16),
    )


def raw_tiff(path, values, photometric):
    "An uncompressed TIFF of unsigned grey levels; photometric 0: the lowest is white"
    raw, (height, width) = values.tobytes(), values.shape
    tags = [
        (256, width),
        (257, height),
        (258, values.itemsize * 8),
        (259, 1),
        (262, photometric),
        (273, 8),
        (277, 1),
        (278, height),
        (279, len(raw)),
        (339, 1),
    ]
    folder = (
        struct.pack('<H', len(tags))
        + b''.join(struct.pack('<HHII', tag, 4, 1, value) for tag, value in tags)
        + bytes(4)
    )
    path.write_bytes(b'II*\0' + struct.pack('<I', 8 + len(raw)) + raw + folder)


def test_grey_levels_that_cannot_be_told_apart_or_held(tmp_path):
    for name, top in (('a.tif', 1e-9), ('b.tif', 1e-30)):
        Image.fromarray(np.linspace(0, top, 400, dtype=np.float32).reshape(20, 20)).save(
            tmp_path / name
        )
        with pytest.raises(DataError, match='differ by less'):
            radiograph.read(tmp_path / name)
    raw_tiff(tmp_path / 'u.tif', np.array([[0, 5], [2**31, 9]], np.uint32), 1)
    with pytest.raises(DataError, match='32 bits'):
        radiograph.read(tmp_path / 'u.tif')


def test_white_is_zero_is_reported_at_any_depth(tmp_path):
    for bits in (8, 16):
        stored = picture(bits)
        raw_tiff(tmp_path / f'{bits}.tif', stored, 0)
        assert radiograph.header(tmp_path / f'{bits}.tif')['photometric'] == 'MONOCHROME1'
        np.testing.assert_array_equal(
            radiograph.read(tmp_path / f'{bits}.tif', facing='left'), 65535 - expected(stored, bits)
        )


def test_folders_and_locked_films(tmp_path, monkeypatch):
    with pytest.raises(DataError, match='a folder'):
        radiograph.read(tmp_path)
    path = dicom(tmp_path / 'a.dcm', picture())

    def locked(*args, **more):
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr(LocalFileSystem, 'cat_file', locked)
    monkeypatch.setattr(LocalFileSystem, 'open', locked)
    for work in (radiograph.header, radiograph.read):
        with pytest.raises(DataError, match='Permission denied'):
            work(path)


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(np.uint16, st.tuples(st.integers(2, 9), st.integers(2, 9))).filter(
        lambda a: a.min() != a.max()
    )
)
def test_depth_keeps_order_and_complement(values):
    film = radiograph.to_16bit(values)
    order = np.argsort(values, axis=None, kind='stable')
    assert (np.diff(film.ravel()[order].astype(int)) >= 0).all() and film.max() >= 32767
    np.testing.assert_array_equal(radiograph.to_16bit(values, 'MONOCHROME1'), 65535 - film)


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_random_damage_is_an_answer_or_a_refusal(tmp_path_factory, data):
    "Whatever one byte is changed to, the reader returns a film or raises DataError"
    folder = tmp_path_factory.getbasetemp() / 'fuzz'
    folder.mkdir(exist_ok=True)
    if not (folder / 'a.dcm').exists():
        dicom(folder / 'a.dcm', picture())
        dicom(folder / 'a.rle', picture(), syntax=RLELossless)
        Image.fromarray(picture(16)).save(folder / 'a.png')
    damaged = bytearray(
        (folder / data.draw(st.sampled_from(['a.dcm', 'a.rle', 'a.png']))).read_bytes()
    )
    at = data.draw(st.integers(128, min(len(damaged) - 1, 900)))
    damaged[at] = data.draw(st.integers(0, 255))
    (folder / 'damaged').write_bytes(damaged)
    said = refusal(radiograph.read, folder / 'damaged')
    assert refusal(radiograph.header, folder / 'damaged', pixels=True) == said
    assert refusal(radiograph.header, folder / 'damaged') in ('', said)
    if not said:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            film = radiograph.read(folder / 'damaged')
        assert film.dtype == np.uint16 and film.ndim == 2
