FROM scratch
COPY nats-server /nats-server
COPY nats.conf /nats.conf
ENTRYPOINT ["/nats-server", "--config", "/nats.conf"]
