"""An inference server without a model, to try a configuration and to test proxies.

``llmsnap sim --port 9000`` (or ``python -m llmsnap.simulator``) serves at once, on any machine, and
is deterministic: equal requests get equal responses. ``--help`` lists the options: the durations of
loading, prompt processing, sleep and wake, the memory it holds, and simulated faults.

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
    WebSocket   /v1/responses, /v1/realtime and /ws send each message back
    probes      /echo, /redirect?to=, /status/<code>, /slow-respond?echo=&delay=, /test, /env, /
    itself      GET /sim/state, GET /sim/requests (the last 100), POST /sim/options

A model calls a tool when the last message names it or contains the word "tool", or when
`tool_choice` requires it. Text responses quote the last message of the user.

Options of a single request, in its JSON body or its query (the query takes precedence)
    sim_tokens       length of the answer                   sim_tps      tokens per second
    sim_prompt_time  seconds before the first token         sim_delay    seconds before anything
    sim_cached       prompt tokens reported as cached       sim_status   answer with this error
    sim_reasoning    send reasoning first                   sim_echo     add the request as received
    sim_break        drop the connection after N chunks     sim_encoding gzip, deflate, raw-deflate
    sim_whole        answer in one piece, whatever `stream` says
    timings          llama-server's `timings`, as with --timings or `timings_per_token`
With `--slot-save-path` it keeps the prompts of `--slots` requests, and saves and restores them.
`stream=true` and `wait=100ms` work as query parameters as well. Transcriptions and images take
`stream`, images `partial_images` (3 at most), and speech `stream_format: sse`, as OpenAI has them.

POST /sim/options accepts the options that --help lists under speed and faults of requests, by the
names in `options.CHANGEABLE` (`{"fail_wake": true}`), so that a test can change a running server.

This package imports nothing else of llmsnap and depends only on the standard library and gevent.
"""
