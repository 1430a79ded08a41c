"""Memory in the interface: who holds what, what a load would do, why a swap was done."""

import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from selenium.webdriver.common.keys import Keys

from tests.fakes.ports import free_ports
from tests.ui import servers

pytestmark = pytest.mark.e2e

PARTS = """
    return [...document.querySelectorAll("[data-device=" + arguments[0] + "] .part-of-device")]
      .map((part) => [part.title, part.getBoundingClientRect().width]);
"""


@pytest.mark.parametrize(("page", "where"), [("home", "Devices"), ("models", "Memory")])
def test_each_device_says_who_holds_what_of_it(
    browser: Any, fake: Any, page: str, where: str
) -> None:
    browser.visit(fake.base, page)
    said = browser.read(
        f"[aria-label={where}] [data-device=gpu1] .device-bar[role=img]", of="aria-label"
    )
    assert said.startswith("gpu1, NVIDIA GeForce RTX 4090: 2.6 GiB of 24 GiB free; ")
    for part in (
        "qwen3-coder 2.5 GiB, asleep, declared", "bge-reranker 1.4 GiB, declared",
        "gpt-oss-120b 17 GiB, reserved for its load", "reserve 0.5 GiB",
    ):  # fmt: skip
        assert part in said
    parts = browser.run(PARTS, "gpu0")
    assert [title for title, _ in parts] == [
        "other programs 1.1 GiB, Xorg, firefox", "qwen3-30b-a3b 18 GiB, measured",
        "bge-m3 1.2 GiB, measured", "3.2 GiB free", "reserve 0.5 GiB",
    ]  # fmt: skip
    widths = dict(parts)
    share = widths["qwen3-30b-a3b 18 GiB, measured"] / sum(widths.values())
    assert share == pytest.approx(18 / 24, abs=0.02)
    browser.size(375, 812)
    browser.find("[data-device=gpu0] .device-part", "18 GiB")
    browser.fits()


def test_a_bar_follows_the_states_and_a_part_leads_to_its_model(browser: Any, fake: Any) -> None:
    browser.visit(fake.base, "models")
    browser.find("[data-device=gpu0] .device-part", "qwen3-30b-a3b")
    fake.post("/api/models/unload/qwen3-30b-a3b")
    browser.find("[data-device=gpu0] .row", "21.2 GiB of 24 GiB free")
    fake.post("/fake/models/all")
    browser.find("[data-device=gpu0] .device-part", "qwen3-30b-a3b")
    browser.click("[data-device=gpu0] .device-part a", "bge-m3")
    settings = "[data-detail=bge-m3] [aria-label=Settings]"
    browser.find(settings, "1.2 GiB on any GPU, measured; pinned")


def test_without_a_budget_pages_show_the_machines_of_launchers_alone(
    browser: Any, fake: Any
) -> None:
    fake.set(budget=False)
    browser.visit(fake.base, "models")
    browser.find("[data-model=bge-m3] .chip")
    node = browser.read("[data-device='farm/n1'] .device-bar", of="aria-label")
    assert node == (
        "farm/n1: 1.5 GPUs of 4 GPUs free; other jobs 0.5 GPUs; bge-m3 1 GPU; "
        "qwen3-coder 1 GPU, reserved for its load"
    )
    assert not browser.all("[data-device=gpu0]")
    assert not browser.all("[data-model=bge-m3] .chip", "needs")
    browser.find("[aria-label='Group large']", "one at a time")
    browser.go("home")
    browser.find("[aria-label=Devices] meter")


def test_a_model_says_what_it_needs_and_a_load_button_what_it_would_do(
    browser: Any, fake: Any
) -> None:
    browser.visit(fake.base, "models")
    for model, words in {
        "qwen3-30b-a3b": "needs 18 GiB on gpu0, measured",
        "llama-3.3-70b": "needs 22 GiB on gpu0 + 19 GiB on gpu1, estimated from the file",
        "gpt-oss-120b": "needs 17 GiB on gpu1 + 44 GiB of RAM, measured",
        "whisper-large": "needs an unknown amount: gets gpu1 alone",
    }.items():
        browser.find(f"[data-model='{model}'] .chip", words)
    assert "PLAN llama-3.3-70b" not in fake.get("/fake/calls")
    assert not browser.all("[aria-label='Group large']", "one at a time"), "groups do not decide"
    load = "button[aria-label='Load llama-3.3-70b']"
    browser.hover(load, "evicts qwen3-30b-a3b (18 GiB, idle 3 min)", "Ready in about 8.4 s")
    assert browser.read(load, of="aria-describedby") == browser.read("[role=tooltip]", of="id")
    assert browser.axe() == []
    browser.hover("h1")
    browser.gone("[role=tooltip]")
    browser.run("arguments[0].focus()", browser.find("button[aria-label='Wake qwen3-coder']"))
    browser.find("[role=tooltip]", "fits: nothing has to leave")
    browser.keys(Keys.ESCAPE)
    browser.gone("[role=tooltip]")


def test_a_model_that_never_fits_says_so_everywhere(browser: Any, fake: Any) -> None:
    why = "it needs 31.0 GiB on gpu0; gpu0 has 23.5 GiB, beside bge-m3, which is pinned"
    browser.visit(fake.base, "models")
    assert browser.read("[data-model=hostile] .chip", "never fits", of="title") == why
    browser.press("Load hostile")
    browser.find(".toast.bad", f"{why} (see “What fits with what” in docs/what-fits.md)")
    browser.complains(of="503")
    browser.driver.get(f"{fake.base}/ui/#/models/hostile")
    browser.find("[data-detail=hostile] .problem", why)
    browser.go("home")
    browser.choose("Model to load", "hostile")
    browser.find("[aria-label=Now] [data-plan=never_fits]", why)


def test_a_picker_shows_sizes_and_what_the_choice_would_load(browser: Any, fake: Any) -> None:
    browser.visit(fake.base, "playground")
    browser.click(".model-choice input")
    browser.find("[role=option]", "41 GiB")
    at_hand = "[role=option].at"
    while "llama-3.3-70b" not in (at := browser.read(at_hand)):
        browser.keys(Keys.ARROW_DOWN)
        browser.wait(lambda at=at: browser.read(at_hand) != at, "the next option")
    browser.find(".chooser-about", "evicts qwen3-30b-a3b (18 GiB, idle 3 min)")
    assert browser.axe() == []
    browser.keys(Keys.ENTER)
    browser.hover(".model-choice input", "llama-3.3-70b evicts")
    browser.choose("Model", "bge-m3")
    browser.gone("[role=tooltip]")


def test_a_swap_is_explained_from_each_place_that_tells_of_it(browser: Any, fake: Any) -> None:
    last = fake.get("/api/swaps")["swaps"][-1]
    said = fake.get(f"/api/swaps/{last['id']}")["sentences"]
    why = f"button[aria-label='Why? Swap {last['id']}']"
    for page, where in (
        ("home", "[aria-label=Now]"),
        (f"models/{last['target']}", "[aria-label=State]"),
        ("timeline", "[aria-label=Swaps]"),
    ):
        browser.visit(fake.base, page)
        if page == "timeline":
            browser.press("1 h")
        browser.click(f"{where} {why}")
        browser.find("dialog", *said)
        assert browser.axe() == []
    browser.theme("dark")
    assert browser.axe("color-contrast") == []
    browser.size(375, 812)
    browser.fits()
    browser.click("dialog a", "Show on the timeline")
    browser.gone("dialog")
    browser.becomes("return location.hash.includes('span=15')", True)


def test_a_request_that_waits_or_waited_is_explained(browser: Any, fake: Any) -> None:
    browser.visit(fake.base, "activity")
    browser.press("Why? Request 7f3a-92")
    browser.find(
        "dialog", "waits for gpt-oss-120b, at place 2 in its queue",
        "gpt-oss-120b is being loaded", "qwen3-coder is serving 1 request for 12 s",
    )  # fmt: skip
    browser.press("Close", "dialog")
    record = next(each for each in fake.get("/api/activity")["records"] if each["load_ms"])
    browser.driver.get(f"{fake.base}/ui/#/activity?request={record['id']}")
    browser.press(f"Why? Request {record['id'] + 1}")
    browser.find("dialog", f"for {record['model_id']} to load")
    browser.press("Close", "dialog")
    browser.go("home")
    browser.press("Why? gpt-oss-120b")
    browser.find("dialog", "gpt-oss-120b is being loaded")


def last_swap(server: servers.Server, target: str) -> int:
    """The number of the last swap, once it is recorded and brought *target*."""
    last = lambda: {"target": "", **dict(*server.get("/api/swaps")["swaps"][-1:])}  # noqa: E731
    servers.until(lambda: last()["target"] == target)
    return int(last()["id"])


def test_a_real_swap_is_foretold_and_explained(browser: Any, server: Any) -> None:
    server.post("/api/models/unload")
    server.ask("alpha")
    browser.visit(server.base, "models/beta")
    browser.find("[data-detail=beta] .load-plan", "evicts alpha (idle ")
    server.post("/api/models/unload")
    browser.find("[data-detail=beta] .load-plan", "nothing has to leave")
    server.ask("alpha")
    browser.find("[data-detail=beta] .load-plan", "evicts alpha (idle ")
    browser.press("Load beta")
    browser.find("[data-detail=beta] [data-state=ready]")
    browser.gone("[data-detail=beta] .load-plan")
    browser.press(f"Why? Swap {last_swap(server, 'beta')}")
    browser.find("dialog", "Evicted: alpha (stopped).", "Why: beta is in group (default)")


BUDGET = """\
startPort: {port}
memory: {{gpu0: {{reserve: 1GiB}}}}
models:
  small: {{cmd: "{python} -m llmsnap.simulator --port ${{PORT}} --memory gpu0=6GiB",
    memory: {{gpu0: 4GiB}}}}
  liar: {{cmd: "{python} -m llmsnap.simulator --port ${{PORT}} --memory gpu0=30GiB",
    memory: {{gpu0: 5GiB}}}}
  large: {{cmd: "{python} -m llmsnap.simulator --port ${{PORT}}", memory: {{gpu0: 12GiB}}}}
"""


@pytest.fixture(scope="module")
def budget(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    """A real server with a pretend card of 16 GiB."""
    folder = tmp_path_factory.mktemp("budget")
    devices = folder / "devices.json"
    devices.write_text(json.dumps({"gpu0": {"capacity": 16 << 30}}))
    text = BUDGET.format(port=free_ports(10), python=sys.executable)
    with servers.serving(folder, text, {"LLMSNAP_DEVICES": f"file:{devices}"}) as server:
        yield server
        browser.leave()


def test_what_is_measured_reaches_the_open_page(browser: Any, budget: Any) -> None:
    browser.visit(budget.base, "models")
    browser.find("[data-device=gpu0] .row", "15 GiB of 16 GiB free")
    browser.find("[data-model=small] .chip", "needs 4 GiB on gpu0, declared")
    browser.press("Load small")
    browser.find("[data-model=small] [data-state=ready]")
    browser.find("[data-device=gpu0] .part-of-device[title='small 6 GiB, measured now']")
    browser.hover("button[aria-label='Load large']", "evicts small (")
    browser.press("Load large")
    browser.find("[data-model=large] [data-state=ready]")
    browser.find("[data-device=gpu0] .device-part", "12 GiB")
    browser.driver.get(f"{budget.base}/ui/#/models/large")
    browser.press(f"Why? Swap {last_swap(budget, 'large')}")
    browser.find("dialog", "large needs 12.0 GiB of gpu0")
    browser.find("dialog .held-change", "before")


def test_a_load_that_runs_out_of_memory_says_what_it_needed(browser: Any, budget: Any) -> None:
    budget.post("/api/models/unload")
    browser.visit(budget.base, "models")
    browser.press("Load liar")
    browser.find(
        "[data-model=liar] .failure", "Out of memory",
        "it needs 5.5 GiB on gpu0, where 15.0 GiB was free", "It is taken to need",
    )  # fmt: skip
