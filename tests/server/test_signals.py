import os
import signal

import pytest
from gevent.event import AsyncResult

from llmsnap.server.signals import stop_signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_asks_and_the_second_does_not(number: int) -> None:
    killed: list[str] = []
    left: AsyncResult[int] = AsyncResult()
    with stop_signals(lambda: killed.append("all"), left.set) as asked:
        os.kill(os.getpid(), number)
        assert asked.wait(2)
        assert not killed
        os.kill(os.getpid(), number)
        assert left.get(timeout=2) == 1
        assert killed == ["all"]
