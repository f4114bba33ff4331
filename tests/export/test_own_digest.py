import onnx
import pytest
from onnx import helper

from inkfold.errors import ExportError
from inkfold.export.own_digest import DIGEST_KEY, UNKNOWN, check_own_digest, with_own_digest


def model(**metadata):
    built = helper.make_model(helper.make_graph([], "toy", [], []))
    helper.set_model_props(built, {"inkfold": "{}", **metadata})
    return built.SerializeToString()


def test_any_flipped_bit_is_noticed_but_those_of_the_digests_own_name(tmp_path):
    path, accepted = tmp_path / "a.onnx", set()
    whole = with_own_digest(model(**{DIGEST_KEY: UNKNOWN}))
    path.write_bytes(whole)
    check_own_digest(path)
    assert onnx.load(path).graph.name == "toy"
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            check_own_digest(path)
        except ExportError:
            continue
        accepted.add(bit // 8)
    path.write_bytes(whole[:-1])
    with pytest.raises(ExportError, match=r"a\.onnx: not as it was exported\. Export the run again\."):
        check_own_digest(path)
    start = whole.rindex(DIGEST_KEY.encode())
    assert accepted == {*range(start, start + len(DIGEST_KEY) + 2)}


@pytest.mark.parametrize("content", [b"", b"not a model", model()])
def test_files_without_a_digest_are_left_to_whoever_loads_them(tmp_path, content):
    (tmp_path / "a.onnx").write_bytes(content)
    check_own_digest(tmp_path / "a.onnx")
    check_own_digest(tmp_path / "nowhere.onnx")
