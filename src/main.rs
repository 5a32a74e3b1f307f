//! voicebus.
fn main() {}
