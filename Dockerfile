# The service in a container. `docker-compose.yml` runs it with PostgreSQL and Prometheus.

FROM python:3.11-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY sql sql
COPY trafficlog trafficlog
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .
# Built as a wheel and installed from it, so that what runs is what a release would be.
RUN python -m venv /opt/trafficlog && /opt/trafficlog/bin/pip install --no-cache-dir /wheels/*.whl

FROM python:3.11-slim
# An ordinary user: the embedded PostgreSQL refuses to run as root, and nothing here needs root.
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/trafficlog trafficlog \
    # There beforehand, so that a volume mounted over it belongs to that user.
    && install --directory --owner=trafficlog --mode=0700 /var/lib/trafficlog/data
COPY --from=build /opt/trafficlog /opt/trafficlog
ENV PATH=/opt/trafficlog/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    TRAFFICLOG_LISTEN=0.0.0.0:8080 \
    TRAFFICLOG_DATA_DIR=/var/lib/trafficlog/data
USER trafficlog
WORKDIR /var/lib/trafficlog
EXPOSE 8080
# Ready means that the database answers and has the schema.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/readyz', timeout=4)"]
ENTRYPOINT ["trafficlog"]
CMD ["serve"]
