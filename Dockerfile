# Pages and wheel are built in the first stage; node never reaches the second.
FROM python:3.12-slim AS build
WORKDIR /src
COPY . .
RUN pip wheel --no-cache-dir --wheel-dir /wheels '.[gateway,postgres]'

FROM python:3.12-slim
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir --no-index --find-links /wheels 'watchroom[gateway,postgres]' && rm -rf /wheels \
    && useradd --system --uid 10001 watchroom && install -d -o watchroom /data
USER watchroom
VOLUME /data
ENTRYPOINT ["watchroom"]
CMD ["--help"]
