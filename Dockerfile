# sentiflow with the packages that were tested together: docs/install.md and docs/kubernetes.md.
#   docker build --tag sentiflow .
#   docker run --rm --volume "$PWD:/work" sentiflow sentiflow demo

# A digest pins the image: SECURITY.md, "Dependencies".
ARG PYTHON=python:3.11-slim
FROM $PYTHON AS build
# The build of PyTorch, here for CPUs: one for GPUs is five times as large.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PATH=/opt/sentiflow/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/sentiflow
RUN pip install --no-deps --index-url "$TORCH_INDEX" "torch>=2.6,<2.14"
WORKDIR /build
COPY . .
RUN pip install --constraint constraints.txt ".[s3]"

FROM $PYTHON
# KubeRay's probes need wget.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends wget \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --gid 100 --create-home ray \
    && install --directory --owner 1000 --group 100 /work
COPY --from=build /opt/sentiflow /opt/sentiflow
# The scripts and configs that `ray job submit` and a RayJob run.
COPY --from=build /build/jobs /home/ray/sentiflow/jobs
COPY --from=build /build/configs /home/ray/sentiflow/configs
ENV PATH=/opt/sentiflow/bin:$PATH RAY_USAGE_STATS_ENABLED=0 MLFLOW_DISABLE_TELEMETRY=true
USER 1000:100
WORKDIR /work
CMD ["sentiflow", "--help"]
