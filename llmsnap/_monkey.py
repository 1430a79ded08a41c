"""The one place that patches: import it first in every door, and nowhere else.

Patching is for libraries (requests, urllib3, Flask); our own code names gevent's classes.
"""

import warnings

from typing import Any

from gevent import events, monkey

with warnings.catch_warnings():
    # pytest and gunicorn import ssl before a plugin can run; nothing has opened a context by then.
    warnings.filterwarnings("ignore", category=monkey.MonkeyPatchWarning)
    # Or gevent would read what every installed package declares, 25 times, to find plugins of
    # its own: a third of the time that our start takes.
    told: Any = events
    everybody, told.notify_and_call_entry_points = told.notify_and_call_entry_points, told.notify
    try:
        monkey.patch_all()
    finally:
        told.notify_and_call_entry_points = everybody
