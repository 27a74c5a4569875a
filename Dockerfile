# One image for every process of ours; docker-compose.yml says which command runs where.
FROM python:3.11.13-slim-bookworm AS build
WORKDIR /src
# The compiler of the scanner stays in this stage.
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/metering
COPY pyproject.toml hatch_build.py constraints.txt README.md LICENSE ./
COPY metering metering
COPY billing_sync billing_sync
RUN /opt/metering/bin/pip install --no-cache-dir --disable-pip-version-check -c constraints.txt '.[postgres,web]' \
    && /opt/metering/bin/pip uninstall --yes --quiet pip

FROM python:3.11.13-slim-bookworm
# A named volume takes its owner from the folder that the image has in its place.
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin metering \
    && install -d -o 10001 -g 10001 -m 0750 /var/lib/metering
COPY --from=build /opt/metering /opt/metering
ENV PATH=/opt/metering/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    METERING_HOME=/var/lib/metering
WORKDIR /var/lib/metering
USER 10001:10001
CMD ["metering", "--help"]
