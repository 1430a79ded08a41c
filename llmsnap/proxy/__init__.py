"""Forwards requests to models and peers, and returns their responses.

Read it in the order in which a request is processed; each line is a call:

1. ``Dispatcher.handle(context, config)`` (``dispatch``): the entry point.
2. ``parse_request`` (``payload``): reads the body within its ``BodyShare`` (``request``), finds the
   model's name in JSON (``jsonbody``), a form (``multipart``) or the query.
3. ``Names.resolve`` and ``Ticket`` (``routing``): which model, and when.
4. ``Payload.adapt`` (``payload``): filters and the upstream's name for the model.
5. ``Exchange.send`` (``client``): a connection of the ``pool``, the request, the head of the
   response, which ``parser`` parses.
   While the model loads or is silent, ``LoadingStream`` (``loading``) keeps a stream alive.
6. ``ProxyStream`` (``stream``): each chunk of the response; for a WebSocket ``Tunnel``
   (``tunnel``). A WebSocket whose first message names the model is accepted before step 2
   (``websocket``).
7. ``RequestContext.close`` (``context``): releases lease, connection and memory, and files the
   record.

``ClientMonitor`` (``disconnect``) interrupts the context when the client disconnects.
"""

from llmsnap.proxy.client import Exchange, UpstreamRequest, UpstreamTimeouts
from llmsnap.proxy.context import RequestContext
from llmsnap.proxy.disconnect import ClientMonitor, ClientWatch, OnDisconnect, is_closed, new_watch
from llmsnap.proxy.dispatch import Dispatcher
from llmsnap.proxy.jsonbody import CompiledFilter
from llmsnap.proxy.loading import LoadingStream
from llmsnap.proxy.payload import read_body
from llmsnap.proxy.pool import ConnectionPool
from llmsnap.proxy.request import (
    BodyBudget,
    BodyShare,
    Request,
    RequestConfig,
    Response,
    UpstreamSettings,
)
from llmsnap.proxy.stream import ProxyStream
from llmsnap.proxy.tunnel import Tunnel
from llmsnap.proxy.websocket import AcceptedWebSocket

__all__ = [
    "AcceptedWebSocket",
    "BodyBudget",
    "BodyShare",
    "ClientMonitor",
    "ClientWatch",
    "CompiledFilter",
    "ConnectionPool",
    "Dispatcher",
    "Exchange",
    "LoadingStream",
    "OnDisconnect",
    "ProxyStream",
    "Request",
    "RequestConfig",
    "RequestContext",
    "Response",
    "Tunnel",
    "UpstreamRequest",
    "UpstreamSettings",
    "UpstreamTimeouts",
    "is_closed",
    "new_watch",
    "read_body",
]
