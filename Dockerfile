# One node of a payment system, and every command of it: a static binary, certificates of the public authorities and nothing
# else. Time zones are in the binary and beside it. Build with
#   docker build --build-arg VERSION=$(git describe --tags --always) -t lockstep .
FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
ARG VERSION=dev
# Without the tag `faults`: a release has no fault points.
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=${VERSION}" -o /out/lockstep . && \
    mkdir -p /out/tmp && chmod 1777 /out/tmp

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /usr/local/go/lib/time/zoneinfo.zip /usr/local/go/lib/time/zoneinfo.zip
COPY --from=build /out/tmp /tmp
COPY --from=build /out/lockstep /lockstep
ENV ZONEINFO=/usr/local/go/lib/time/zoneinfo.zip
# nobody of the host; files that it has to read are given to this group, or to all.
USER 65532:65532
EXPOSE 8080 9081
# SIGTERM, which Docker sends, drains.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/lockstep"]
CMD ["--help"]
