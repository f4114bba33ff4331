# Two images of one file:
#   docker build --target serve -t inkfold-serve .        an exported model and its page; no PyTorch; about 500 MB
#   docker build --target train -t inkfold-train .        all commands; --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 for CUDA
#
#   docker run --rm -p 8000:8000 --read-only --tmpfs /tmp -v "$PWD/model.onnx:/model.onnx:ro" -e INKFOLD_TOKEN=... inkfold-serve
#   docker run --rm -v "$PWD:/work" -v inkfold-cache:/cache inkfold-train train auto data=drawings out=runs/auto budget=10m
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS wheel
WORKDIR /src
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY src src
RUN pip install --no-cache-dir build==1.6.1 && python -m build --wheel --outdir /dist

FROM python:${PYTHON}-slim AS base
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 INKFOLD_HOME=/cache
RUN useradd --uid 10001 --create-home inkfold && mkdir /cache && chown inkfold /cache
COPY constraints.txt /constraints.txt
COPY --from=wheel /dist /dist

FROM base AS serve
COPY docker/serve.txt /serve.txt
RUN pip install -c /constraints.txt -r /serve.txt && pip install --no-deps /dist/*.whl \
    && pip uninstall --yes pip && rm -rf /dist
USER 10001
ENV INKFOLD_HOME=/tmp/inkfold
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=3s --start-period=10s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
ENTRYPOINT ["inkfold", "serve"]
CMD ["/model.onnx", "--host", "0.0.0.0"]

FROM base AS train
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install -c /constraints.txt --extra-index-url "${TORCH_INDEX}" torch torchvision \
    && pip install -c /constraints.txt "$(echo /dist/*.whl)[all]" && rm -rf /dist
USER 10001
VOLUME /cache
WORKDIR /work
ENTRYPOINT ["inkfold"]
CMD ["--help"]
