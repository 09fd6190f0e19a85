//! What a relay sends.
#![no_main]
#![allow(dead_code)]

#[path = "../../src/udp/socks.rs"]
mod socks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok((from, payload)) = socks::read(data) {
        let mut again = Vec::new();
        socks::write(&mut again, from);
        again.extend_from_slice(payload);
        assert_eq!(socks::read(&again), Ok((from, payload)));
    }
});
