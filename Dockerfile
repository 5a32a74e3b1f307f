# syntax=docker/dockerfile:1

# One image for every role: the command says which. No shell, no package manager,
# no root; certificates and the C library are all there is beside the binary.

FROM rust:1.95-slim-trixie AS build
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
    && cargo build --release --locked --bin voicebus \
    && mkdir /data

FROM gcr.io/distroless/cc-debian13:nonroot
# A new volume on /data takes over the owner of this directory.
COPY --from=build --chown=65532:65532 /data /data
COPY --from=build /src/target/release/voicebus /usr/local/bin/voicebus
ENTRYPOINT ["/usr/local/bin/voicebus"]
CMD ["--help"]
