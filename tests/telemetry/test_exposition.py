"""The metrics of model servers on llmsnap's page."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from llmsnap.telemetry.exposition import MOST_LINES, merge
from tests.parity import parity

LLAMA = b"""\
# HELP llamacpp:prompt_tokens_total Number of prompt tokens processed.
# TYPE llamacpp:prompt_tokens_total counter
llamacpp:prompt_tokens_total 42
"""
VLLM = b"""\
# HELP vllm:ttft_seconds Time to first token.
# TYPE vllm:ttft_seconds histogram
vllm:ttft_seconds_bucket{le="0.5",model_name="m, model=\\"x\\""} 1.0
vllm:ttft_seconds_bucket{le="+Inf",model_name="m, model=\\"x\\""} 2.0
vllm:ttft_seconds_sum{model_name="m, model=\\"x\\""} 3e-05
vllm:ttft_seconds_count{model_name="m, model=\\"x\\""} 2.0
# TYPE process_cpu_seconds_total counter
process_cpu_seconds_total 5
"""


@parity(
    "Performance",
    "the models' own metrics are not collected",
    "`GET /metrics?upstream=1` adds them with the label `model`",
)
def test_each_series_is_labelled_and_each_family_is_described_once() -> None:
    page = merge({"a": LLAMA, 'b"\\': LLAMA.replace(b"42", b"7"), "v": VLLM}).decode()
    families = {family.name: family for family in text_string_to_metric_families(page)}
    assert set(families) == {"llamacpp:prompt_tokens", "vllm:ttft_seconds"}
    tokens = families["llamacpp:prompt_tokens"].samples
    assert {one.labels["model"]: one.value for one in tokens} == {"a": 42.0, 'b"\\': 7.0}
    buckets = families["vllm:ttft_seconds"].samples
    assert {one.labels["model"] for one in buckets} == {"v"}
    assert {one.labels["model_name"] for one in buckets} == {'m, model="x"'}
    assert page.count("# TYPE llamacpp:prompt_tokens_total") == 1
    assert page.index("prompt_tokens_total{") < page.index("vllm:ttft_seconds_bucket")


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (
            b'x{model="theirs",a="1",} 2 1700000000000',
            'x{model="m",exported_model="theirs",a="1"} 2',
        ),
        (b"x NaN", 'x{model="m"} NaN'),
        (b"x{} +Inf", 'x{model="m"} +Inf'),
        (b"x{a=1} 2", ""),
        (b'x{a="1} 2', ""),
        (b"x y", ""),
        (b"<html>", ""),
        (b"llmsnap_requests_total 9", ""),
        (b"\xff 1", ""),
        (b"x{" + b'a="1",' * 1000 + b"} 1", ""),
        (b"\n" * MOST_LINES + b"x 1", ""),
    ],
)
def test_what_follows_the_format_is_kept(line: bytes, shown: str) -> None:
    assert merge({"m": line}).decode().strip() == shown
