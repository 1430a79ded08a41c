from itertools import product
from urllib.parse import urljoin

from llmsnap.http import paths

MEANT = {
    "//": "/",
    "/health/": "/health",
    "//v1//models//": "/v1/models",
    "/upstream/": "/upstream",
    "/upstream/a//b/": "/upstream/a//b/",
    "//upstream/a/": "/upstream/a/",
    "/ui/": "/ui/",
    "/api/models/unload/": "/api/models/unload/",
    "//v1//v1/messages/": "/v1/messages",
    "/v1/v1/v1/models": "/v1/models",
    "/v1/v1": "/v1",
    "/v1/v1beta/x": "/v1/v1beta/x",
    "/v1/v11": "/v1/v11",
    "/v1/models/v1/v1": "/v1/models/v1/v1",
    "/upstream/m/v1/v1/messages": "/upstream/m/v1/v1/messages",
}


def test_what_a_base_url_left_behind_does_not_matter() -> None:
    assert {path: paths.normalized_path(path) for path in MEANT} == MEANT


REQUESTED = ["/", "/ui", "/ui/models/", "/upstream/org/model", "/upstream/m/a%2Fb/c?d=/e/f"]
TARGETS = ["/ui/", "/ui/#/models", "/upstream/m/", "/"]


def test_a_relative_reference_leads_to_its_target_below_any_prefix() -> None:
    for requested, target in product(REQUESTED, TARGETS):
        reference = paths.relative_reference(target, requested)
        for base in ("http://host", "http://host/llm", "http://host/a/b"):
            assert urljoin(f"{base}{requested}", reference) == f"{base}{target}"


UP = ["..", "%2e%2e", ".%2E", "%2e.", "%252e%252e", "%25252e.", "%%32%65.", "..;x=1", "..%3Bx",
      "%20..", "..%09", "..%00", "..%00x.js"]  # fmt: skip


def test_a_way_out_is_seen_however_it_is_spelled() -> None:
    ways = ("/{0}", "/{0}/x", "/{0}{1}", "/a/{0}/{0}", "/a{1}{0}{1}{0}{1}b", "//./{0}", "{0}")
    slashes = ("/", "%2f", "%2F", "%252f", "\\", "%5c", "%255C")
    out = [way.format(up, slash) for up, way, slash in product(UP, ways, slashes)]
    assert [path for path in out if not paths.leaves_root(path)] == []


def test_what_only_some_take_for_a_slash_makes_no_way_deeper() -> None:
    deep = ["/a\\b/../../c", "/a%5Cb/../../c", "/a%2Fb\\../../../c"]
    assert [path for path in deep if not paths.leaves_root(path)] == []


INSIDE = [
    *("", "/", "/.", "/./x", "/...", "/a..b/..c/d..", "/%2e", "/..a", "/a%2Fb%20c", "/%252e"),
    *("/%zz", "/echo//a/../b/", "/a/b/%2e%2e/..", "/a\\.."),
]


def test_dots_that_stay_inside_are_fine() -> None:
    assert [path for path in INSIDE if paths.leaves_root(path)] == []


def test_what_is_encoded_without_end_counts_as_a_way_out() -> None:
    assert paths.leaves_root("/%" + "25" * 2000 + "2e")
