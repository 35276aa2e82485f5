FROM scratch
COPY executor /executor
ENTRYPOINT ["/executor"]
