//! Any bytes as a message from a peer: decoded or refused, never a panic, and never more memory than the bytes that came.
#![no_main]

use libfuzzer_sys::fuzz_target;
use policy::messages::{ApplierRequest, ApplierResponse, Inbox};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(request) = serde_json::from_slice::<ApplierRequest>(bytes) {
        let again = serde_json::to_vec(&request).unwrap();
        assert_eq!(serde_json::from_slice::<ApplierRequest>(&again).unwrap(), request);
    }
    let _ = serde_json::from_slice::<ApplierResponse>(bytes);
    let mut inbox = Inbox::default();
    inbox.push(bytes);
    while let Ok(Some(_)) = inbox.take::<ApplierRequest>() {}
});
