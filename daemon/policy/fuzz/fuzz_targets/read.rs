//! Any bytes as a policy: problems or a policy that compiles, never a panic, never a control character in a message.
#![no_main]

use libfuzzer_sys::fuzz_target;
use policy::{Sources, compile, load};

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let sources = Sources::single("fuzz.yaml", text);
    let _ = policy::edit::resources(&sources);
    match load(&sources) {
        Ok(checked) => _ = compile(&checked).digest(),
        Err(problems) => assert!(problems.0.iter().all(|problem| !problem.to_string().contains(char::is_control))),
    }
});
