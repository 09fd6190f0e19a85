//! From YAML text to a typed `Config`, reporting every problem on the way.
//!
//! ```text
//! file ──text──▶ characters allowed? ──documents──▶ cut at `---` ──node──▶ Node tree ──envelope──▶ Config
//! ```
//!
//! Work and memory are bounded by the size of the text: nothing in a policy is multiplied by what it says.

pub mod documents;
mod envelope;
mod input;
mod locate;
pub mod node;
pub mod text;

use crate::model::Config;
use crate::problem::Problems;
use crate::source::{Origin, Sources};

pub use envelope::{API_VERSION, KINDS, KindOf};
pub use locate::locate;

/// Reads every document of every file. What could be read is in the `Config`, what could not is in the `Problems`.
pub fn read(sources: &Sources) -> (Config, Problems) {
    let (mut config, mut problems) = (Config::default(), Problems::default());
    let mut budget = node::Budget(node::MOST_NODES);
    let files = text::readable(sources, &mut problems);
    config.gaps.document = !problems.is_empty();
    for (file, text) in files {
        let documents = documents::documents(text);
        if documents.len() > documents::MOST_DOCUMENTS {
            let message = format!("the file has more than {} documents; put fewer `---` lines into it", documents::MOST_DOCUMENTS);
            problems.at(&Origin { file, line: 1 }, "", message);
            config.gaps.document = true;
            continue;
        }
        for document in documents {
            if problems.is_full() {
                break;
            }
            match node::parse(&text[document.range], &file, document.line, &mut budget, &mut problems) {
                Ok(Some(root)) => envelope::read(&root, &file, &mut config, &mut problems),
                Ok(None) => (),
                Err(node::GivenUp) => config.gaps.document = true,
            }
        }
    }
    (config, problems)
}
