//! libFuzzer's entry to the target config.

#![no_main]

#[path = "../properties.rs"]
#[allow(dead_code, reason = "each program is one target of all")]
mod properties;

libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::config(data));
