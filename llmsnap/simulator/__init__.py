"""An inference server without a model, to try a configuration and to test what stands in front.

``llmsnap sim --port 9000`` (or ``python -m llmsnap.simulator``) serves at once, on any machine, and
says the same thing each time it is asked the same. ``--help`` lists the options: how long it loads,
thinks, sleeps and wakes, how much memory it holds, and the faults it can be told to have.

What it answers
    OpenAI      /v1/chat/completions, /v1/completions, /v1/responses, /v1/embeddings, /v1/models,
                /v1/audio/speech, voices, transcriptions and translations,
                /v1/images/generations and edits, input_tokens of chats and responses
    Anthropic   /v1/messages, /v1/messages/count_tokens
    llama.cpp   /completion, /infill, /props, /health, /tokenize, /detokenize, /apply-template,
                and `/v1/rerank` under its five names
    vLLM        /score, /pooling, /classify, /sleep, /wake_up, /is_sleeping, /collective_rpc,
                /reset_prefix_cache
    Stable Diffusion web UI: /sdapi/v1/txt2img, img2img, loras
    WebSocket   /v1/realtime and /ws send each message back
    probes      /echo, /redirect?to=, /status/<code>, /slow-respond?echo=&delay=, /test, /env, /
    itself      GET /sim/state, GET /sim/requests (the last 100), POST /sim/options

A model calls a tool when the last message names it, or has the word "tool" in it, or when
`tool_choice` demands it. Text answers quote the last message of the user.

What a single request may ask for, in its JSON body or its query (the query wins)
    sim_tokens       length of the answer                   sim_tps      tokens per second
    sim_prompt_time  seconds before the first token         sim_delay    seconds before anything
    sim_cached       prompt tokens told as cached           sim_status   answer with this error
    sim_reasoning    think aloud first                      sim_echo     add the request as it came
    sim_break        drop the connection after N chunks     sim_encoding gzip, deflate, raw-deflate
    sim_whole        answer in one piece, whatever `stream` says
    timings          llama-server's `timings`, as with --timings or `timings_per_token`
`stream=true` and `wait=100ms` work as query parameters as well. Transcriptions and images take
`stream`, images `partial_images` (3 at most), and speech `stream_format: sse`, as OpenAI has them.

POST /sim/options takes what --help lists under speed and under faults of requests, by the names in
`options.CHANGEABLE` (`{"fail_wake": true}`), so that a test can break and mend a running server.

This package imports nothing else of llmsnap and stands on the standard library and gevent alone.
"""
