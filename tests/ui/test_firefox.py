"""The pages in Firefox: what its engine does in its own way, chat and timeline above all."""

from collections.abc import Iterator
from typing import Any

import pytest

from llmsnap.web import ui
from tests.ui.firefox import ARROW_LEFT, ENTER

pytestmark = pytest.mark.e2e
OPTIONS = "return document.querySelectorAll('[role=option]').length"


@pytest.fixture(autouse=True)
def clean_console(firefox: Any) -> Iterator[None]:
    yield
    assert firefox.errors() == []


def test_an_answer_streams_and_the_conversation_survives_a_reload(
    firefox: Any, server: Any
) -> None:
    firefox.visit(server.base, "playground")
    firefox.click(".chooser input")
    firefox.find("[role=option]", "beta")
    firefox.type("beta")
    firefox.wait(lambda: firefox.run(OPTIONS) == 1, "one option")
    firefox.type(ENTER)
    firefox.find(".composer-text:enabled")
    firefox.click(".composer-text")
    firefox.type(f"hello from Firefox{ENTER}")
    firefox.find(".message.user", "hello from Firefox")
    firefox.find(".message.assistant .prose", "hello from Firefox")
    firefox.find(".message.assistant .message-tools", "tokens")
    below = """
        const view = document.querySelector(".conversation");
        return view.scrollHeight - view.scrollTop - view.clientHeight
    """
    firefox.wait(lambda: firefox.run(below) < 2, "the end of the answer")
    firefox.reload()
    firefox.find(".message.assistant .prose", "hello from Firefox")


def test_the_timeline_is_drawn_and_leads_on(firefox: Any, fake: Any) -> None:
    firefox.visit(fake.base, "timeline")
    canvas = ".lane-canvas canvas"
    firefox.find(".lane-name", "bge-m3")
    drawn = """
        const canvas = document.querySelector(".lane-canvas canvas");
        const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
        return new Set(new Uint32Array(data.buffer)).size
    """
    firefox.wait(lambda: firefox.run(drawn) > 10, "bars, marks and texts")

    def bar() -> tuple[int, int]:
        """Where the bar of the first lane is."""
        height = firefox.run("return document.querySelector('.lane-canvas canvas').clientHeight")
        return 0, 26 + 34 - height // 2

    tip = "return document.querySelector('.tip')?.innerText.includes('ready')"
    firefox.wait(lambda: firefox.point(canvas, at=bar()) or firefox.run(tip), "the tip of a bar")
    firefox.click(canvas, at=bar())
    firefox.find("[data-detail=bge-m3] h1", "bge-m3")
    firefox.run("location.hash = '#/timeline'")
    focused = "return document.activeElement.dataset.page"  # it moves with the page
    firefox.wait(lambda: firefox.run(focused) == "timeline", "the focus")
    firefox.find(canvas)
    firefox.run("document.querySelector('.lane-canvas canvas').focus()")
    firefox.type(ARROW_LEFT)
    firefox.find(".follow", "Jump to now")


def test_every_page_fits_and_shows_no_error(firefox: Any, fake: Any) -> None:
    firefox.visit(fake.base, "home")
    wide = "return document.documentElement.scrollWidth - innerWidth"
    for width, height in ((1440, 900), (375, 812)):
        firefox.size(width, height)
        for page in ui.pages():
            firefox.run("location.hash = `#/${arguments[0]}`", page["id"])
            firefox.find(f"[data-page={page['id']}] h1")
            firefox.wait(lambda: firefox.run(wide) <= 1, f"{page['id']} to fit {width} px")
