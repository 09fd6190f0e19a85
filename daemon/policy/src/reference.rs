//! The policy language as a page to read, from the same declarations as the reader and the schema.

use std::collections::BTreeSet;
use std::fmt::Write;

use serde_json::Value;

use crate::check::services::predefined;
use crate::model::Service;
use crate::schema::schema;

/// `docs/policy.md`, as Markdown: the kinds with their fields, the records inside them, the words, the predefined services.
pub fn reference() -> String {
    let schema = schema();
    let mut page = Page { definitions: &schema["$defs"], text: OPENING.to_owned(), told: BTreeSet::new() };
    for kind in list(&schema["oneOf"]) {
        page.kind(kind);
    }
    page.words();
    page.services();
    page.text
}

const OPENING: &str = "# The policy language

<!-- Generated from the types in daemon/policy/src/model by `UPDATE=1 cargo test -p policy --test reference`. -->

A policy is one or more YAML files. Each document in them is one resource:

```yaml
apiVersion: portcullis/v1
kind: Zone
metadata: { name: lan, description: optional }
spec: {}
```

The order of resources does not matter, except inside a list of rules. Where a list is asked for, a single value may stand alone. Anchors,
aliases and tags are not part of the language. `portcullis schema` prints a JSON Schema for editors; `portcullis check` names every
problem with its place and remedy; `portcullis new` prints a starting point.

";

struct Page<'a> {
    definitions: &'a Value,
    text: String,
    /// Records that have their own section already.
    told: BTreeSet<String>,
}

impl Page<'_> {
    fn kind(&mut self, kind: &Value) {
        let name = text(&kind["title"]);
        self.heading(2, name, text(&kind["description"]));
        if let Some(spec) = named(&kind["properties"]["spec"]) {
            self.record(spec);
        }
    }

    /// The fields of a definition, then of the records that its fields hold.
    fn record(&mut self, name: &str) {
        if !self.told.insert(name.to_owned()) {
            return;
        }
        let definition = resolved(self.definitions, name);
        let variants: Vec<&Value> = list(&definition["oneOf"]).iter().filter(|variant| variant["properties"].is_object()).collect();
        if variants.is_empty() {
            self.fields(definition, &|_| true);
        } else {
            self.variants(&variants);
        }
        let inside = variants.first().copied().unwrap_or(definition);
        for (_, field) in entries(&inside["properties"]) {
            if let Some(record) = named(field).filter(|name| self.is_record(name) && !self.told.contains(*name)) {
                self.heading(3, record, text(&self.definitions[record]["description"]));
                self.record(record);
            }
        }
    }

    /// What all variants share once, then what each has of its own.
    fn variants(&mut self, variants: &[&Value]) {
        let everywhere = |name: &str| variants.iter().all(|variant| variant["properties"][name].is_object());
        let chooses = |name: &str| variants.iter().all(|variant| variant["properties"][name]["const"].is_string());
        self.fields(variants[0], &|name| everywhere(name) && !chooses(name));
        for variant in variants {
            for (tag, word) in entries(&variant["properties"]).filter(|(name, _)| chooses(name)) {
                let or_without = if word["default"].is_null() { "" } else { ", or without it" };
                let says = sentence(text(&variant["description"]));
                let _ = writeln!(self.text, "With `{tag}: {}`{or_without}: {says}\n", text(&word["const"]));
            }
            self.fields(variant, &|name| !everywhere(name));
        }
    }

    fn fields(&mut self, record: &Value, wanted: &dyn Fn(&str) -> bool) {
        let fields: Vec<_> = entries(&record["properties"]).filter(|(name, _)| wanted(name)).collect();
        if fields.is_empty() {
            return self.text.push_str("It has no further fields.\n\n");
        }
        self.text.push_str("| field | holds | default | |\n| --- | --- | --- | --- |\n");
        for (name, field) in fields {
            let required = list(&record["required"]).iter().any(|required| required == name);
            let default = match &field["default"] {
                Value::Null if required => "**required**".to_owned(),
                Value::Null => String::new(),
                Value::String(word) => format!("`{word}`"),
                other => format!("`{other}`"),
            };
            let _ = writeln!(self.text, "| `{name}` | {} | {default} | {} |", self.holds(field), cell(text(&field["description"])));
        }
        self.text.push('\n');
    }

    /// What may stand in a field, in a word or two that lead on.
    fn holds(&self, field: &Value) -> String {
        if let Some(name) = field["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
            return link(name);
        }
        match (field["type"].as_str(), list(&field["anyOf"])) {
            (_, [one, many]) if many["type"] == "array" => format!("list of {}", self.holds(one)),
            (_, ways @ [_, ..]) => ways.iter().map(|way| self.holds(way)).collect::<Vec<_>>().join(" or "),
            (Some("boolean"), _) => "`true` or `false`".into(),
            (Some("integer"), _) => "a number".into(),
            (Some("string"), _) => "text".into(),
            (Some("object"), _) => {
                let names: Vec<String> = entries(&field["properties"]).map(|(name, _)| format!("`{name}`")).collect();
                format!("fields {}", names.join(", "))
            }
            (Some("array"), _) => format!("list of {}", self.holds(&field["items"])),
            _ => String::new(),
        }
    }

    fn words(&mut self) {
        self.heading(2, "Words", "What the fields above hold.");
        for (name, definition) in entries(self.definitions) {
            if self.is_record(name) || matches!(name.as_str(), "Text" | "RouteFields") {
                continue;
            }
            self.heading(3, name, text(&definition["description"]));
            for choice in list(&definition["oneOf"]) {
                let _ = writeln!(self.text, "* `{}`: {}", text(&choice["const"]), text(&choice["description"]));
            }
            let first = list(&definition["anyOf"]).first().unwrap_or(definition);
            let examples: Vec<String> = list(&first["examples"]).iter().map(|example| format!("`{}`", text(example))).collect();
            if !examples.is_empty() {
                let _ = writeln!(self.text, "For example: {}.", examples.join(", "));
            }
            self.text.push('\n');
        }
    }

    fn services(&mut self) {
        self.heading(2, "Predefined services", "They can be named without being defined; a `Service` of the same name replaces one.");
        self.text.push_str("| name | what it is |\n| --- | --- |\n");
        for (name, service) in predefined() {
            let _ = writeln!(self.text, "| `{name}` | {} |", cell(&described(service)));
        }
    }

    fn is_record(&self, name: &str) -> bool {
        let definition = resolved(self.definitions, name);
        definition["properties"].is_object() || list(&definition["oneOf"]).iter().any(|variant| variant["properties"].is_object())
    }

    fn heading(&mut self, level: usize, title: &str, description: &str) {
        let _ = writeln!(self.text, "{} {title}\n", "#".repeat(level));
        if !description.is_empty() {
            let _ = writeln!(self.text, "{}\n", sentence(description));
        }
    }
}

/// `Route` is its fields and a condition on them.
fn resolved<'a>(definitions: &'a Value, name: &str) -> &'a Value {
    let definition = &definitions[name];
    list(&definition["allOf"]).first().and_then(named).map_or(definition, |fields| &definitions[fields])
}

/// `tcp 53; udp 53`
fn described(service: &Service) -> String {
    fn words<T: ToString>(what: &str, values: &[T]) -> Option<String> {
        let values: Vec<String> = values.iter().map(T::to_string).collect();
        (!values.is_empty()).then(|| format!("{what} {}", values.join(", ")).trim_start().to_owned())
    }
    let lists = [
        words("tcp", &service.tcp),
        words("udp", &service.udp),
        words("sctp", &service.sctp),
        words("icmp", &service.icmp),
        words("icmpv6", &service.icmpv6),
        words("", &service.protocols),
    ];
    lists.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// The definition that a field, or the items of its list, refers to.
fn named(field: &Value) -> Option<&str> {
    let direct = field["$ref"].as_str().or_else(|| field["items"]["$ref"].as_str());
    let path = direct.or_else(|| list(&field["anyOf"]).first().and_then(|way| way["$ref"].as_str()));
    path.and_then(|path| path.rsplit('/').next())
}

fn link(name: &str) -> String {
    if name == "Text" { "text".into() } else { format!("[{name}](#{})", name.to_lowercase()) }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

/// A vertical line would end the cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let whole: String = chars.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(chars).collect();
    if whole.ends_with(['.', ':', '?']) { whole } else { format!("{whole}.") }
}
