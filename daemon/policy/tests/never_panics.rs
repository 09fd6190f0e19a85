//! Whatever comes in, an answer comes out. The fuzz targets (`fuzz/`) search deeper; these run always.

use policy::messages::{ApplierRequest, ApplierResponse, Inbox};
use policy::{Sources, compile, load, starting_points};
use proptest::prelude::*;

fn answers(text: &str) {
    let sources = Sources::single("any.yaml", text);
    let _ = policy::edit::resources(&sources);
    match load(&sources) {
        Ok(checked) => _ = compile(&checked).digest(),
        Err(problems) => {
            assert!(!problems.is_empty());
            assert!(!problems.to_string().contains(|c: char| c.is_control() && c != '\n'), "{problems:?}");
        }
    }
}

/// Words of the language, so that random texts get past its first gate.
fn word() -> impl Strategy<Value = String> {
    let words = [
        "apiVersion: portcullis/v1",
        "kind: ",
        "Zone",
        "System",
        "FirewallPolicy",
        "metadata: ",
        "name: ",
        "spec: ",
        "rules:",
        "from: ",
        "to: ",
        "lan",
        "any",
        "box",
        "action: accept",
        "services: ",
        "tcp/1-9",
        "icmp",
        "10.0.0.0/8",
        "fd00::1",
        "- ",
        "  ",
        "\n",
        "\n---\n",
        "{",
        "}",
        "[",
        "]",
        ", ",
        ": ",
        "\"",
        "'",
        "|",
        ">-",
        "&a ",
        "*a",
        "!!str ",
        "#",
        "?",
        "\\e",
        "\u{1b}",
        "\u{202e}",
        "\0",
        "0",
        "24:00",
        "null",
        "~",
        "true",
    ];
    prop_oneof![4 => prop::sample::select(words.to_vec()).prop_map(str::to_owned), 1 => "\\PC{0,6}"]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_text_is_answered(text in any::<String>()) {
        answers(&text);
    }

    #[test]
    fn any_words_of_the_language_are_answered(words in prop::collection::vec(word(), 0..80)) {
        answers(&words.concat());
    }

    /// One of the starting points with some bytes cut out and others put in.
    #[test]
    fn a_good_policy_with_a_wound_is_answered(point in 0..4_usize, at in any::<prop::sample::Index>(), cut in 0..40_usize, put in prop::collection::vec(word(), 0..4)) {
        let text = starting_points()[point].text;
        let boundary = |mut at: usize| { while !text.is_char_boundary(at) { at -= 1 } at };
        let start = boundary(at.index(text.len()));
        let end = boundary((start + cut).min(text.len()));
        answers(&format!("{}{}{}", &text[..start], put.concat(), &text[end.max(start)..]));
    }

    #[test]
    fn any_bytes_are_a_message_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300), body in "\\{\"request\":\"[A-Za-z]{0,12}\"[ -~]{0,80}\\}") {
        let framed = [&(body.len() as u32).to_be_bytes()[..], body.as_bytes()].concat();
        for bytes in [bytes, framed] {
            let mut requests = Inbox::default();
            requests.push(&bytes);
            while let Ok(Some(_)) = requests.take::<ApplierRequest>() {}
            let mut responses = Inbox::default();
            responses.push(&bytes);
            while let Ok(Some(_)) = responses.take::<ApplierResponse>() {}
        }
    }
}
