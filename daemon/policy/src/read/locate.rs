//! From the path of a problem to its line.
//!
//! A typed policy remembers where resources and rules begin, not every address in them. When something is wrong with one, its
//! document is parsed once more and the path is followed to the very line.

use std::collections::BTreeMap;

use super::documents::{Document, documents};
use super::node::{self, Node, Value};
use crate::problem::{Problem, Problems};
use crate::source::Sources;

/// Moves each problem from the line on which its resource or rule begins to the line that it is about.
pub fn locate(sources: &Sources, problems: &mut [Problem]) {
    let mut files: BTreeMap<String, Vec<Document>> = BTreeMap::new();
    let mut trees: BTreeMap<(String, u32), Option<Node>> = BTreeMap::new();
    for problem in problems {
        let (Some(origin), Some((_, path))) = (&mut problem.origin, problem.path.split_once(".spec")) else { continue };
        let Some(text) = sources.0.get(&origin.file) else { continue };
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let documents = files.entry(origin.file.clone()).or_insert_with(|| documents(text));
        let Some(document) = documents.iter().rev().find(|document| document.line <= origin.line) else { continue };
        let parse = || {
            let mut budget = node::Budget(node::MOST_NODES);
            node::parse(&text[document.range.clone()], "", document.line, &mut budget, &mut Problems::default()).ok().flatten()
        };
        let tree = trees.entry((origin.file.clone(), document.line)).or_insert_with(parse);
        if let Some(line) = tree.as_ref().and_then(|root| field(root, "spec")).map(|spec| follow(spec, path)) {
            origin.line = line;
        }
    }
}

/// The line at the end of `.rules[2].services[0]`, or as far towards it as the text goes.
fn follow(spec: &Node, path: &str) -> u32 {
    let mut here = spec;
    for step in path.split(['.', '[']).filter(|step| !step.is_empty()) {
        let next = match (step.strip_suffix(']').and_then(|index| index.parse::<usize>().ok()), &here.value) {
            (Some(index), Value::List(nodes)) => nodes.get(index),
            // A single value that stands for a list of one.
            (Some(_), _) => Some(here),
            (None, _) => field(here, step),
        };
        match next {
            Some(next) => here = next,
            None => break,
        }
    }
    here.line
}

fn field<'n, 'a>(node: &'n Node<'a>, name: &str) -> Option<&'n Node<'a>> {
    match &node.value {
        Value::Map(entries) => entries.iter().find(|(key, _)| key.text == name).map(|(_, node)| node),
        _ => None,
    }
}
