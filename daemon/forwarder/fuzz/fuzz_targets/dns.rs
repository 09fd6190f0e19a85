//! A question and answers as strangers send them: DNS, its framing, and the HTTP around it.
#![no_main]
#![allow(dead_code)]

#[path = "../../src/dns/framing.rs"]
mod framing;
#[path = "../../src/dns/http.rs"]
mod http;
#[path = "../../src/dns/message.rs"]
mod message;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let split = data.first().map_or(0, |byte| usize::from(*byte)).min(data.len());
    let (asked, answer) = data.split_at(split);
    for text in [asked, answer, data] {
        if let Some(question) = message::Question::read(text) {
            _ = question.is_answered_by(answer);
            _ = question.answer(answer, true);
            assert!(question.is_answered_by(&question.refusal(message::Code::ServFail)));
        }
    }
    let mut arrived = data.to_vec();
    while framing::take(&mut arrived).is_some() {}
    let mut arrived = data.to_vec();
    while let Ok(Some(_)) = http::take(&mut arrived) {}
});
