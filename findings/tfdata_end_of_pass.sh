#!/bin/bash
# tf.data: the end of a pass can wait for the thread that tunes the pipeline, although the last
# element has been read. That thread looks at the pipeline after 10 ms, then after twice as long each
# time, up to a minute; some passes wait for its next look. A training whose passes take
# 15 s loses 5 s at such an end. With options.autotune.enabled = False no pass waits.
set -euo pipefail
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
cd "$room"
python3 -m venv env
env/bin/pip install -q tensorflow-cpu==2.21.0
cat > try.py <<'PY'
import threading
import time

import numpy as np
import tensorflow as tf


def batches():
    for _ in range(15):
        yield np.zeros((8, 4), np.float32)


def pass_over(tuned, waits):
    "Reads all batches in 3 s, and notes how long it takes to let go of the iterator."
    options = tf.data.Options()
    options.autotune.enabled = tuned
    data = tf.data.Dataset.from_generator(
        batches, output_signature=tf.TensorSpec((None, 4), tf.float32)
    )
    iterator = iter(data.prefetch(2).with_options(options))
    for _ in iterator:
        time.sleep(0.2)
    start = time.perf_counter()
    del iterator
    waits.append(time.perf_counter() - start)


def longest_wait(tuned, rounds=5, at_once=12):
    waits = []
    for _ in range(rounds):
        passes = [threading.Thread(target=pass_over, args=(tuned, waits)) for _ in range(at_once)]
        for p in passes:
            p.start()
        for p in passes:
            p.join()
    print(f'autotune {tuned}: {sum(w > 1 for w in waits)} of {len(waits)} passes waited over 1 s,',
          f'the longest {max(waits):.2f} s')
    return max(waits)


print('tensorflow', tf.__version__)
print('Guess: letting go of an iterator that has been read to its end takes no time.')
tuned, plain = longest_wait(True), longest_wait(False)
found = tuned > 1 and plain < 1
print('It can take as long as the tuning thread still sleeps.' if found else 'changed')
raise SystemExit(not found)
PY
env/bin/python try.py 2>/dev/null
