//! One resource put in, replaced or taken out of a policy's text; every other byte stays as its author wrote it.
//!
//! A resource's own text is its document without the `---` line before it, without blank lines around it, and without comments that
//! stand apart from it: those belong to the file. So a heading survives when the resource below it is replaced.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::problem::{Problems, quote};
use crate::read::documents::{Document, documents};
use crate::read::node::{self, Node, Value};
use crate::source::Sources;

/// A resource as it stands in the text. Only what is YAML and has a kind and a name can be listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<'s> {
    pub kind: String,
    pub name: String,
    pub file: &'s str,
    /// The line of the file on which `text` begins, from 1.
    pub line: u32,
    pub text: &'s str,
}

/// Why an edit was not made, in words for the one who asked for it. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("there is no {kind} named {}", quote(name))]
    NotThere { kind: String, name: String },
    #[error("{kind} {name} stands in the policy already, at {file}:{line}; replace it or choose another name")]
    AlreadyThere { kind: String, name: String, file: String, line: u32 },
    #[error("{kind} {name} stands in the policy more than once; edit the text as a whole and keep one of them")]
    Twice { kind: String, name: String },
    #[error("the text holds {kind} {name}, and {wanted} is to be replaced; they must be the same")]
    Other { kind: String, name: String, wanted: String },
    #[error("the text is not one resource: {0}")]
    NotOne(String),
}

/// Every resource that can be told apart, in the order of files and lines.
pub fn resources(sources: &Sources) -> Vec<Entry<'_>> {
    let in_file =
        |(file, text)| found(text).map(move |Found { kind, name, body, line, .. }| Entry { kind, name, file, line, text: &text[body] });
    sources.0.iter().map(|(file, text)| (file.as_str(), text.as_str())).flat_map(in_file).collect()
}

/// The same policy with this resource's text in the place of the old one.
pub fn replace(sources: &Sources, kind: &str, name: &str, text: &str) -> Result<Sources, Refused> {
    let new = alone(text)?;
    if (new.kind.as_str(), new.name.as_str()) != (kind, name) {
        return Err(Refused::Other { kind: new.kind, name: new.name, wanted: format!("{kind} {}", quote(name)) });
    }
    let (file, place) = only(sources, kind, name)?;
    let marker = marker(&sources.0[&file], &place);
    Ok(spliced(sources, &file, place.body, &format!("{marker}{}", new.text)))
}

/// The same policy with this resource at the end of the file, which is made if it is not there.
pub fn insert(sources: &Sources, file: &str, text: &str) -> Result<Sources, Refused> {
    let new = alone(text)?;
    if let Some(there) = resources(sources).into_iter().find(|entry| entry.kind == new.kind && entry.name == new.name) {
        return Err(Refused::AlreadyThere { kind: new.kind, name: new.name, file: there.file.to_owned(), line: there.line });
    }
    let mut edited = sources.clone();
    append(&mut edited, file, &new.text);
    Ok(edited)
}

/// The same policy with each of these in the place of the one of its kind and name, or else at the end of the file. One pass over
/// the text, however many they are.
pub fn put(sources: &Sources, file: &str, texts: &[String]) -> Result<Sources, Refused> {
    let mut new: BTreeMap<(String, String), String> = BTreeMap::new();
    let mut order = Vec::new();
    for text in texts {
        let Alone { kind, name, text } = alone(text)?;
        order.push((kind.clone(), name.clone()));
        if new.insert((kind.clone(), name.clone()), text).is_some() {
            return Err(Refused::Twice { kind, name });
        }
    }
    let mut edited = sources.clone();
    for text in edited.0.values_mut() {
        // From the end, so that the places before stay where they are.
        for place in found(text).collect::<Vec<_>>().into_iter().rev() {
            if let Some(resource) = new.remove(&(place.kind.clone(), place.name.clone())) {
                text.replace_range(place.body.clone(), &format!("{}{resource}", marker(text, &place)));
            }
        }
    }
    for resource in order.iter().filter_map(|key| new.remove(key)) {
        append(&mut edited, file, &resource);
    }
    match resources(&edited).into_iter().fold(BTreeMap::new(), counted).into_iter().find(|(key, count)| order.contains(key) && *count > 1) {
        Some(((kind, name), _)) => Err(Refused::Twice { kind, name }),
        None => Ok(edited),
    }
}

fn counted(mut counts: BTreeMap<(String, String), usize>, entry: Entry<'_>) -> BTreeMap<(String, String), usize> {
    *counts.entry((entry.kind, entry.name)).or_default() += 1;
    counts
}

/// A body that begins on the line of its `---` takes that line with it.
fn marker(text: &str, place: &Found) -> &'static str {
    if place.document.start == place.body.start && text[place.body.clone()].starts_with("---") { "---\n" } else { "" }
}

fn append(sources: &mut Sources, file: &str, text: &str) {
    let old = sources.0.entry(file.to_owned()).or_default();
    if !old.is_empty() {
        old.push_str(if old.ends_with('\n') { "---\n" } else { "\n---\n" });
    }
    old.push_str(text);
}

/// The same policy without this resource. A file in which nothing is left goes too.
pub fn delete(sources: &Sources, kind: &str, name: &str) -> Result<Sources, Refused> {
    let (file, place) = only(sources, kind, name)?;
    let text = &sources.0[&file];
    let gap = &text[place.document.start..place.body.start];
    // The `---` goes with its resource when nothing stands between them.
    let start = if gap.starts_with("---") && is_bare(gap) { place.document.start } else { place.body.start };
    let mut edited = spliced(sources, &file, start..place.body.end, "");
    if is_bare(&edited.0[&file]) {
        edited.0.remove(&file);
    }
    Ok(edited)
}

/// A resource inside one file.
struct Found {
    kind: String,
    name: String,
    document: Range<usize>,
    body: Range<usize>,
    /// Of the body.
    line: u32,
}

/// A text that is one resource, in the form in which it goes into a file.
struct Alone {
    kind: String,
    name: String,
    text: String,
}

fn alone(text: &str) -> Result<Alone, Refused> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let filled: Vec<Document> = documents(text).into_iter().filter(|document| !is_bare(&text[document.range.clone()])).collect();
    let [document] = filled.as_slice() else {
        return Err(Refused::NotOne(format!("it has {} documents; a `---` line separates them", filled.len())));
    };
    let own = &text[document.range.clone()];
    let (kind, name) = identity(own).ok_or_else(|| {
        Refused::NotOne("`kind` and `metadata.name` cannot be read from it; check its indentation, quotes and brackets".to_owned())
    })?;
    let own = own
        .strip_prefix("---")
        .filter(|rest| is_bare(rest.lines().next().unwrap_or_default()))
        .map_or(own, |rest| rest.split_once('\n').map_or("", |(_, rest)| rest));
    let own = own.trim_start_matches(['\n', '\r']);
    let end = if own.ends_with('\n') { "" } else { "\n" };
    Ok(Alone { kind, name, text: format!("{own}{end}") })
}

fn found(text: &str) -> impl Iterator<Item = Found> {
    documents(text).into_iter().filter_map(move |document| {
        let own = &text[document.range.clone()];
        let (kind, name) = identity(own)?;
        let inside = body(own);
        let line = document.line + own[..inside.start].matches('\n').count() as u32;
        let body = document.range.start + inside.start..document.range.start + inside.end;
        Some(Found { kind, name, document: document.range, body, line })
    })
}

fn only(sources: &Sources, kind: &str, name: &str) -> Result<(String, Found), Refused> {
    let mut places = sources
        .0
        .iter()
        .flat_map(|(file, text)| found(text).map(move |found| (file, found)))
        .filter(|(_, found)| found.kind == kind && found.name == name);
    let (kind, name) = (kind.to_owned(), name.to_owned());
    match (places.next(), places.next()) {
        (None, _) => Err(Refused::NotThere { kind, name }),
        (Some(_), Some(_)) => Err(Refused::Twice { kind, name }),
        (Some((file, place)), None) => Ok((file.clone(), place)),
    }
}

/// Kind and name of a document, as far as YAML goes; whether the kind exists is another question.
fn identity(document: &str) -> Option<(String, String)> {
    let root = node::parse(document, "", 1, &mut node::Budget(node::MOST_NODES), &mut Problems::default()).ok()??;
    let kind = scalar(field(&root, "kind")?)?;
    let name = scalar(field(field(&root, "metadata")?, "name")?)?;
    Some((kind, name))
}

fn field<'n, 'a>(node: &'n Node<'a>, name: &str) -> Option<&'n Node<'a>> {
    match &node.value {
        Value::Map(entries) => entries.iter().find(|(key, _)| key.text == name).map(|(_, node)| node),
        _ => None,
    }
}

fn scalar(node: &Node) -> Option<String> {
    match &node.value {
        Value::Scalar { text, .. } => Some(text.to_string()),
        _ => None,
    }
}

/// What of a document is the resource itself: its content with the comments directly above it.
fn body(document: &str) -> Range<usize> {
    let (mut start, mut end, mut attached, mut offset) = (None, 0, None, 0);
    for line in document.split_inclusive('\n') {
        let comment = line.starts_with('#');
        if is_bare(line) {
            attached = None;
        } else if comment {
            attached = attached.or(Some(offset));
        } else {
            start = start.or(attached).or(Some(offset));
            end = offset + line.len();
        }
        offset += line.len();
    }
    start.unwrap_or(end)..end
}

/// Nothing but blank lines, document marks and their comments.
fn is_bare(text: &str) -> bool {
    text.lines().all(|line| {
        let rest = line.strip_prefix("---").or_else(|| line.strip_prefix("...")).unwrap_or(line);
        rest.trim().is_empty() || (rest.len() < line.len() && rest.starts_with([' ', '\t']) && rest.trim_start().starts_with('#'))
    })
}

fn spliced(sources: &Sources, file: &str, range: Range<usize>, text: &str) -> Sources {
    let mut edited = sources.clone();
    if let Some(old) = edited.0.get_mut(file) {
        old.replace_range(range, text);
    }
    edited
}
