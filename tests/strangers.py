"""Changes that a stranger could make to a file of a run, each whole in its format; digests are written anew."""

import json
import os
import struct
import zipfile

import numpy as np
import yaml

from inkfold.storage.hashing import digest_file, key_digest
from inkfold.storage.sealed import SEAL, sealed

DEEP = 3000
WORDS = (
    "",
    "x",
    "../../../etc/passwd",
    "/etc/passwd",
    "NaN",
    "\x00",
    "=1",
    "{{ 7 }}",
    "<script>",
    "그림",
    "a" * 5000,
    "1e400",
    "-1",
)
VALUES = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**63,
    -(2**63),
    10**25,
    1e308,
    -1e308,
    0.5,
    [],
    {},
    [None],
    [[]],
    {"x": 1},
    [0] * 300,
)


def mutate(part, file, rng):
    """Change a file below a run's directory; say what was done."""
    name = file.relative_to(part)
    special = rng.random() < 0.08
    change = _replace_by_something_else(file, rng) if special else _CHANGES.get(file.suffix, _change_bytes)(file, rng)
    _seal(part, file)
    return f"{name}: {change}"


def _seal(part, file):
    """Write the digests of a changed file where its run has them, up to the outermost manifest."""
    for directory in [parent for parent in file.parents if parent == part or part in parent.parents]:
        manifest = directory / "manifest.json"
        if not manifest.is_file() or manifest == file:
            continue
        try:
            raw = json.loads(manifest.read_bytes())
            name = file.relative_to(directory).as_posix()
            if name not in raw["files"]:
                continue
            if file.is_file():
                raw["files"][name] = digest_file(file)
            raw.pop(SEAL, None)
            manifest.write_text(json.dumps(sealed(raw)))
        except (ValueError, KeyError, TypeError, OSError):
            return
        file = manifest


def _replace_by_something_else(file, rng):
    kind = rng.choice(
        ["pipe", "directory", "link to nothing", "link to a device", "link to itself", "link to a file", "nothing"]
    )
    file.unlink()
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "directory":
        file.mkdir()
    elif kind != "nothing":
        places = {"link to nothing": "/nothing/there", "link to a device": "/dev/zero", "link to itself": file.name}
        file.symlink_to(places.get(kind, "/etc/passwd"))
    return kind


def _places(value, path=()):
    """List the paths to all values below a value."""
    found = [path]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        if len(found) > 20000:
            break
        found += _places(inner, (*path, key))
    return found


def change_value(raw, rng):  # noqa: C901 - one branch for each kind of change
    """Change one value of nested ones, and say where and into what."""
    places = _places(raw)
    by_depth = {}
    for place in places:
        by_depth.setdefault(len(place), []).append(place)
    place = rng.choice(by_depth[rng.choice(sorted(by_depth))])  # else lists of numbers would get nearly all changes
    if not place:
        return rng.choice([[], {}, None, 1, "x"]), "all of it"
    inner = raw
    for key in place[:-1]:
        inner = inner[key]
    key = place[-1]
    kind = rng.choice(["remove", "value", "value", "word", "double", "swap", "deep", "key"])
    old = inner[key]
    if kind == "remove":
        del inner[key]
    elif kind == "double" and isinstance(old, list):
        inner[key] = old * 2
    elif kind == "swap" and isinstance(old, list | dict) and old:
        inner[key] = list(old.items()) if isinstance(old, dict) else dict(enumerate(map(str, old)))
    elif kind == "deep":
        deep = old
        for _ in range(rng.choice([1, 5, DEEP if rng.random() < 0.1 else 2])):
            deep = [deep]
        inner[key] = deep
    elif kind == "key" and isinstance(inner, dict):
        inner[rng.choice(WORDS)] = inner.pop(key)
    elif kind == "word":
        inner[key] = rng.choice(WORDS)
    else:
        kind, inner[key] = "value", rng.choice(VALUES)
    now = inner.get(key, "gone") if isinstance(inner, dict) else inner[key] if len(inner) > key else "gone"
    return raw, f"{kind} at {'.'.join(map(str, place))}: {str(now)[:60]!r}"


def _change_json(file, rng):
    if rng.random() < 0.08:
        return _change_bytes(file, rng)
    raw = json.loads(file.read_bytes())
    was_sealed = isinstance(raw, dict) and SEAL in raw
    if was_sealed:
        raw = {name: value for name, value in raw.items() if name != SEAL}
    raw, change = change_value(raw, rng)
    if was_sealed and isinstance(raw, dict):
        raw = _sealed_as_it_is(raw)
    file.write_text(_dump(raw))
    return change


def _sealed_as_it_is(raw):
    try:
        return {**raw, SEAL: key_digest(json.loads(_dump(raw)))}
    except (ValueError, RecursionError):
        return raw


def _dump(raw):
    try:
        return json.dumps(raw)
    except RecursionError:
        return "[" * DEEP + "]" * DEEP


def _change_yaml(file, rng):
    if rng.random() < 0.1:
        bomb = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
        file.write_text(
            rng.choice([bomb, "[" * DEEP, "a: &a [*a]\n", "!!python/object/apply:os.system [ls]\n", "a: 1\na: 2\n"])
        )
        return "hostile YAML"
    raw, change = change_value(yaml.safe_load(file.read_text()), rng)
    file.write_text(yaml.safe_dump(raw))
    return change


def _change_bytes(file, rng):
    data = bytearray(file.read_bytes())
    kind = rng.choice(["cut", "empty", "noise", "longer", "bytes"])
    if kind == "cut":
        data = data[: rng.randrange(len(data) + 1)]
    elif kind == "empty":
        data = bytearray()
    elif kind == "noise":
        data = bytearray(rng.randbytes(rng.choice([1, 100, 5000])))
    elif kind == "longer":
        data += rng.randbytes(100)
    else:
        for _ in range(rng.choice([1, 4, 64])):
            if data:
                data[rng.randrange(len(data))] = rng.choice([0, 0xFF, rng.randrange(256)])
    file.write_bytes(data)
    return f"bytes: {kind}"


def _change_safetensors(file, rng):
    data = file.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    if rng.random() < 0.2:
        file.write_bytes(struct.pack("<Q", rng.choice([0, 1, 2**40, 2**63, length - 1, length + 8])) + data[8:])
        return "length of the header"
    if rng.random() < 0.15:
        body = bytearray(data[8 + length :])
        for start in range(0, len(body) - 8, max(8, len(body) // 50)):
            body[start : start + 8] = rng.choice([b"\xff" * 8, b"\x00\x00\xc0\x7f" * 2, b"\x7f" * 8])
        file.write_bytes(data[: 8 + length] + body)
        return "content of tensors"
    raw = json.loads(data[8 : 8 + length])
    if rng.random() < 0.35:
        change = _change_tensor(raw, rng)
    else:
        raw, change = change_value(raw, rng)
    header = _dump(raw).encode()
    header += b" " * (-len(header) % 8)
    file.write_bytes(struct.pack("<Q", len(header)) + header + data[8 + length :])
    return change


def _change_tensor(raw, rng):
    """Give a tensor another shape or type of the same bytes, so that the file is whole."""
    name = rng.choice([name for name in raw if name != "__metadata__"])
    tensor, sizes = raw[name], {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "I16": 2, "U8": 1, "I8": 1, "BOOL": 1}
    size = tensor["data_offsets"][1] - tensor["data_offsets"][0]
    dtype = rng.choice([dtype for dtype, own in sizes.items() if size % own == 0])
    count = size // sizes[dtype]
    tensor["dtype"] = dtype
    tensor["shape"] = rng.choice([[count], [1, count], [count, 1], [count, 1, 1], [0, count] if not count else [1, 1, count]])
    return f"{name} becomes {dtype} {tensor['shape']}"


def _change_parquet(file, rng):  # noqa: C901 - one branch for each kind of change
    import pyarrow as pa
    import pyarrow.parquet as pq

    if rng.random() < 0.15:
        return _change_bytes(file, rng)
    table = pq.read_table(file)
    metadata, kind = (
        dict(table.schema.metadata or {}),
        rng.choice(["drop", "retype", "null", "odd", "rows", "names", "huge", "double"]),
    )
    column = rng.choice(table.column_names)
    place = table.column_names.index(column)
    if kind == "drop":
        table = table.drop_columns([column])
    elif kind == "retype":
        texts = pa.array([rng.choice(["x", "1", ""]) for _ in range(len(table))])
        table = table.set_column(
            place, column, rng.choice([texts, pa.nulls(len(table), pa.int64()), pa.array([[1.0]] * len(table))])
        )
    elif kind == "null":
        table = table.set_column(place, column, pa.nulls(len(table), table.schema.field(column).type))
    elif kind == "odd":
        own = table.schema.field(column).type
        if pa.types.is_integer(own):
            table = table.set_column(place, column, pa.array([rng.choice([-1, 0, 2**31 - 1])] * len(table), own))
        elif pa.types.is_fixed_size_list(own):
            value = rng.choice([float("nan"), float("inf"), -1.0, 2.0])
            table = table.set_column(place, column, pa.array([[value] * own.list_size] * len(table), own))
    elif kind == "rows":
        table = table.slice(0, rng.choice([0, 1]))
    elif kind == "names":
        names, change = change_value(
            {"names": json.loads(metadata[b"class_names"])} if b"class_names" in metadata else {"names": []}, rng
        )
        metadata[b"class_names"] = _dump(names.get("names") if isinstance(names, dict) else names).encode()
        kind += f" {change}"
    elif kind == "huge":
        _write_huge(file, table, metadata)
        return "a hundred million equal rows"
    else:
        table = pa.concat_tables([table, table])
    pq.write_table(table.replace_schema_metadata(metadata), file)
    return f"{kind} {column}"


def _write_huge(file, table, metadata):
    """Write a small file of very many rows, which runs of equal values make possible."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    row = table.slice(0, 1)
    many = row.take(pa.array(np.zeros(1 << 18, np.int64)))
    with pq.ParquetWriter(file, many.replace_schema_metadata(metadata).schema, compression="zstd") as writer:
        for _ in range(40):
            writer.write_table(many.replace_schema_metadata(metadata))


def _change_onnx(file, rng):
    import onnx

    from inkfold.export.metadata import KEY
    from inkfold.export.own_digest import DIGEST_KEY, UNKNOWN, with_own_digest

    if rng.random() < 0.1:
        return _change_bytes(file, rng)
    model = onnx.load_model_from_string(file.read_bytes())
    entries = {entry.key: entry for entry in model.metadata_props}
    if rng.random() < 0.6:
        raw, change = change_value(json.loads(entries[KEY].value), rng)
        entries[KEY].value = _dump(raw)
    else:
        change = _change_graph(model.graph, rng)
    if DIGEST_KEY in entries:
        entries[DIGEST_KEY].value = UNKNOWN
    data = model.SerializeToString()
    file.write_bytes(with_own_digest(data) if DIGEST_KEY in entries else data)
    return change


def _change_graph(graph, rng):
    from onnx import TensorProto

    kind = rng.choice(["no node", "no output", "no input", "another name", "dims", "external", "constant", "attribute"])
    if kind == "no node":
        del graph.node[rng.randrange(len(graph.node))]
    elif kind == "no output":
        del graph.output[rng.randrange(len(graph.output))]
    elif kind == "no input":
        del graph.input[0]
    elif kind == "another name":
        rng.choice([*graph.output, *graph.input]).name = "other"
    elif kind == "attribute":
        attributes = [attribute for node in graph.node for attribute in node.attribute if attribute.ints]
        if attributes:
            attribute = rng.choice(attributes)
            attribute.ints[rng.randrange(len(attribute.ints))] = rng.choice([0, -1, 2**31, 2**62])
    elif graph.initializer:
        tensor = rng.choice(graph.initializer)
        if kind == "dims":
            tensor.dims[:] = rng.choice([[2**40], [-1], [2**31, 2**31], [0], [1, 1, 1]])
        elif kind == "external":
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
            entry = tensor.external_data.add()
            entry.key, entry.value = "location", rng.choice(["/etc/passwd", "../../etc/passwd", "nothing", "/dev/zero"])
        else:
            tensor.raw_data = rng.choice([b"\xff", b"\x7f", b"\x00"]) * len(tensor.raw_data)
    return f"graph: {kind}"


def _change_csv(file, rng):
    kind = rng.choice(["bytes", "cell", "cell", "cell", "long", "quote", "rows", "header"])
    if kind == "bytes":
        return _change_bytes(file, rng)
    lines = file.read_text(encoding="utf-8-sig").splitlines()
    if not lines:
        return "nothing"
    row = 0 if kind == "header" else rng.randrange(len(lines))
    cells = lines[row].split(",")
    place = rng.randrange(len(cells))
    if kind == "quote":
        cells[place] = '"'
    elif kind == "long":
        cells[place] = "x" * 200_000
    elif kind == "rows":
        lines = lines * rng.choice([0, 2, 3])
        file.write_text("\n".join(lines))
        return "rows"
    else:
        cells[place] = rng.choice([*WORDS, "1e400", "nan", "inf", "-0", ",", "\r"])
    lines[row] = ",".join(cells)
    file.write_text("\n".join(lines) + "\n")
    return f"{kind} in row {row}"


def _change_npy(file, rng):
    data = bytearray(file.read_bytes())
    data = _other_header(data, rng) if rng.random() < 0.7 else data[: rng.randrange(len(data))]
    file.write_bytes(data)
    return "NPY header or length"


def _other_header(data, rng):
    header = rng.choice(
        [
            "{'descr': '|O', 'fortran_order': False, 'shape': (6, 3), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 3), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 3), }",
            "{'descr': '<f8', 'fortran_order': True, 'shape': (3, 6), }",
            "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (6,), }",
            "{'descr': '<U999999999', 'fortran_order': False, 'shape': (6,), }",
            "(" * 500,
            "{'descr': '<f4', 'fortran_order': False, 'shape': (" + "1," * 5000 + "), }",
            "",
        ]
    ).encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return data[:6] + b"\x01\x00" + struct.pack("<H", len(header)) + header + data[128:]


def _change_npz(file, rng):
    if rng.random() < 0.3:
        return _change_bytes(file, rng)
    with zipfile.ZipFile(file) as archive:
        entries = {info.filename: archive.read(info) for info in archive.infolist()}
    name = rng.choice(sorted(entries))
    kind = rng.choice(["drop", "header", "bomb", "other"])
    if kind == "drop":
        del entries[name]
    elif kind == "header":
        entries[name] = bytes(_other_header(bytearray(entries[name]), rng))
    elif kind == "bomb":
        entries[name] = entries[name][:128] + bytes(200 << 20)
    else:
        entries[name] = rng.randbytes(300)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for own, data in entries.items():
            archive.writestr(own, data)
    return f"{kind} {name}"


_CHANGES = {
    ".json": _change_json,
    ".yaml": _change_yaml,
    ".safetensors": _change_safetensors,
    ".parquet": _change_parquet,
    ".onnx": _change_onnx,
    ".csv": _change_csv,
    ".npy": _change_npy,
    ".npz": _change_npz,
}
