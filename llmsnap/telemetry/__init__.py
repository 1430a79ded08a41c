"""Measured data: events, records, captures, metrics and samples.

Read ``events`` first: the events, and the bus that delivers them to subscribers. Then follow one
request: ``recorder`` gives it an ``observer``, which observes the response; at its end ``usage``
finds the token counts, and the recorder files the ``record`` in ``activity`` and the
capture in ``captures``. ``store`` keeps records in SQLite, ``prometheus`` counts them for
``/metrics``, ``exposition`` merges those of model servers, ``sampling`` watches host and GPUs,
``hardware`` detects them. ``telemetry`` owns all of these; ``workers`` are threads for calls that
block. ``store`` is loaded where one is configured.
"""

from llmsnap.telemetry.activity import (
    SCHEMA_VERSION,
    ActivityLog,
    Filter,
    Order,
    Page,
    activity_export,
    activity_object,
    is_metric,
    metric_object,
    named_metric_object,
    percentile,
    rfc3339,
    row_object,
    statistics,
    swap_object,
    usage_statistics,
)
from llmsnap.telemetry.captures import (
    Capture,
    CapturedBody,
    Captures,
    capture_curl,
    capture_har,
    capture_object,
    redact_headers,
)
from llmsnap.telemetry.events import (
    ActivityRecorded,
    ConfigReload,
    Event,
    EventBus,
    EventSubscription,
    FilesRead,
    MemoryChanged,
    ModelPreloaded,
    ModelRestarted,
    ProcessStateChanged,
    ProfileChanged,
    PromptsKept,
    ReloadPhase,
    RequestStarted,
    SwapFinished,
    SwapStarted,
)
from llmsnap.telemetry.exposition import merge
from llmsnap.telemetry.hardware import Hardware, HardwareProbe
from llmsnap.telemetry.observer import ResponseObserver, header, milliseconds
from llmsnap.telemetry.prometheus import Gauges, ModelGauges
from llmsnap.telemetry.record import ActivityRecord, in_flight_object
from llmsnap.telemetry.recorder import Recorder
from llmsnap.telemetry.sampling import (
    GpuSample,
    HostDetails,
    HostSample,
    NetworkCounters,
    PerformanceSample,
    ProcessSample,
    Source,
    llama_swap_samples,
)
from llmsnap.telemetry.telemetry import Telemetry, store_file
from llmsnap.telemetry.usage import CannotDecode, decoder_for, extract
from llmsnap.telemetry.workers import WorkerStuck, WorkerThread

__all__ = [
    "SCHEMA_VERSION",
    "ActivityLog",
    "ActivityRecord",
    "ActivityRecorded",
    "CannotDecode",
    "Capture",
    "CapturedBody",
    "Captures",
    "ConfigReload",
    "Event",
    "EventBus",
    "EventSubscription",
    "FilesRead",
    "Filter",
    "Gauges",
    "GpuSample",
    "Hardware",
    "HardwareProbe",
    "HostDetails",
    "HostSample",
    "MemoryChanged",
    "ModelGauges",
    "ModelPreloaded",
    "ModelRestarted",
    "NetworkCounters",
    "Order",
    "Page",
    "PerformanceSample",
    "ProcessSample",
    "ProcessStateChanged",
    "ProfileChanged",
    "PromptsKept",
    "Recorder",
    "ReloadPhase",
    "RequestStarted",
    "ResponseObserver",
    "Source",
    "SwapFinished",
    "SwapStarted",
    "Telemetry",
    "WorkerStuck",
    "WorkerThread",
    "activity_export",
    "activity_object",
    "capture_curl",
    "capture_har",
    "capture_object",
    "decoder_for",
    "extract",
    "header",
    "in_flight_object",
    "is_metric",
    "llama_swap_samples",
    "merge",
    "metric_object",
    "milliseconds",
    "named_metric_object",
    "percentile",
    "redact_headers",
    "rfc3339",
    "row_object",
    "statistics",
    "store_file",
    "swap_object",
    "usage_statistics",
]
