"""The one place that patches: import it first in every door, and nowhere else.

Patching is for libraries (requests, urllib3, Flask); our own code names gevent's classes.
"""

import warnings

from gevent import monkey

with warnings.catch_warnings():
    # pytest and gunicorn import ssl before a plugin can run; nothing has opened a context by then.
    warnings.filterwarnings("ignore", category=monkey.MonkeyPatchWarning)
    monkey.patch_all()
