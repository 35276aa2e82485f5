FROM scratch
COPY supervisor /supervisor
ENTRYPOINT ["/supervisor"]
