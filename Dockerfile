# One image for every service of Darkroom. The extra `worker` brings torch and diffusers:
#   docker build .                               the API and the services
#   docker build --build-arg EXTRAS=[worker] .   a GPU worker
FROM python:3.11-slim AS build
ARG EXTRAS=""
WORKDIR /src
RUN python -m venv /venv
COPY pyproject.toml requirements.lock README.md ./
COPY api api
COPY domain domain
COPY gpu_worker gpu_worker
COPY migrations migrations
COPY projections projections
COPY services services
RUN /venv/bin/python -m pip install --no-cache-dir --constraint requirements.lock ".${EXTRAS}"

FROM python:3.11-slim
RUN useradd --uid 10001 --create-home darkroom && install -d -o darkroom -g darkroom /data /data/blobs
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    DARKROOM_DATA_DIR=/data
WORKDIR /home/darkroom
USER darkroom
ENTRYPOINT ["darkroom"]
CMD ["--help"]
