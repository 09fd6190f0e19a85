//! The parser's input with a bound on what the parser keeps.
//!
//! A list or map in brackets may turn out to be the key of a map, so the scanner holds all of its tokens until the bracket closes: two
//! hundred bytes for each byte of `[1,1,1,…`. The parser has no limit of its own, so its input ends early instead.

use std::cell::Cell;

use saphyr_parser::StrInput;
use saphyr_parser::input::{Input, SkipTabs};

/// Characters that make a token, since the last event. 100,000 quoted IPv6 addresses in one bracket stay below.
const MOST_INDICATORS: u32 = 350_000;

/// Shared by the input, which counts, and whoever takes the events, which sets it back.
#[derive(Default)]
pub struct Held(Cell<u32>);

impl Held {
    /// An event came out. Once the input was cut off, it stays so.
    pub fn nothing(&self) {
        if !self.too_much() {
            self.0.set(0);
        }
    }

    /// Whether the input was cut off; the error that the parser then reports is not the author's.
    pub fn too_much(&self) -> bool {
        self.0.get() > MOST_INDICATORS
    }
}

pub struct Bounded<'a> {
    text: StrInput<'a>,
    held: &'a Held,
}

impl<'a> Bounded<'a> {
    pub fn new(text: &'a str, held: &'a Held) -> Self {
        Bounded { text: StrInput::new(text), held }
    }

    fn count(&mut self) {
        let token = match self.text.peek() {
            ',' | '[' | ']' | '{' | '}' | '"' | '\'' | '!' | '&' | '*' | '?' => true,
            ':' | '-' => matches!(self.text.peek_nth(1), ' ' | '\n' | ',' | '\0'),
            _ => false,
        };
        if token {
            self.held.0.set(self.held.0.get() + 1);
            if self.held.too_much() {
                let promised = self.text.buflen();
                self.text = StrInput::new("");
                self.text.lookahead(promised);
            }
        }
    }
}

/// Everything is passed on; `skip` is where indicators go by.
impl Input for Bounded<'_> {
    fn skip(&mut self) {
        self.count();
        self.text.skip();
    }

    fn skip_n(&mut self, count: usize) {
        self.text.skip_n(count);
    }

    fn lookahead(&mut self, count: usize) {
        self.text.lookahead(count);
    }

    fn buflen(&self) -> usize {
        self.text.buflen()
    }

    fn bufmaxlen(&self) -> usize {
        self.text.bufmaxlen()
    }

    fn raw_read_ch(&mut self) -> char {
        self.count();
        self.text.raw_read_ch()
    }

    fn raw_read_non_breakz_ch(&mut self) -> Option<char> {
        self.text.raw_read_non_breakz_ch()
    }

    fn peek(&self) -> char {
        self.text.peek()
    }

    fn peek_nth(&self, n: usize) -> char {
        self.text.peek_nth(n)
    }

    fn peek_opt(&self) -> Option<char> {
        self.text.peek_opt()
    }

    fn skip_ws_to_eol(&mut self, skip_tabs: SkipTabs) -> (usize, Result<SkipTabs, &'static str>) {
        self.text.skip_ws_to_eol(skip_tabs)
    }

    fn skip_while_non_breakz(&mut self) -> usize {
        self.text.skip_while_non_breakz()
    }

    fn skip_while_blank(&mut self) -> usize {
        self.text.skip_while_blank()
    }

    fn fetch_while_is_alpha(&mut self, out: &mut String) -> usize {
        self.text.fetch_while_is_alpha(out)
    }

    fn fetch_while_is_yaml_non_space(&mut self, out: &mut String) -> usize {
        self.text.fetch_while_is_yaml_non_space(out)
    }

    fn next_is_document_indicator(&self) -> bool {
        self.text.next_is_document_indicator()
    }

    fn next_is_document_start(&self) -> bool {
        self.text.next_is_document_start()
    }

    fn next_is_document_end(&self) -> bool {
        self.text.next_is_document_end()
    }

    fn next_can_be_plain_scalar(&self, in_flow: bool) -> bool {
        self.text.next_can_be_plain_scalar(in_flow)
    }
}
