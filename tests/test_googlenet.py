"""ImageNet checkpoints of both dialects, against forward passes by the files' own names."""

import ast
import json
import zipfile
from pathlib import Path

import keras  # after the library, which imports TensorFlow quietly
import numpy as np
import pytest
from typer.testing import CliRunner

from ocf_study import commands, googlenet, runtime

tf = runtime.tensorflow()

BLOCKS = dict(
    zip('3b 3c 4b 4c 4d 4e 4f 5b 5c'.split(), '3a 3b 4a 4b 4c 4d 4e 5a 5b'.split(), strict=True)
)  # TF-Slim -> torchvision
WIDTHS = [
    (64, 96, 128, 16, 32, 32),
    (128, 128, 192, 32, 96, 64),
    (192, 96, 208, 16, 48, 64),
    (160, 112, 224, 24, 64, 64),
    (128, 128, 256, 24, 64, 64),
    (112, 144, 288, 32, 64, 64),
    (256, 160, 320, 32, 128, 128),
    (256, 160, 320, 32, 128, 128),
    (384, 192, 384, 48, 128, 128),
]
READ = ['conv1', 'pool1', *googlenet.BLOCKS, 'logit']


class Slim:
    """inception_v1 in plain tf.nn operations.

    With `rng`, kernels are He draws, and statistics come from the activations that pass.
    """

    dialect, stem = 'slim', ('Conv2d_1a_7x7', 'Conv2d_2b_1x1', 'Conv2d_2c_3x3')

    def __init__(self, tensors=None, rng=None):
        self.tensors, self.rng = {} if tensors is None else tensors, rng

    def kernel_name(self, name):
        return f'InceptionV1/{name}/weights'

    def statistics_names(self, name):
        return [
            f'InceptionV1/{name}/BatchNorm/{w}' for w in ('moving_mean', 'moving_variance', 'beta')
        ]

    def store(self, kernel):
        return kernel

    def conv(self, x, name, out, side=1, stride=1):
        into = x.shape[-1]
        if self.rng is not None:
            he = self.rng.normal(
                0, np.sqrt(2 / (side * side * into)), (side, side, into, out)
            ).astype('float32')
            self.tensors[self.kernel_name(name)] = self.store(he)
        kernel = np.asarray(self.tensors[self.kernel_name(name)])
        if self.dialect == 'torchvision':
            kernel = kernel.transpose(2, 3, 1, 0)
        if self.dialect == 'torchvision' and stride == 2:
            x = tf.nn.conv2d(tf.pad(x, [[0, 0], [3, 3], [3, 3], [0, 0]]), kernel, 2, 'VALID')
        else:
            x = tf.nn.conv2d(x, kernel, stride, 'SAME')
        return tf.nn.relu(self.normalise(x, name))

    def normalise(self, x, name):
        mean, variance, beta, *gamma = self.statistics_names(name)
        if self.rng is not None:

            def draw(low, high):
                return self.rng.uniform(low, high, x.shape[-1]).astype('float32')

            self.tensors[mean] = x.numpy().mean((0, 1, 2)) * draw(0.9, 1.1)
            self.tensors[variance] = x.numpy().var((0, 1, 2)) * draw(0.8, 1.25)
            self.tensors[beta] = draw(-0.3, 0.3)
            for name in gamma:
                self.tensors[name] = draw(0.6, 1.4)
        t = self.tensors
        return (x - t[mean]) / np.sqrt(t[variance] + np.float32(1e-3)) * (
            t[gamma[0]] if gamma else 1
        ) + t[beta]

    def pool(self, x, side, stride):
        return tf.nn.max_pool2d(x, side, stride, 'SAME')

    def branches(self, slim):
        return (
            f'Mixed_{slim}/Branch_0/Conv2d_0a_1x1',
            f'Mixed_{slim}/Branch_1/Conv2d_0a_1x1',
            f'Mixed_{slim}/Branch_1/Conv2d_0b_3x3',
            f'Mixed_{slim}/Branch_2/Conv2d_0a_1x1',
            f'Mixed_{slim}/Branch_2/Conv2d_0{"a" if slim == "5b" else "b"}_3x3',
            f'Mixed_{slim}/Branch_3/Conv2d_0b_1x1',
        )

    def block(self, x, slim, widths):
        (one, r3, three, r5, five, projection), (a, b, c, d, e, f) = widths, self.branches(slim)
        return tf.concat(
            [
                self.conv(x, a, one),
                self.conv(self.conv(x, b, r3), c, three, 3),
                self.conv(self.conv(x, d, r5), e, five, 3),
                self.conv(self.pool(x, 3, 1), f, projection),
            ],
            -1,
        )

    def output(self, x):
        if self.rng is not None:
            self.tensors['InceptionV1/Logits/Conv2d_0c_1x1/weights'] = self.rng.normal(
                0, 0.04, (1, 1, 1024, 1001)
            ).astype('float32')
            self.tensors['InceptionV1/Logits/Conv2d_0c_1x1/biases'] = self.rng.normal(
                0, 1, 1001
            ).astype('float32')
        return (
            x @ self.tensors['InceptionV1/Logits/Conv2d_0c_1x1/weights'][0, 0]
            + self.tensors['InceptionV1/Logits/Conv2d_0c_1x1/biases']
        )

    def __call__(self, x):
        """Everything in READ, from (N, 224, 224, 3)."""
        seen = [self.conv(tf.constant(x), self.stem[0], 64, 7, 2)]
        x = self.pool(seen[0], 3, 2)
        seen.append(x)
        x = self.pool(self.conv(self.conv(x, self.stem[1], 64), self.stem[2], 192, 3), 3, 2)
        for slim, widths in zip(BLOCKS, WIDTHS, strict=True):
            x = self.block(x, slim, widths)
            seen.append(x)
            if slim == '3c':
                x = self.pool(x, 3, 2)
            if slim == '4f':
                x = self.pool(x, 2, 2)
        return [s.numpy() for s in seen] + [self.output(tf.reduce_mean(x, (1, 2))).numpy()]


class Torchvision(Slim):
    """torchvision's googlenet, from the names of its state dict."""

    dialect, stem = 'torchvision', ('conv1', 'conv2', 'conv3')

    def kernel_name(self, name):
        return f'{name}.conv.weight'

    def statistics_names(self, name):
        return [f'{name}.bn.{w}' for w in ('running_mean', 'running_var', 'bias', 'weight')]

    def store(self, kernel):
        return np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))

    def branches(self, slim):
        return [
            f'inception{BLOCKS[slim]}.branch{b}' for b in ('1', '2.0', '2.1', '3.0', '3.1', '4.1')
        ]

    def output(self, x):
        if self.rng is not None:
            self.tensors['fc.weight'] = self.rng.normal(0, 0.04, (1000, 1024)).astype('float32')
            self.tensors['fc.bias'] = self.rng.normal(0, 1, 1000).astype('float32')
        return x @ self.tensors['fc.weight'].T + self.tensors['fc.bias']


@pytest.fixture(scope='module')
def picture():
    """Two smooth colour pictures: the padding of conv1 shows in them, unlike in white noise."""
    noise = runtime.rng(1, 'picture').normal(size=(2, 28, 28, 3)).astype('float32')
    return tf.image.resize(noise, (224, 224), 'bicubic').numpy()


@pytest.fixture(scope='module')
def made(picture):
    """Dialect -> tensors of a calibrated checkpoint and what the independent pass reads in it."""
    found = {}
    for reference in (Slim, Torchvision):
        tensors = {}
        reference(tensors, runtime.rng(2, reference.dialect))(picture)
        found[reference.dialect] = tensors, reference(tensors)(picture)
    return found


def write_slim(path, tensors, version='V2'):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variables = {
            name: tf.compat.v1.get_variable(name, initializer=np.asarray(value))
            for name, value in tensors.items()
        }
        session.run(tf.compat.v1.global_variables_initializer())
        saver = tf.compat.v1.train.Saver(
            variables, write_version=getattr(tf.compat.v1.train.SaverDef, version)
        )
        return saver.save(session, str(path), write_meta_graph=False, write_state=False)


def write_torch(path, tensors):
    torch = pytest.importorskip(
        'torch', reason='torch writes and reads .pth files; it is no requirement'
    )
    state = {name: torch.from_numpy(np.array(value)) for name, value in tensors.items()}
    for name in list(state):
        if name.endswith('running_var'):
            state[name.replace('running_var', 'num_batches_tracked')] = torch.tensor(1)
    state |= {
        'aux1.conv.conv.weight': torch.zeros(128, 512, 1, 1),
        'aux2.fc2.bias': torch.zeros(1000),
    }  # of its heads, which are left out
    torch.save(state, path)
    return path


def write_safetensors(path, tensors):
    from safetensors.numpy import save_file

    save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, path)
    return path


WRITERS = {
    'slim V2': ('slim', lambda f, t: write_slim(f / 'model.ckpt', t)),
    'slim V1': ('slim', lambda f, t: write_slim(f / 'inception_v1.ckpt', t, 'V1')),
    'slim .safetensors': ('slim', lambda f, t: write_safetensors(f / 'slim.safetensors', t)),
    'torchvision .pth': ('torchvision', lambda f, t: write_torch(f / 'googlenet.pth', t)),
    'torchvision .safetensors': (
        'torchvision',
        lambda f, t: write_safetensors(f / 'googlenet.safetensors', t),
    ),
}


@pytest.mark.parametrize('kind', WRITERS)
def test_file_gives_the_same_activations_as_an_independent_pass(kind, made, picture, tmp_path):
    dialect, write = WRITERS[kind]
    tensors, expected = made[dialect]
    model = googlenet.build(dialect, channels=3, classes=1000)
    info = googlenet.load_checkpoint(model, write(tmp_path, tensors))
    assert (info['dialect'], info['tensors']) == (
        dialect,
        {'slim': 230, 'torchvision': 287}[dialect],
    ) and all(len(s) == 64 for s in info['sha256'].values())
    if dialect == 'slim':
        expected = [*expected[:-1], expected[-1][:, 1:]]  # TF-Slim's class 0 is background
    for name, here, there in zip(
        READ, googlenet.features(model, READ)(picture), expected, strict=True
    ):
        assert there.std() > 0.05, f'no signal at {name}: the comparison would say nothing'
        np.testing.assert_allclose(
            here, there, rtol=1e-4, atol=1e-4 * np.abs(there).max(), err_msg=name
        )


def test_names_and_shapes_are_a_bijection(made):
    for dialect, count in ('slim', 230), ('torchvision', 287):
        table, tensors = googlenet.names(dialect), made[dialect][0]
        assert (
            len(table)
            == table.name.nunique()
            == len(table[['layer', 'weight']].drop_duplicates())
            == count
        )
        assert dict(zip(table.name, table['shape'], strict=True)) == {
            name: np.shape(a) for name, a in tensors.items()
        }
    model = googlenet.build('torchvision', aux=False, channels=3, classes=1000, seed=4)
    weights = {(w.path.split('/')[0], w.path.split('/')[1]): w.shape for w in model.weights}
    assert set(weights) == set(zip(table.layer, table.weight, strict=True))


@pytest.mark.parametrize('dialect', googlenet.DIALECTS)
def test_weights_return_from_a_file_as_they_were(dialect, tmp_path):
    there, back = (
        googlenet.build(dialect, aux=False, channels=3, classes=1000, seed=seed) for seed in (1, 2)
    )
    googlenet.load_checkpoint(
        back, write_safetensors(tmp_path / 'weights.safetensors', googlenet.tensors(there))
    )
    for a, b in zip(there.weights, back.weights, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=a.path)


def test_mixed_5b_keeps_the_slip_of_its_file(made):
    names = set(googlenet.names('slim').name)
    assert (
        'InceptionV1/Mixed_5b/Branch_2/Conv2d_0a_3x3/weights' in names
        and 'InceptionV1/Mixed_5c/Branch_2/Conv2d_0b_3x3/weights' in names
    )
    renamed = {
        n.replace('Mixed_5b/Branch_2/Conv2d_0a_3x3', 'Mixed_5b/Branch_2/Conv2d_0b_3x3'): a.shape
        for n, a in made['slim'][0].items()
    }
    with pytest.raises(
        ValueError, match='missing: 4 .*Conv2d_0a_3x3.*left over: 4 .*Conv2d_0b_3x3'
    ):
        googlenet._dialect(renamed)


def test_background_class_is_left_out(made):
    tensors = made['slim'][0]
    bias = tensors['InceptionV1/Logits/Conv2d_0c_1x1/biases']
    np.testing.assert_array_equal(googlenet.from_file(bias, 'slim'), bias[1:])
    kernel = tensors['InceptionV1/Logits/Conv2d_0c_1x1/weights']
    np.testing.assert_array_equal(googlenet.from_file(kernel, 'slim')[:, 4], kernel[0, 0, :, 5])


def test_grey_network_is_the_colour_network_on_three_copies(made, picture, tmp_path):
    path = write_safetensors(tmp_path / 'slim.safetensors', made['slim'][0])
    colour, grey = (googlenet.build('slim', channels=channels, seed=3) for channels in (3, 1))
    before = grey.get_layer('logit').kernel.numpy()
    for model in (colour, grey):
        googlenet.load_checkpoint(model, path)
    one = picture[..., :1]
    for name, a, b in zip(
        ['logit', 'aux1', 'aux2'], colour(np.repeat(one, 3, -1)), grey(one), strict=True
    ):
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-5 * np.abs(a).max(), err_msg=name)
    np.testing.assert_array_equal(
        grey.get_layer('logit').kernel, before
    )  # the one logit keeps its He draw


def test_other_padding_gives_other_activations(made, picture, tmp_path):
    """Why the dialect matters: the same weights behind the other padding of conv1."""
    model = googlenet.build('torchvision', aux=False, channels=3, classes=1000)
    googlenet.load_checkpoint(
        model, write_safetensors(tmp_path / 't.safetensors', made['torchvision'][0])
    )
    other = googlenet.build('slim', aux=False, channels=3, classes=1000)
    for row in googlenet.names('slim').itertuples():
        here, there = (m.get_layer(row.layer) for m in (other, model))
        value = getattr(there, row.weight)
        if row.layer.endswith('_bn'):  # slim has no gamma: fold it into the kernel and the mean
            gamma = there.gamma.numpy()
            value = value * gamma if row.weight == 'moving_mean' else value
        elif row.weight == 'kernel' and row.layer != 'logit':
            value = value * model.get_layer(row.layer.replace('_conv', '_bn')).gamma
        getattr(here, row.weight).assign(value)
    a, b = (m(picture).numpy() for m in (model, other))
    assert 0.2 < np.linalg.norm(a - b) / np.linalg.norm(a) < 1.5


def refused(path, model=None):
    with pytest.raises(ValueError) as error:
        googlenet.load_checkpoint(model, path) if model else googlenet.read_checkpoint(path)
    text = str(error.value)
    assert text.startswith(path.name.split('.index')[0]) or str(path) in text
    return text


def test_wrong_files_are_refused_with_what_is_missing_and_left_over(made, tmp_path):
    tensors = dict(made['slim'][0])
    lacking = {n: a for n, a in tensors.items() if 'Mixed_4c' not in n}
    text = refused(
        write_safetensors(
            tmp_path / 'lacking.safetensors', {**lacking, 'extra': np.zeros(1, 'float32')}
        )
    )
    assert 'missing: 24 (InceptionV1/Mixed_4c/' in text and 'left over: 1 (extra)' in text
    shape = tensors | {'InceptionV1/Conv2d_2b_1x1/weights': np.zeros((1, 1, 64, 65), 'float32')}
    assert 'Conv2d_2b_1x1/weights (1, 1, 64, 65) for (1, 1, 64, 64)' in refused(
        write_safetensors(tmp_path / 'shape.safetensors', shape)
    )
    nan = tensors | {'InceptionV1/Conv2d_2b_1x1/BatchNorm/beta': np.full(64, np.nan, 'float32')}
    assert 'no finite numbers in InceptionV1/Conv2d_2b_1x1/BatchNorm/beta' in refused(
        write_safetensors(tmp_path / 'nan.safetensors', nan)
    )
    assert 'no tensor has a name' in refused(
        write_safetensors(tmp_path / 'foreign.safetensors', {'a': np.zeros(1, 'float32')})
    )
    assert 'no such file' in refused(tmp_path / 'absent.ckpt')
    model = googlenet.build('slim', aux=False)
    before = [w.numpy() for w in model.weights]
    assert "build it with dialect='torchvision'" in refused(
        write_safetensors(tmp_path / 'other.safetensors', made['torchvision'][0]), model
    )
    refused(tmp_path / 'nan.safetensors', model)
    for a, b in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(a, b)  # nothing was loaded by halves


def test_truncated_files_are_refused(made, tmp_path):
    v2 = write_slim(tmp_path / 'model.ckpt', made['slim'][0])
    data = tmp_path / 'model.ckpt.data-00000-of-00001'
    data.write_bytes(data.read_bytes()[:100_000])
    assert refused(tmp_path / 'model.ckpt')
    whole = write_slim(tmp_path / 'inception_v1.ckpt', made['slim'][0], 'V1')
    cut = tmp_path / 'cut.ckpt'
    cut.write_bytes(Path(whole).read_bytes()[:-1000])
    assert refused(cut) and v2
    (tmp_path / 'empty.ckpt').write_bytes(b'')
    assert refused(tmp_path / 'empty.ckpt')
    safe = write_safetensors(tmp_path / 'cut.safetensors', made['slim'][0])
    safe.write_bytes(safe.read_bytes()[:-5])
    assert refused(safe)


def test_pth_runs_no_code_and_unpacks_to_no_flood(made, tmp_path, monkeypatch):
    torch = pytest.importorskip(
        'torch', reason='torch writes and reads .pth files; it is no requirement'
    )
    ran = tmp_path / 'ran'

    class Evil:
        def __reduce__(self):
            return (open, (str(ran), 'w'))

    torch.save({'conv1.conv.weight': Evil()}, tmp_path / 'evil.pth')
    refused(tmp_path / 'evil.pth')
    assert not ran.exists()
    torch.save([1, 2], tmp_path / 'list.pth')
    assert 'holds no state dict' in refused(tmp_path / 'list.pth')
    with zipfile.ZipFile(tmp_path / 'flood.pth', 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('data', bytes(googlenet.LARGEST + 1))
    assert 'too many bytes' in refused(tmp_path / 'flood.pth')


def test_pth_without_torch_says_what_to_do(tmp_path, monkeypatch):
    (tmp_path / 'googlenet.pth').write_bytes(b'x')
    monkeypatch.setitem(__import__('sys').modules, 'torch', None)
    assert 'weights convert' in refused(tmp_path / 'googlenet.pth')


def test_converted_file_is_read_without_torch_and_tensorflow_1(made, tmp_path, picture):
    write_slim(tmp_path / 'model.ckpt', made['slim'][0])
    out = googlenet.convert(tmp_path / 'model.ckpt.index', tmp_path / 'slim.safetensors')
    dialect, tensors, _ = googlenet.read_checkpoint(out)
    assert dialect == 'slim'
    for name, array in tensors.items():
        np.testing.assert_array_equal(array, made['slim'][0][name], err_msg=name)
    with pytest.raises(ValueError, match='already there'):
        googlenet.convert(tmp_path / 'model.ckpt', out)
    with pytest.raises(ValueError, match='q.bin: .*ends in .safetensors'):
        googlenet.convert(tmp_path / 'model.ckpt', tmp_path / 'q.bin')
    assert googlenet.show(out)['numbers'] == 6_633_209


def weights(*args):
    done = CliRunner().invoke(commands.app, ['weights', *map(str, args)])
    assert done.exit_code == 0, done.output
    return done.stdout.strip()


def test_the_command_shows_and_converts(made, tmp_path):
    write_slim(tmp_path / 'model.ckpt', made['slim'][0])
    torchvision = write_safetensors(tmp_path / 'googlenet.safetensors', made['torchvision'][0])
    for file, dialect, tensors in (
        (tmp_path / 'model.ckpt', 'slim', 230),
        (torchvision, 'torchvision', 287),
    ):
        shown = ast.literal_eval(weights('show', file))
        assert (shown['file'], shown['dialect'], shown['tensors'], shown['in weights.json']) == (
            file.name,
            dialect,
            tensors,
            False,
        )
        assert (
            all(
                digest == runtime.sha256(tmp_path / name)
                for name, digest in shown['sha256'].items()
            )
            and shown['input']
        )
    assert weights('convert', tmp_path / 'model.ckpt') == f'Wrote {tmp_path / "model.safetensors"}'
    assert (
        weights('convert', torchvision, '--out', tmp_path / 'other.safetensors')
        == f'Wrote {tmp_path / "other.safetensors"}'
    )
    for file, dialect in ('model', 'slim'), ('other', 'torchvision'):
        found, tensors, _ = googlenet.read_checkpoint(tmp_path / f'{file}.safetensors')
        assert found == dialect
        for name, array in tensors.items():
            np.testing.assert_array_equal(array, made[dialect][0][name], err_msg=name)


def test_checksum_in_the_manifest_is_checked(made, tmp_path, monkeypatch):
    path = write_safetensors(tmp_path / 'slim.safetensors', made['slim'][0])
    digest = runtime.sha256(path)

    def known(begins):
        return {path.name: {'dialect': 'slim', 'tensors': 230, 'sha256': begins, 'input': 'RGB'}}

    monkeypatch.setattr(googlenet, 'accepted', lambda: known(digest[:8]))
    assert googlenet.show(path)['in weights.json']
    monkeypatch.setattr(googlenet, 'accepted', lambda: known('0' * 8))
    assert 'weights.json knows 00000000' in refused(path)
    monkeypatch.setattr(googlenet, 'accepted', lambda: known(None))
    assert not googlenet.show(path)['in weights.json']


@pytest.mark.parametrize('size', [96, 97, 225])
def test_pooling_and_padding_follow_torch_at_odd_sides(size, made):
    """torch's own ceil_mode and padding, where it is installed."""
    torch = pytest.importorskip('torch', reason='the reference for odd sides')
    model = googlenet.build('torchvision', aux=False, channels=3, size=size)
    for name, layer, weight in googlenet.names('torchvision')[['name', 'layer', 'weight']].values:
        if layer != 'logit':
            getattr(model.get_layer(layer), weight).assign(
                googlenet.from_file(made['torchvision'][0][name], 'torchvision')
            )
    x = runtime.rng(3, size).normal(size=(1, size, size, 3)).astype('float32')
    there = torch.nn.functional.conv2d(
        torch.from_numpy(x.transpose(0, 3, 1, 2)),
        torch.from_numpy(made['torchvision'][0]['conv1.conv.weight']),
        stride=2,
        padding=3,
    )
    conv1, pool1, three_b, pool3 = googlenet.features(
        model, ['conv1_conv', 'pool1', 'inception3b', 'pool3']
    )(x)
    np.testing.assert_allclose(
        conv1, there.numpy().transpose(0, 2, 3, 1), atol=1e-4 * float(there.abs().max())
    )
    relu = googlenet.features(model, ['conv1'])(x).numpy()
    for before, after in ((relu, pool1), (three_b.numpy(), pool3)):
        pooled = torch.nn.functional.max_pool2d(
            torch.from_numpy(before.transpose(0, 3, 1, 2).copy()), 3, 2, ceil_mode=True
        )
        np.testing.assert_array_equal(after, pooled.numpy().transpose(0, 2, 3, 1))


def test_resnet50_takes_the_weights_of_keras_applications(tmp_path):
    source = keras.applications.ResNet50(include_top=False, weights=None, input_shape=(64, 64, 3))
    source.save_weights(tmp_path / 'resnet50.weights.h5')
    model = googlenet.build(backbone='resnet50', size=64)
    assert (
        googlenet.load_checkpoint(model, tmp_path / 'resnet50.weights.h5')['dialect'] == 'resnet50'
    )
    x = runtime.rng(5, 'resnet').normal(size=(1, 64, 64, 1)).astype('float32')
    np.testing.assert_allclose(
        googlenet.features(model, ['conv5_block3_out'])(x),
        source(np.repeat(x, 3, -1)),
        rtol=1e-4,
        atol=1e-4,
    )
    (tmp_path / 'bad.weights.h5').write_bytes(
        (tmp_path / 'resnet50.weights.h5').read_bytes()[:1000]
    )
    refused(tmp_path / 'bad.weights.h5', model)


def test_same_seed_same_network_and_each_layer_its_own_draw():
    a, b, c = (googlenet.build(size=64, seed=seed) for seed in (1, 1, 2))
    for x, y in zip(a.weights, b.weights, strict=True):
        np.testing.assert_array_equal(x, y)
    assert not np.array_equal(a.get_layer('conv1_conv').kernel, c.get_layer('conv1_conv').kernel)
    assert not np.array_equal(a.get_layer('aux1_dense').kernel, a.get_layer('aux2_dense').kernel)


def test_he_initialisation_of_the_output_and_the_heads():
    model = googlenet.build()
    for name, fan_in in (
        ('logit', 1024),
        ('aux1_conv', 512),
        ('aux1_dense', 2048),
        ('aux2_conv', 528),
        ('aux2', 1024),
    ):
        assert np.std(model.get_layer(name).kernel) == pytest.approx(
            np.sqrt(2 / fan_in), rel=0.1
        ), name
        assert not np.any(model.get_layer(name).bias), name


def test_features_without_aux_and_a_saved_network_agree(tmp_path):
    model = googlenet.build(size=64, bn_momentum=0.0)
    x = runtime.rng(6, 'x').normal(size=(4, 64, 64, 1)).astype('float32')
    model(x, training=True)
    alone = googlenet.without_aux(model)
    assert not [layer.name for layer in alone.layers if layer.name.startswith('aux')]
    alone.save(tmp_path / 'network.keras')
    again = keras.saving.load_model(tmp_path / 'network.keras')
    np.testing.assert_array_equal(model(x)[0], alone(x))
    np.testing.assert_allclose(again(x), alone(x), rtol=1e-6)
    average = googlenet.features(again, ['average'])(x)
    np.testing.assert_allclose(
        average @ alone.get_layer('logit').kernel + alone.get_layer('logit').bias,
        alone(x),
        rtol=1e-4,
    )


def test_manifest_of_weights_agrees_with_the_code():
    assert {entry['dialect'] for entry in googlenet.accepted().values()} >= set(googlenet.DIALECTS)
    for name, entry in googlenet.accepted().items():
        if entry['dialect'] in googlenet.DIALECTS:
            assert entry['tensors'] == len(googlenet.names(entry['dialect'])), json.dumps(
                {name: entry}
            )


def test_resnet50_is_drawn_from_its_seed():
    a, b, c = (
        googlenet.build(backbone='resnet50', size=64, seed=seed).get_weights() for seed in (1, 1, 2)
    )
    assert all(np.array_equal(v, w) for v, w in zip(a, b, strict=True)) and not all(
        np.array_equal(v, w) for v, w in zip(a, c, strict=True)
    )
