"""The mark of tests that prove a row of the compatibility table in docs/migrating.md."""

import pytest

# In the order of the table.
SECTIONS = (
    "Swap matrix",
    "Selectors",
    "Profiles",
    "Priorities",
    "Capabilities and model records",
    "Peers",
    "ComfyUI",
    "Audio tasks",
    "`upstream.ignorePaths`",
    "`compat.ignoreWebsockets`",
    "`-config-dir`",
    "`-validate`",
    "Reload",
    "Macros",
    "`setParamsByID`",
    "TTL and unload",
    "Timeouts",
    "Store and activity",
    "Performance",
    "Hardware",
    "Requests in flight",
    "Event stream",
    "`/props`",
    "vllm-wrapper",
    "Checks at load",
    "Order of names",
    "Errors and keys",
    "Newer keys",
    "Files and deployments",
)


def parity(section: str, feature: str, here: str = "the same") -> pytest.MarkDecorator:
    """Mark a test as proof of a row: *feature* of llama-swap, and what llmsnap does.

    `make docs` reads the marks from the source, so both texts are literals. Tests with equal
    texts prove the same row.
    """
    return pytest.mark.parity(section, feature, here)
