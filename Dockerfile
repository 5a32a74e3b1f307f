# syntax=docker/dockerfile:1

# One image for every role: the command says which. It holds one static binary and
# nothing else: no shell, no package manager, no C library, no root.

FROM rust:1.95-alpine AS build
RUN apk add --no-cache musl-dev
WORKDIR /src
# Dependencies first: they change less often than the code, and this layer stays.
COPY Cargo.toml Cargo.lock ./
RUN mkdir src \
    && echo 'fn main() {}' > src/main.rs \
    && touch src/lib.rs \
    && cargo build --release --locked \
    && rm -r src
COPY . .
# The stand-ins above are newer than the files that were just copied.
RUN touch src/main.rs src/lib.rs \
    && cargo build --release --locked --bin voicebus

FROM scratch
# Certificates of the public authorities, for a voice server behind https.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /src/target/release/voicebus /usr/local/bin/voicebus
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/voicebus"]
CMD ["--help"]
