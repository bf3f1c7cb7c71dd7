"""What a user waits for before the first result: import, compilation with an empty and with a full cache."""

import os
import shutil
import subprocess
import sys
import tempfile
import time

CODE = {
    "import": "import fastnn",
    "predict": "import fastnn, numpy; fastnn.MLP([4, 8, 1], seed=0).predict(numpy.zeros((2, 4)))",
    "fit": "import fastnn, numpy; fastnn.MLP([4, 8, 1], seed=0).fit(numpy.zeros((8, 4)), numpy.zeros(8), seed=0)",
}


def process_seconds(code, cache):
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"NUMBA_CACHE_DIR": cache})
    return time.perf_counter() - start


class FirstCall:
    params = tuple(CODE)
    param_names = ("call",)
    timeout = 600
    version = "2"

    def setup(self, call):
        self.cache = tempfile.mkdtemp()

    def teardown(self, call):
        shutil.rmtree(self.cache)

    def track_empty_cache(self, call):
        return process_seconds(CODE[call], self.cache)

    def track_full_cache(self, call):
        process_seconds(CODE[call], self.cache)
        return min(process_seconds(CODE[call], self.cache) for _ in range(3))

    track_empty_cache.unit = track_full_cache.unit = "seconds"
    track_empty_cache.pretty_name = "a process's first call, empty cache"
    track_full_cache.pretty_name = "a process's first call, full cache"


def track_signatures_after_a_tour():
    """Compiled signatures of the drivers after common calls: each is a wait for a user."""
    import numpy as np

    import fastnn
    from fastnn.kernels import inference, training

    x, y = np.zeros((8, 4), np.float32), np.zeros((8, 1), np.float32)
    for sizes in ([4, 1], [4, 8, 1], [4, 8, 8, 1]):
        net = fastnn.MLP(sizes, seed=0)
        net.predict(x)
        net.fit(x, y, seed=0, progress=False)
        net.fit(x, y, optimizer=fastnn.Adam(), shuffle=False, seed=0, progress=False)
    return len(inference.forward_planned.signatures) + len(training.train_planned.signatures)


track_signatures_after_a_tour.timeout = 300
track_signatures_after_a_tour.unit = "signatures"
track_signatures_after_a_tour.pretty_name = "signatures that common calls compile"
