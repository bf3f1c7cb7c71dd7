"""Mutated model files, and a process that loads them: `python load_fuzzer.py FOLDER FIRST COUNT`.

A process of its own, for what must not happen would end it: a crash, more memory than RLIMIT_AS allows, an endless loop
(signals). Prints as JSON what happened how often. Mutation number i is the same at every run.
"""

import contextlib
import copy
import faulthandler
import json
import pathlib
import random
import resource
import signal
import sys

import numpy as np

import fastnn

# Seconds of computing, and of waiting for a busy machine too, that one small file may take.
SECONDS, WAITING_SECONDS = 10, 300
# Bytes that loading may add to the process.
MEMORY = 256 * 2**20
LONGEST_MESSAGE = 3000
# What only executed code brings about, as the interpreter's audit events name it.
EXECUTION = (
    "exec",
    "compile",
    "import",
    "marshal.",
    "pickle.",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "subprocess.",
    "ctypes.dlopen",
    "socket.",
)

NETWORKS = [
    ([3, 2], "relu", "float32"),
    ([4, 5, 3], "tanh", "float32"),
    ([2, 7, 7, 1], "gelu", "float64"),
    ([1, 1], "softmax", "float64"),
]

NUMBERS = [0, -1, 1, 2**31, 2**32 + 1, 2**53, 2**63 - 1, 2**63, 2**64 - 1, 10**30, 10**400, -(2**63), 0.5, 3.0, 1e308]
HOSTILE = [
    *NUMBERS,
    float("nan"),
    float("inf"),
    None,
    True,
    "",
    "3",
    "float32",
    "F64",
    "BF16",
    "relu",
    "__import__('os').system('true')",
    "../../etc/passwd",
    "\ud800",
    "\0",
    "x" * 5000,
    [],
    {},
    [[]],
    [2, 3],
    [-1, 4],
    [0, 2**64],
    [4, 0],
    {"in_features": 1},
    [0] * 3000,
]


class Raw(str):
    """Text that goes into JSON as it is."""


def dump(value):
    """JSON with what no writer of JSON would write: duplicate keys (as a list of `pairs`) and raw text."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, Pairs):
        return "{" + ",".join(f"{json.dumps(key)}:{dump(item)}" for key, item in value) + "}"
    if isinstance(value, dict):
        return dump(Pairs(value.items()))
    if isinstance(value, list):
        return "[" + ",".join(map(dump, value)) + "]"
    return json.dumps(value)


class Pairs(list):
    """Keys and values of a JSON object; keys may come twice."""


def places(value, path=()):
    """The paths of all values inside a JSON value."""
    yield path
    if isinstance(value, (dict, list)) and not isinstance(value, Pairs):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


def at(value, path):
    for key in path:
        value = value[key]
    return value


def change_json(value, rng):
    """A JSON value with one thing wrong."""
    value = copy.deepcopy(value)
    path = rng.choice([path for path in places(value) if path])
    parent, key = at(value, path[:-1]), path[-1]
    kind = rng.randrange(8)
    if kind == 0:
        del parent[key]
    elif kind == 1 and isinstance(parent, dict):
        parent[rng.choice(["", "layers.0.weight", "odd", "\u0000", f"{key} "])] = parent.pop(key)
    elif kind == 2 and isinstance(parent, dict):
        twice = Pairs([*parent.items(), (key, rng.choice([*HOSTILE, parent[key]]))])
        if len(path) == 1:
            return twice
        at(value, path[:-2])[path[-2]] = twice
    elif kind == 3:
        depth = rng.choice([3, 100, 127, 128, 1000, 20_000])
        parent[key] = Raw("[" * depth + "]" * depth)
    elif kind == 4 and isinstance(parent, list):
        parent.extend(copy.deepcopy(parent) * rng.choice([1, 2, 50]))
    elif kind == 5:
        other = rng.choice([path for path in places(value) if path])
        parent[key] = copy.deepcopy(at(value, other))
    elif kind == 6 and isinstance(parent[key], int):
        parent[key] += rng.choice([-8, -4, -1, 1, 4, 8])
    else:
        parent[key] = rng.choice(HOSTILE)
    return value


def parts(content):
    """(header as a JSON value, data) of a safetensors file."""
    end = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:end]), content[end:]


def whole(header, data):
    text = (header if isinstance(header, str) else dump(header)).encode(errors="surrogatepass")
    return len(text).to_bytes(8, "little") + text + data


def change_header(content, rng):
    header, data = parts(content)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        header = change_json(header, rng)
        if isinstance(header, Pairs):
            break
    return whole(header, data)


def change_architecture(content, rng):
    header, data = parts(content)
    architecture = change_json(json.loads(header["__metadata__"]["architecture"]), rng)
    text = dump(architecture)
    if rng.random() < 0.1:
        text = text[: rng.randrange(len(text))]
    header["__metadata__"]["architecture"] = text
    return whole(header, data)


def change_shapes(content, rng):
    """The architecture and the tensors agree with each other, but not with the data."""
    header, data = parts(content)
    architecture = json.loads(header["__metadata__"]["architecture"])
    layer, size = rng.randrange(len(architecture["layers"])), rng.choice(NUMBERS)
    architecture["layers"][layer]["in_features"] = size
    header[f"layers.{layer}.weight"]["shape"][0] = size
    if rng.random() < 0.5:
        end = size * architecture["layers"][layer]["out_features"] * 4
        header[f"layers.{layer}.weight"]["data_offsets"][1] = end
    header["__metadata__"]["architecture"] = json.dumps(architecture)
    return whole(header, data)


def move_offsets(content, rng):
    header, data = parts(content)
    name = rng.choice([name for name in header if name != "__metadata__"])
    other = rng.choice([name for name in header if name != "__metadata__"])
    ends = header[name]["data_offsets"]
    header[name]["data_offsets"] = rng.choice(
        [
            ends[::-1],
            header[other]["data_offsets"],
            [ends[0] - 4, ends[1] - 4],
            [ends[0] + 4, ends[1] + 4],
            [-ends[1], -ends[0]],
            [2**64 - 4, ends[1]],
            [0, len(data)],
            [ends[0], 2**63],
        ]
    )
    return whole(header, data)


def flip_bits(content, rng):
    changed = bytearray(content)
    end = rng.choice([8, min(len(content), 64), len(content)])
    for _ in range(rng.choice([1, 1, 2, 8, 64])):
        changed[rng.randrange(end)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def insert_bytes(content, rng):
    place = rng.randrange(len(content) + 1)
    return content[:place] + rng.randbytes(rng.choice([1, 4, 8, 1000])) + content[place:]


def delete_bytes(content, rng):
    place = rng.randrange(len(content))
    return content[:place] + content[place + rng.choice([1, 4, 8, 100]) :]


def cut(content, rng):
    return content[: rng.randrange(len(content))]


def lie_about_the_header(content, rng):
    length = int.from_bytes(content[:8], "little")
    lies = [0, 1, 2, length - 1, length + 1, length + 8, len(content) - 8, len(content), 10**8, 10**8 + 1, 2**32]
    return rng.choice([*lies, 2**63 - 1, 2**63, 2**64 - 9, 2**64 - 8, 2**64 - 1]).to_bytes(8, "little") + content[8:]


def swap_characters(content, rng):
    changed = bytearray(content)
    end = 8 + int.from_bytes(content[:8], "little")
    for _ in range(rng.choice([1, 2, 5])):
        changed[rng.randrange(8, end)] = rng.choice(b'{}[]",:0123456789-eE. \\\x00\xff')
    return bytes(changed)


def join(content, rng):
    return rng.choice([content + content, content[:8] + content, content + bytes(8)])


MUTATIONS = [
    change_header,
    change_header,
    change_architecture,
    change_architecture,
    change_shapes,
    move_offsets,
    flip_bits,
    insert_bytes,
    delete_bytes,
    cut,
    lie_about_the_header,
    swap_characters,
    join,
]


def originals(folder):
    """The contents of whole files, by which all mutations begin."""
    contents = []
    for i, (sizes, activation, dtype) in enumerate(NETWORKS):
        path = pathlib.Path(folder, f"original-{i}")
        fastnn.MLP(sizes, activation=activation, dtype=dtype, seed=i).save(path)
        contents.append(path.read_bytes())
    return contents


def mutant(contents, mutations, number):
    """Mutation `number` of the files: its name and its bytes."""
    rng = random.Random(number)
    content, mutate = rng.choice(contents), rng.choice(mutations)
    return mutate.__name__, mutate(content, rng)


def outcome(path, content):
    """ "refused" or "loaded", after a look at the error or at the model."""
    # A new file: some file systems wait for the disk where an old one is written anew.
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    try:
        net = fastnn.load(path)
    except (ValueError, OSError) as error:
        message = str(error)
        assert str(path) in message, f"no name of the file in {message!r}"
        assert len(message) < LONGEST_MESSAGE, f"a message of {len(message)} characters: {message[:500]}"
        return "refused"
    assert net.parameters.nbytes <= len(content), f"{net.parameters.nbytes} bytes out of a file of {len(content)}"
    assert net.predict(np.zeros((2, net.in_features))).shape == (2, net.out_features)
    assert fastnn.load(path).parameters.tobytes() == net.parameters.tobytes()
    return "loaded"


@contextlib.contextmanager
def no_execution(events):
    """Notes in `events` what the interpreter executes meanwhile."""
    watching = True

    def watch(event, arguments):
        if watching and event.startswith(EXECUTION):
            events.append(f"{event}{arguments!r}"[:200])

    sys.addaudithook(watch)
    try:
        yield
    finally:
        watching = False


def memory_in_use():
    """Bytes of address space of this process."""
    return int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def fuzz(path, first, count, contents, mutations, outcome):
    """Print how many mutants of whole files, each written to `path`, are refused and loaded, by kind."""
    counts, events = {}, []
    for content in contents:
        assert outcome(path, content) == "loaded"
    # Either signal ends the process; where it was then is told first.
    for number in (signal.SIGPROF, signal.SIGALRM):
        faulthandler.register(number, chain=True)
    resource.setrlimit(resource.RLIMIT_AS, (memory_in_use() + MEMORY, resource.RLIM_INFINITY))
    with no_execution(events):
        for number in range(first, first + count):
            name, content = mutant(contents, mutations, number)
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            signal.alarm(WAITING_SECONDS)
            try:
                said = outcome(path, content)
            except BaseException as error:
                # A panic of the Rust library is no Exception.
                path.with_name(f"failed-{number}").write_bytes(content)
                raise AssertionError(f"mutation {number}, {name}: {type(error).__name__}: {error}") from error
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
                signal.alarm(0)
            counts.setdefault(name, {"refused": 0, "loaded": 0})[said] += 1
    assert not events, f"executed: {events[:5]}"
    print(json.dumps(counts))


if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[1])
    fuzz(folder / "mutant.safetensors", *map(int, sys.argv[2:]), originals(folder), MUTATIONS, outcome)
