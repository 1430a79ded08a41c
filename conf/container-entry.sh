#!/bin/sh
# The container's entry point: finds the configuration that is mounted, and runs llmsnap as PID 1.
# ROOT is a prefix of all paths, for tests.
builtin=$ROOT/config/config.yaml
if [ "$LLMSNAP_CONFIG" = "$builtin" ] && [ -f "$ROOT/app/config.yaml" ]; then
    export LLMSNAP_CONFIG="$ROOT/app/config.yaml" # where llama-swap's images have it
fi
case " $*" in
*" --config"* | *" -config"* | " "[!-]*) ;; # another file, or a command
*)
    if [ -z "$LLMSNAP_CONFIG_DIR" ] && cmp -s "$LLMSNAP_CONFIG" "$ROOT/opt/llmsnap/container.yaml"; then
        echo "[WARN] no configuration is mounted at /app/config.yaml or in /config:" \
            "a simulated model answers" >&2
    fi
    ;;
esac
exec llmsnap "$@"
