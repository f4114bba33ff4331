import json

import pytest

from inkfold.storage.sealed import DamagedError, read_sealed, sealed, unsealed, write_sealed

CONTENT = {"mean": [1.0, 0.5], "size": 64, "name": "Füße", "none": None, "by number": {10: 0, 9: [1e-07, True]}}


@pytest.mark.parametrize("indent", [2, None])
def test_what_is_read_is_what_was_written(tmp_path, indent):
    write_sealed(tmp_path / "a.json", CONTENT, indent=indent)
    assert read_sealed(tmp_path / "a.json", must_be_sealed=True) == json.loads(json.dumps(CONTENT))
    assert (tmp_path / "a.json").read_bytes().endswith(b"}\n")


def test_any_flipped_bit_is_noticed_unless_the_content_is_the_same(tmp_path):
    """The spaces between values and the digest's own name are no content."""
    path, refused = tmp_path / "a.json", 0
    write_sealed(path, CONTENT)
    whole, content = path.read_bytes(), json.loads(json.dumps(CONTENT))
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            got = read_sealed(path, must_be_sealed=False)
        except ValueError:
            refused += 1
        else:
            assert {name: got[name] for name in content} == content
            assert got == content or b'"digest"' not in damaged
    assert refused > 8 * len(whole) * 0.8


def test_an_object_without_a_digest_is_taken_only_where_older_versions_files_are():
    assert unsealed({"size": 64}, must_be_sealed=False) == {"size": 64}
    with pytest.raises(DamagedError, match="has no digest"):
        unsealed({"size": 64}, must_be_sealed=True)


@pytest.mark.parametrize("raw", [[], 3, None, "text"])
def test_only_objects_are_sealed(raw):
    with pytest.raises(ValueError, match="expected an object"):
        unsealed(raw, must_be_sealed=False)


@pytest.mark.parametrize("odd", [float("nan"), "\ud800"])
def test_values_that_no_one_writes_are_damage(odd):
    with pytest.raises(DamagedError):
        unsealed({**sealed({"size": 64}), "size": odd}, must_be_sealed=False)
