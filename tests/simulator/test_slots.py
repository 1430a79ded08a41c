import pytest

PROMPT = "one two three " * 20


def cached(sim, text):
    answer = sim.post("/completion", {"prompt": text, "timings": True}).json
    return answer["timings"]["cache_n"]


def test_a_prompt_is_kept_saved_and_restored(serve, tmp_path):
    one = serve(slots=2, slot_save_path=str(tmp_path))
    assert [cached(one, PROMPT), cached(one, PROMPT + "four"), cached(one, "else")] == [0, 60, 0]
    assert [slot["n_prompt_tokens"] for slot in one.get("/slots").json] == [61, 1]
    saved = one.post("/slots/0?action=save", {"filename": "a"}).json
    assert (saved["n_saved"], saved["n_written"]) == (61, (tmp_path / "a").stat().st_size)
    other = serve(slot_save_path=str(tmp_path))
    assert other.post("/slots/0?action=restore", {"filename": "a"}).json["n_restored"] == 61
    assert cached(other, PROMPT + "four five") == 61
    assert other.post("/slots/0?action=restore", {"filename": "b"}).status == 400
    assert serve().post("/slots/0?action=save", {"filename": "a"}).status == 501, "no folder"


@pytest.mark.parametrize(
    ("fault", "status", "size"),
    [("error", 500, None), ("none", 501, None), ("lost", 200, None), ("torn", 200, 0.5)],
)
def test_faults_of_a_save(serve, tmp_path, fault, status, size):
    sim = serve(slot_save_path=str(tmp_path), slot_fault=fault)
    sim.post("/completion", {"prompt": PROMPT})
    answer = sim.post("/slots/0?action=save", {"filename": "a"})
    assert answer.status == status
    file = tmp_path / "a"
    found = file.stat().st_size / answer.json["n_written"] if file.exists() else None
    assert found == (None if size is None else pytest.approx(size, abs=0.01))
