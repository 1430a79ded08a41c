"""What ``sendLoadingState`` shows in the reasoning of a chat while the model loads."""

from __future__ import annotations

import json
import random
import time

RULE = "\u2501" * 5 + "\n"
FIRST_REMARK_S = (2, 5)
NEXT_REMARK_S = (5, 9)

REMARKS = (
    "Waking the tensors gently...",
    "Counting parameters, lost count, starting over...",
    "Moving weights. Lifting with the legs...",
    "Asking the GPU nicely...",
    "Warming up the matrix multipliers...",
    "Persuading the other model to give up its seat...",
    "Unrolling the attention, it was kinked...",
    "Dusting off the embeddings...",
    "Teaching zeros and ones to queue...",
    "Filling the cache with optimism...",
    "Reading the manual of the previous owner...",
    "Polishing the softmax until it shines...",
    "Sorting the vocabulary, currently at 'aardvark'...",
    "Checking that two plus two still makes four...",
    "Stretching before the long context...",
    "Negotiating with the memory allocator...",
    "Looking for the layer that fell off...",
    "Untangling the residual connections...",
    "Feeding the bits that were good today...",
    "Rehearsing the first token...",
    "Blowing gently on the heat sink...",
    "Turning the fans up to eleven...",
    "Borrowing a few gigabytes from the future...",
    "Aligning things that were nearly aligned...",
    "Quantizing the small talk...",
    "Making room on the bus for more floats...",
    "Practising confident sentences...",
    "Loading the part that knows about cheese...",
    "Normalizing expectations...",
    "Shuffling pages, like a very large deck...",
    "Watering the decision trees next door...",
    "Consulting the scheduler, who is being fair...",
    "Inflating the hidden states...",
    "Picking the best of several temperatures...",
    "Dividing by something that is surely not zero...",
    "Letting the weights settle like good tea...",
    "Drawing the curtains so the model can wake slowly...",
    "Explaining to the disk that it is in the way...",
    "Winding the positional encodings...",
    "Gathering the heads, all of them attentive...",
    "Knocking on VRAM's door...",
    "Translating patience into progress...",
    "Tightening a loose bias...",
    "Ironing the logits...",
    "Remembering where the spare kernel was...",
    "Oiling the feed-forward...",
    "Tasting the prompt from a safe distance...",
    "Bringing the experts to the same room...",
    "Reminding the model who it is...",
    "Peeling another layer...",
    "Copying carefully, then checking the copy...",
    "Switching on one billion very small lamps...",
    "Waiting for the slowest byte, as one should...",
    "Hanging the activations out to dry...",
    "Setting the table for the first batch...",
    "Checking under the page table...",
    "Tuning the strings of the tokenizer...",
    "Carrying the last shard up the stairs...",
    "Almost done, for some value of almost...",
    "Composing an apology for the wait...",
)


class LoadingState:
    """Full chat completion chunks whose delta is reasoning: a title, dots, remarks, an end."""

    every_s = 1.0

    def __init__(self, model_id: str, request_id: str, chance: random.Random) -> None:
        self._model_id = model_id
        self._request_id = request_id
        self._chance = chance
        self._remarks = chance.sample(REMARKS, len(REMARKS))
        self._shown = 0
        self._due_s: float = chance.randint(*FIRST_REMARK_S)
        self._position: int | None = None

    def first(self) -> bytes:
        """Return the title."""
        title = f"llmsnap loading model: {self._model_id}\n"
        return self._frame(RULE, role="assistant") + self._frame(title)

    def tick(self, waited_s: float, position: int | None) -> bytes:
        """Return a dot, a remark that is due, or the news of another place in the queue."""
        if position and position > 1 and position != self._position:
            self._position = position
            return self._frame(f"\nplace {position} in the queue\n")
        if waited_s < self._due_s:
            return self._frame(".")
        remark = self._remarks[self._shown % len(self._remarks)]
        self._shown += 1
        self._due_s = waited_s + self._chance.randint(*NEXT_REMARK_S)
        return self._frame(f"\n{remark}\n")

    def end(self, waited_s: float, error: str) -> bytes:
        """Return the closing frames, with what went wrong if something did."""
        trouble = self._frame(f"\nUnable to swap model err: {error}\n") if error else b""
        done = b"" if error else self._frame(f"\nDone! ({waited_s:.2f}s)\n")
        return trouble + done + self._frame(RULE) + self._frame(" \n")

    def _frame(self, text: str, **delta: str) -> bytes:
        chunk = {
            "id": f"chatcmpl-{self._request_id}",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": self._model_id,
            "choices": [
                {"index": 0, "delta": {**delta, "reasoning_content": text}, "finish_reason": None}
            ],
        }
        return b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n"
