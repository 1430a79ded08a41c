"""Names, logs, answers and captures that try to be markup stay text."""

from typing import Any

import pytest

from tests.ui.made_up import HOSTILE

pytestmark = pytest.mark.e2e

ATTACKS = [
    HOSTILE,
    '[click](javascript:document.title="broken")',
    "![x](x\" onerror=\"document.title='broken')",
    "<svg onload=document.title='broken'>",
    "```html\n<script>document.title='broken'</script>\n```",
    "$\\href{javascript:document.title='broken'}{x}$",
    "<a href='javascript:void(0)' style='position:fixed;inset:0'>x</a>",
    "<form action=//evil.example><input name=x><button>go</button></form>",
    "<iframe srcdoc='<script>parent.document.title=1</script>'></iframe>",
    '<math><mtext><table><mglyph><style><img src=x onerror="document.title=1">',
]


def assert_unharmed(browser: Any) -> None:
    assert browser.driver.title.endswith(" llmsnap")
    found = browser.run("""
        const bad = [...document.querySelectorAll("script, iframe, object, embed, form, base, img")]
          .filter((each) => !(each.tagName === "SCRIPT" && each.src.startsWith(location.origin)));
        const links = [...document.querySelectorAll("a[href]")]
          .filter((each) => !/^https?:$/.test(each.protocol));
        const handlers = [...document.querySelectorAll("main *")]
          .filter((each) => [...each.attributes].some((one) => one.name.startsWith("on")));
        return [...bad, ...links, ...handlers].map((each) => each.outerHTML);
    """)
    assert found == []


def test_names_and_descriptions_of_models(browser: Any, fake: Any) -> None:
    browser.visit(fake.base, "models")
    browser.press("Name")
    browser.find("[data-model=hostile] .name", "<script>")
    assert_unharmed(browser)


@pytest.mark.parametrize("page", ["logs", "models"])
def test_log_lines(browser: Any, fake: Any, page: str) -> None:
    browser.visit(fake.base, page)
    browser.find(".log-line")
    fake.post("/fake/log", f"{HOSTILE}\n\x1b]0;evil\x07\x1b[31mred\x1b[0m\n".encode())
    browser.find(".log-line", "<script>")
    assert browser.read(".log-line .ansi-red") == "red"
    assert_unharmed(browser)


def test_what_a_model_answers(browser: Any, fake: Any) -> None:
    browser.visit(fake.base)
    browser.choose("Model", "qwen3-30b-a3b")
    for attack in ATTACKS:
        fake.set(answer=f"before {attack} after")
        browser.say("say it")
        browser.find(".message.assistant .prose p", "before")
        browser.button("Regenerate")
        assert_unharmed(browser)
        # Foreign pictures are not requested, and the policy was not even needed to stop it.
        assert browser.console() == [], attack
        browser.press("New chat")
        browser.gone(".message")


def test_a_captured_answer(browser: Any, fake: Any) -> None:
    browser.visit(fake.base, "activity")
    browser.press("View capture 260")
    browser.find(".capture .prose", "<script>")
    assert browser.axe() == []
    assert_unharmed(browser)
    browser.press("Raw", "[aria-label=Answer]")
    browser.find("[aria-label='Response body']", "onerror")
    assert_unharmed(browser)


LINKS = [
    ("[a](https://docs.example/x)", "https://docs.example/x"),
    ("<https://docs.example>", "https://docs.example"),
    ("[a](mailto:x@mail.example)", "mailto:x@mail.example"),
    ("[a](http://{other}/unload)", "http://{other}/unload"),
    ("![a](https://pictures.example/x.png)", "https://pictures.example/x.png"),
    ("[a](/unload)", ""),
    ("[a](unload)", ""),
    ("[a](../../unload)", ""),
    ("[a](#/models)", ""),
    ("[a](?x)", ""),
    ("[a](//evil.example/x)", ""),
    ("[a](\\\\evil.example)", ""),
    ("[a](http://{host}/upstream/a/)", ""),
    ("[a](HTTP://{host}/unload)", ""),
    ("![a](/unload)", ""),
    ("[a](javascript:alert(1))", ""),
    ("[a](data:text/html,x)", ""),
    ("[a](ftp://files.example/x)", ""),
    ("[a](tel:123)", ""),
    ("[a](about:blank)", ""),
]


def test_links_in_answers_lead_to_other_sites_only(browser: Any, fake: Any) -> None:
    browser.visit(fake.base)
    browser.choose("Model", "qwen3-30b-a3b")
    host = fake.base.removeprefix("http://")
    other = f"localhost:{host.rpartition(':')[2]}"
    fill = lambda text: text.format(host=host, other=other)  # noqa: E731
    fake.set(answer="\n\n".join(f"x {fill(text)} y" for text, _ in LINKS))
    browser.say("say it")
    browser.find(".message.assistant .prose p", "x a y")
    browser.button("Regenerate")
    found = browser.run("""
        const href = (each) => each.querySelector("a")?.getAttribute("href") ?? "";
        return [...document.querySelectorAll(".message.assistant .prose p")]
          .map((each) => [each.innerText.trim(), href(each)]);
    """)
    assert [href for _, href in found] == [fill(href) for _, href in LINKS]
    assert all(text.startswith("x ") and text.endswith(" y") for text, _ in found)
