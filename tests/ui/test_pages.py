"""Every page, wide and narrow, light and dark: it opens, fits, is accessible and quiet."""

from typing import Any

import pytest
from selenium.webdriver.common.keys import Keys

from llmsnap.web import ui
from tests.parity import parity
from tests.ui.made_up import LONG, MANY
from tests.ui.servers import until

pytestmark = pytest.mark.e2e

PAGES = [*(page["id"] for page in ui.pages()), "models/gpt-oss-120b"]
TITLE = "return document.title"
COLOURS = ["color-contrast", "link-in-text-block"]  # all that a theme changes
each_page = pytest.mark.parametrize("page", PAGES)

OUT_OF_REACH = """
    return [...document.querySelectorAll("a[href], button, input, select, textarea")]
      .filter((each) => each.offsetParent && !each.disabled && each.tabIndex < 0)
      .filter((each) => each.getAttribute("role") !== "tab").map((each) => each.outerHTML)
"""
SMALL = """
    return [...document.querySelectorAll(
        "button, select, input, textarea, summary, label.check, a.btn, nav a, [role=tab]")]
      .filter((each) => each.checkVisibility({ visibilityProperty: true }) && !each.disabled)
      .filter((each) => !each.matches("label input, .skip"))
      .map((each) => [each.outerHTML.slice(0, 120), each.getBoundingClientRect()])
      .filter(([, { width, height }]) => width > 0 && (width < 44 || height < 44))
      .map(([what, { width, height }]) => `${what}: ${width} x ${height}`)
"""


@each_page
def test_a_page_fits_and_is_accessible_on_any_screen_in_both_themes(
    browser: Any, fake: Any, page: str
) -> None:
    browser.visit(fake.base, page)
    assert browser.read("main h1").lower() == page.rpartition("/")[2]
    browser.find(".connection", "Live")
    assert browser.axe() == []
    assert browser.run(OUT_OF_REACH) == []
    browser.theme("dark")
    assert browser.axe(*COLOURS) == []
    browser.fits((768, 1024), (375, 812))
    browser.find("header.top")
    assert browser.axe() == []
    browser.size(375, 812, touch=True)
    browser.becomes(SMALL, [])
    browser.press("Pages")
    browser.becomes(SMALL, [])


def test_a_page_of_an_older_server_asks_to_be_loaded_again(browser: Any, fake: Any) -> None:
    browser.visit(fake.base)
    fake.set(version="1.5.0")
    browser.run("dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
    browser.find(".banner", "The server has a new version.")
    browser.click(".banner a")
    browser.gone(".banner")
    browser.find(".connection", "1.5.0")


def test_a_browser_that_is_too_old_is_told_so(browser: Any, fake: Any) -> None:
    with browser.each_page("delete Map.groupBy"):
        browser.open(fake.base, "home", ready=".too-old")
        browser.find(".too-old", "This browser is too old")
        assert browser.all("#app *") == []


def test_profiles_and_selectors_are_offered(browser: Any, fake: Any) -> None:
    for text, value in (("work", "work"), ("No profile", "")):
        browser.visit(fake.base, "playground")
        browser.choose("Profile", text)
        browser.choose("Model", "whoever")
        until(lambda value=value: (fake.get("/fake/profile") or "") == value)
        browser.visit(fake.base, "logs")
        browser.becomes("return document.querySelector('.side-foot select')?.value", value)


@parity("Files and deployments", "until a configuration is mounted, a banner says so")
def test_a_banner_says_that_answers_are_simulated(browser: Any, fake: Any) -> None:
    fake.set(only_simulated=True)
    browser.visit(fake.base)
    browser.find(".banner", "Answers are simulated: the configuration /etc/llmsnap.yaml")
    assert browser.axe() == []


def test_the_menu_of_a_phone_opens_closes_and_leads_on(browser: Any, fake: Any) -> None:
    browser.visit(fake.base)
    browser.size(375, 812)
    browser.press("Pages")
    browser.click("nav.side.open a", "Logs")
    browser.find("[data-page=logs] h1")
    browser.gone("nav.side")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_chosen_colours_win_over_the_system_and_are_remembered(
    browser: Any, fake: Any, theme: str
) -> None:
    browser.visit(fake.base)
    browser.theme({"light": "dark", "dark": "light"}[theme])
    browser.press(f"{theme} colours")
    background = "return getComputedStyle(document.body).backgroundColor"
    wanted = {"light": "rgb(246, 246, 248)", "dark": "rgb(20, 20, 23)"}[theme]
    browser.becomes(background, wanted)
    browser.reload()
    assert browser.run(background) == wanted


def test_the_title_is_cut_trimmed_and_kept(browser: Any, fake: Any) -> None:
    browser.visit(fake.base)
    for typed, kept in (("  " + "x" * 90 + "  ", "x" * 64), (" ", "llmsnap")):
        browser.press("Edit the title")
        browser.fill("input.brand-title", typed)
        browser.click("main h1")
        browser.becomes(TITLE, f"🟢 Playground · {kept}")


def test_old_addresses_lead_to_their_page(browser: Any, fake: Any) -> None:
    browser.visit(fake.base)
    browser.driver.get(fake.base + "/ui/logs")
    browser.find("[data-page=logs] h1")
    for unknown in ("#/nothing-like-this", "#/models%", "#/%E0%A4%A"):
        browser.go("logs")
        browser.driver.get(fake.base + "/ui/" + unknown)
        browser.find("[data-page=home] h1")


def test_the_address_keeps_what_is_shown_and_the_title_names_it(browser: Any, fake: Any) -> None:
    browser.visit(fake.base, "activity")
    browser.choose("Outcome", "Failed")
    browser.choose("Model", "bge-m3")
    browser.press("Duration")
    at = "return location.hash"
    wanted = {"model=bge-m3", "status=error", "sort=-duration_ms"}
    kept = lambda: set(browser.run(at).partition("?")[2].split("&"))  # noqa: E731
    browser.wait(lambda: kept() == wanted, f"{wanted} in the address")
    browser.reload()
    browser.find(".filter-chip", "Filter: bge-m3")
    browser.find("th[aria-sort=descending]", "Duration")
    browser.press("Remove the filter bge-m3")
    browser.wait(lambda: "model=" not in browser.run(at), "the filter to leave the address")
    browser.click("nav a", "Logs")
    browser.press("Filter lines", "[aria-label=Models]")
    browser.fill("[aria-label=Models] .log-filter input", "slot")
    browser.becomes(TITLE, "🟢 Logs · llmsnap")
    left = browser.wait(lambda: "upstream.filter=slot" in browser.run(at) and browser.run(at))
    browser.click("nav a", "Activity")
    browser.find(".filter-chip", "Filter: Failed")
    browser.click("nav a", "Logs")
    browser.becomes(at, left)
    browser.driver.get(fake.base + "/ui/#/models/bge-m3")
    browser.find("h1", "bge-m3")
    browser.find(".facts", "farm, 10.0.0.7")
    browser.becomes(TITLE, "🟢 bge-m3 · Models · llmsnap")


@pytest.mark.parametrize("page", ["models", "activity", "timeline", "logs", "models/family-7"])
def test_two_hundred_models_and_long_ids_fit(browser: Any, fake: Any, page: str) -> None:
    fake.post("/fake/models/many")
    browser.visit(fake.base, page)
    browser.fits((1280, 720), (375, 812))


def counted(name: str) -> tuple[str, int]:
    """The key by which people sort names that end with a number."""
    word, _, number = name.rpartition("-")
    return word, int(number)


def test_many_models_are_sorted_and_folded(browser: Any, fake: Any) -> None:
    fake.post("/fake/models/many")
    browser.visit(fake.base, "models")
    families = sorted((each["id"] for each in MANY if each["id"] != LONG), key=counted)
    names = "return [...document.querySelectorAll('[data-model]')].map((e) => e.dataset.model)"
    browser.becomes(names, [LONG, *families])  # what is loaded is first
    beside = """
        const [name, state] = [".model-name .name", ".model-state"].map((each) =>
          document.querySelector(`[data-model] ${each}`).getBoundingClientRect());
        return name.right <= state.left;
    """
    browser.becomes(beside, True)
    browser.press("Fold Models")
    browser.count("[data-model]", 1)
    browser.press("Show Models")
    browser.click(f"[data-model='{LONG}'] a.name")
    browser.find("h1", LONG)
    browser.fits()


def test_the_hardware_is_shown_and_what_is_unknown_has_no_number(browser: Any, fake: Any) -> None:
    browser.visit(fake.base, "hardware")
    browser.find("[aria-label='Accelerator 0'] dd", "24.0 GiB")
    browser.find("[aria-label='System'] dd", "Container (docker)")
    second = browser.read("[aria-label='Accelerator 1'] dl", "Intel", "shared with the host")
    assert "0 W" not in second


def test_advice_on_the_configuration_leads_to_its_line(browser: Any, fake: Any) -> None:
    browser.visit(fake.base, "home")
    browser.find("nav .count.bad", "2 errors")
    browser.run("""
        const [real, held] = [fetch, new Promise((done) => { window.release = done; })];
        window.fetch = async (path, ...more) => {
          if (path.endsWith("/config/file")) await held;
          return real(path, ...more);
        };
    """)
    browser.go("config")
    browser.find("[aria-label='Advice'] li", "concurencyLimit")
    browser.click("[aria-label='Advice'] a", "line 9")
    assert not browser.all(".config-text, .empty"), "the file may come late"
    browser.run("release()")
    browser.becomes("return document.activeElement.id", "config-line-9")


def test_the_start_page_says_how_to_connect_what_is_loaded_and_on_what(
    browser: Any, fake: Any
) -> None:
    browser.visit(fake.base, "home")
    browser.find("[aria-label=Now] [data-home-model] [data-state=ready]")
    browser.find("[aria-label=Devices] .device", "GiB")
    browser.find("[aria-label=Configuration]", "/etc/llmsnap.yaml")
    browser.choose("Model in the example", "bge-reranker")
    for program, words in {
        "curl": "/v1/chat/completions",
        "OpenAI SDK": f'base_url="{fake.base}/v1"',
        "Anthropic SDK": f'base_url="{fake.base}"',
        "Open WebUI": "OPENAI_API_BASE_URL",
        "Claude Code": f"ANTHROPIC_BASE_URL={fake.base}",
        "Continue": "apiBase",
    }.items():
        browser.press(program)
        text = browser.read("#snippet pre", words)
        assert ("bge-reranker" in text) == (program != "Open WebUI")
    browser.click("[data-home-model=bge-m3] a")
    browser.find("[data-detail=bge-m3] h1", "bge-m3")
    browser.go("home")
    fake.post("/fake/models/none")
    browser.find(".empty h2", "No models configured")
    assert browser.axe() == []
    fake.post("/fake/models/all")
    browser.gone(".empty")


def test_everything_is_reached_with_keys(browser: Any, fake: Any) -> None:
    browser.visit(fake.base, "home")
    keys = browser.keys
    focused = "return document.activeElement.dataset.page || document.activeElement.className"
    # Again where the second key came too late for the first.
    browser.wait(lambda: keys("gm") or browser.all("[data-page=models] h1"), "the page")
    browser.becomes(focused, "models")
    keys("/")
    search = "return document.activeElement.type"
    browser.becomes(search, "search")
    keys("g?")
    browser.becomes("return document.activeElement.value", "g?")
    browser.control("k")
    browser.fill("dialog input", "log reranker")
    browser.find(".palette [aria-selected=true]", "Log of bge-reranker")
    assert browser.axe() == []
    keys(Keys.ENTER)
    browser.gone("dialog")
    browser.becomes("return location.hash.includes('log=bge-reranker')", True)
    browser.run("document.activeElement.blur()")
    keys("?")
    browser.find("dialog dd", "Timeline")
    keys(Keys.ESCAPE)
    browser.gone("dialog")
    browser.reload()
    keys(Keys.TAB)
    browser.becomes(focused, "skip btn")
    keys(Keys.ENTER)
    browser.becomes(focused, "models")


def test_the_charts_have_a_colour_for_each_model_and_a_range(browser: Any, fake: Any) -> None:
    browser.visit(fake.base, "performance")
    colours = """
        return [...document.querySelectorAll(".chart")].flatMap((chart) =>
          [...chart.querySelectorAll("li")].map((each) => [each.textContent.split(" ")[0],
            getComputedStyle(each.firstElementChild).backgroundColor]));
    """
    browser.count(".chart canvas", 10)
    browser.find(".chart-legend", "qwen3-30b-a3b")
    browser.find(".chart h2", "Generated tokens/s")
    browser.find(".chart h2", "Waiting requests")
    found = {tuple(each) for each in browser.run(colours) if each[0].startswith(("qwen", "bge"))}
    assert len(found) == len({name for name, _ in found}) == len({colour for _, colour in found})
    browser.wait(lambda: "now" in browser.read(".plot", of="aria-label"), "an axis until now")
    browser.press("5 min")
    browser.reload()
    browser.find("button[aria-pressed=true]", "5 min")


def test_a_file_dropped_beside_a_field_leaves_the_page(browser: Any, fake: Any) -> None:
    browser.visit(fake.base, "home")
    drop = "return document.body.dispatchEvent(new DragEvent('drop', arguments[0]))"
    assert browser.run(drop, {"cancelable": True, "bubbles": True}) is False
