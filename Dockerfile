# One image for every role: worker, page, migrate and the operator's commands.
ARG BASE=python:3.13-slim-bookworm

# The locked dependencies, in an environment that is copied whole: pip and its cache stay behind.
FROM ${BASE} AS dependencies
COPY requirements.lock /tmp/
RUN python3 -m venv --without-pip /opt/venv \
 && python3 -m pip --python /opt/venv/bin/python install --quiet --no-cache-dir --disable-pip-version-check \
      --require-hashes --only-binary :all: --requirement /tmp/requirements.lock

FROM ${BASE}
# A number, so that a cluster can see that it is not root. No name is needed in the image.
ARG USER_ID=10001
COPY --from=dependencies /opt/venv /opt/venv
WORKDIR /srv/po-pipeline
COPY LICENSE ./
COPY migrations migrations
COPY pipeline pipeline
COPY app app
# Compiled here because the running user may not write here.
RUN /opt/venv/bin/python -m compileall -q app pipeline migrations
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER ${USER_ID}:${USER_ID}
EXPOSE 8080
# Healthy means consuming. What kills unhealthy containers should ask `health live`: no restart brings Postgres back.
HEALTHCHECK --interval=15s --timeout=10s --start-period=30s --retries=2 \
  CMD ["python", "-m", "app", "health", "ready"]
# Exec form: SIGTERM reaches Python itself, which then hands its jobs back.
ENTRYPOINT ["python", "-m", "app"]
CMD ["worker"]
