import os
import time

from inkfold.storage.cache import list_cache, prune_cache, runs_of
from inkfold.storage.kept_drawings import is_kept_set, is_whole, new_set, note_run

DIGEST = "0" * 32


def write_set(digest=DIGEST, content=b"pixels"):
    with new_set() as kept:
        kept.write("a/1.png", content)
        return kept.finish(digest, {"drawings": 1, "classes": 1, "to_predict": 0})


def age(path, days):
    then = time.time() - days * 24 * 3600
    os.utime(path, (then, then))


def test_a_set_is_whole_or_absent(own_home):
    place = write_set()
    assert place == own_home / "drawings" / DIGEST
    assert is_whole(place)
    assert is_kept_set(place)
    assert not is_kept_set(own_home)
    (place / "a/1.png").write_bytes(b"")
    assert not is_whole(place)
    with new_set() as kept:
        kept.write("b.png", b"")
    assert [path.name for path in place.parent.iterdir()] == [DIGEST]


def test_a_set_goes_a_week_after_its_last_use_unless_a_run_names_it(own_home, caplog):
    caplog.set_level("INFO")
    old, used, again = (write_set(str(number) * 32) for number in (1, 2, 3))
    note_run(used, own_home / "run")
    note_run(used, own_home / "run")
    note_run(own_home / "elsewhere", own_home / "run")
    assert runs_of(used) == [str(own_home / "run")]
    for place in (old, used, again):
        age(place / "set.json", 8)
    (own_home / "drawings/.new-1-x").mkdir()
    age(own_home / "drawings/.new-1-x", 2)
    write_set(again.name)
    assert (old.exists(), used.exists(), again.exists()) == (False, True, True)
    assert "no run was trained on it" in caplog.text
    assert not (own_home / "drawings/.new-1-x").exists()


def test_the_cache_lists_sets_and_prunes_those_that_runs_need_only_by_name(own_home):
    idle, used = write_set("1" * 32), write_set("2" * 32, b"more")
    note_run(used, own_home / "gone")
    (own_home / "run").mkdir()
    note_run(used, own_home / "run")
    idle_entry, used_entry = list_cache(own_home)
    assert (idle_entry.name, used_entry.name) == (f"drawings/{'1' * 32}", f"drawings/{'2' * 32}")
    assert idle_entry.description == "1 drawings of 1 classes from Python; no run needs them"
    assert used_entry.description == f"1 drawings of 1 classes from Python; for {own_home / 'gone'} (gone), {own_home / 'run'}"
    assert used_entry.bytes >= 4
    assert [entry.path for entry in prune_cache(own_home)] == [idle]
    assert [entry.path for entry in prune_cache(own_home, [used_entry.name])] == [used]
