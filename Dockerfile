# llmsnap together with llama.cpp's server:
#
#   docker build -t llmsnap .                                           CPU
#   docker build -t llmsnap:cuda --build-arg LLAMA_CPP=server-cuda .    NVIDIA
#
# PACKAGES are further packages of the distribution that your commands need, such as docker.io for
# models in containers of their own.
#
# LLAMA_CPP is a tag of ghcr.io/ggml-org/llama.cpp; server-rocm, server-vulkan and server-intel are
# others. These tags move; for reproducible builds, use a digest, as in the default:
#
#   docker buildx imagetools inspect ghcr.io/ggml-org/llama.cpp:server-cuda-b11223
#
# Python packages come from scripts/lock.txt, pinned by hash. Distribution packages are the current
# ones, with security updates.

ARG LLAMA_CPP=server-b11223@sha256:8fdfad183be053cdb72d4b6a5930c3a2475730f932855ee9260193422c2564ed

# hadolint ignore=DL3006
FROM ghcr.io/ggml-org/llama.cpp:${LLAMA_CPP} AS base
ARG PACKAGES=
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends curl python3 python3-venv ${PACKAGES} \
    && rm -rf /var/lib/apt/lists/*

FROM base AS build
WORKDIR /src
COPY scripts/lock.txt scripts/lock.txt
RUN python3 -m venv /opt/llmsnap \
    && /opt/llmsnap/bin/pip install --no-cache-dir --only-binary :all: --require-hashes -r scripts/lock.txt
COPY scripts/build_backend.py scripts/build_backend.py
COPY setup.py pyproject.toml MANIFEST.in README.md LICENSE ./
COPY llmsnap llmsnap
COPY static static
COPY templates templates
COPY conf conf
RUN /opt/llmsnap/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM base
COPY --from=build /opt/llmsnap /opt/llmsnap
COPY conf/container.yaml /config/config.yaml
COPY conf/container.yaml /opt/llmsnap/container.yaml
COPY conf/container-entry.sh /usr/local/bin/llmsnap-container
RUN groupadd --system --gid 10001 llmsnap \
    && useradd --system --uid 10001 --gid 10001 --create-home --home-dir /var/lib/llmsnap llmsnap \
    && install --directory --owner=llmsnap /models

# llama-server is in /app. Models listen inside the container only.
ENV PATH=/opt/llmsnap/bin:/app:$PATH \
    LLMSNAP_CONFIG=/config/config.yaml \
    LLMSNAP_LISTEN=:8080 \
    LLMSNAP_STATE_DIR=/var/lib/llmsnap/state \
    LLAMA_ARG_HOST=127.0.0.1

USER 10001:10001
WORKDIR /models
VOLUME ["/config"]
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s \
    CMD ["curl", "--fail", "--silent", "--output", "/dev/null", "http://127.0.0.1:8080/health"]

# As PID 1, llmsnap reaps orphaned processes of models.
ENTRYPOINT ["llmsnap-container"]
CMD ["--watch-config"]
