//! The supervised nats-server of `voicebus up`.
