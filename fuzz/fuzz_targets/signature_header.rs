#![no_main]

#[path = "../targets.rs"]
#[allow(dead_code, reason = "one of the targets is used here")]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::signature_header(data));
