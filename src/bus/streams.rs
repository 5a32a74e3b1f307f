//! Streams, consumers and buckets: create them or verify them.
