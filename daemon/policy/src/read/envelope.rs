//! The envelope that every resource has: `apiVersion`, `kind`, `metadata`, `spec`; and where each kind lives in a `Config`.

use serde_json::Value;

use super::node::{Node, Value as NodeValue};
use crate::model::{
    AddressSet, Assertion, Config, FirewallPolicy, Interface, NatPolicy, ProxyMapping, Resource, Route, Service, System, Upstream,
    UpstreamGroup, Zone,
};
use crate::name::{IfName, Name};
use crate::problem::{Problems, nearest, quote};
use crate::shape::{Cx, Definitions, Fields, Shape, Word, shape};
use crate::source::Origin;

pub const API_VERSION: &str = "portcullis/v1";

/// A kind of resource: how it is read into a `Config` and how its `spec` is described.
pub struct KindOf {
    pub kind: &'static str,
    /// The pattern of `metadata.name`.
    pub name_pattern: &'static str,
    pub name_says: &'static str,
    pub spec: fn(&mut Definitions) -> Value,
    read: fn(Envelope, &mut Config, &mut Cx),
}

/// Every kind, in the order in which people meet them.
pub const KINDS: [KindOf; 12] = [
    KindOf::of::<System>(),
    KindOf::of::<Interface>(),
    KindOf::of::<Zone>(),
    KindOf::of::<AddressSet>(),
    KindOf::of::<Service>(),
    KindOf::of::<FirewallPolicy>(),
    KindOf::of::<NatPolicy>(),
    KindOf::of::<Route>(),
    KindOf::of::<Upstream>(),
    KindOf::of::<UpstreamGroup>(),
    KindOf::of::<ProxyMapping>(),
    KindOf::of::<Assertion>(),
];

/// A type of the model that is a resource of its own.
trait Kind: Shape {
    const KIND: &'static str;
    type Name: Word + std::fmt::Display;
    /// Puts it where it belongs, or says where one of that name already is.
    fn put(config: &mut Config, name: Self::Name, resource: Resource<Self>) -> Result<(), Origin>;
}

macro_rules! kinds {
    ($($type:ident[$name:ty] in $place:ident),* $(,)?) => {$(
        impl Kind for $type {
            const KIND: &'static str = stringify!($type);
            type Name = $name;
            fn put(config: &mut Config, name: $name, resource: Resource<Self>) -> Result<(), Origin> {
                match config.$place.get(&name) {
                    Some(first) => Err(first.origin.clone()),
                    None => {
                        config.$place.insert(name, resource);
                        Ok(())
                    }
                }
            }
        }
    )*};
}

kinds! {
    Interface[IfName] in interfaces,
    Zone[Name] in zones,
    AddressSet[Name] in address_sets,
    Service[Name] in services,
    FirewallPolicy[Name] in firewall_policies,
    NatPolicy[Name] in nat_policies,
    Route[Name] in routes,
    Upstream[Name] in upstreams,
    UpstreamGroup[Name] in upstream_groups,
    ProxyMapping[Name] in proxy_mappings,
    Assertion[Name] in assertions,
}

impl Kind for System {
    const KIND: &'static str = "System";
    type Name = Name;
    fn put(config: &mut Config, name: Name, resource: Resource<Self>) -> Result<(), Origin> {
        match &config.system {
            Some((_, first)) => Err(first.origin.clone()),
            None => {
                config.system = Some((name, resource));
                Ok(())
            }
        }
    }
}

shape! {
    /// What the resource is called.
    #[derive(Debug)]
    struct Metadata {
        /// Unique among the resources of its kind.
        name: Title,
        /// For people.
        description: Option<String> = None,
    }
}

/// A name before it is known of which kind: each kind has its own rules.
#[derive(Debug)]
struct Title(String);

impl Word for Title {
    const WHAT: &'static str = "a name";
    const PATTERN: &'static str = "^[A-Za-z0-9._-]{1,40}$";
    const EXAMPLES: &'static [&'static str] = &["lan"];

    fn parse(text: &str) -> Result<Self, String> {
        Ok(Title(text.to_owned()))
    }
}

struct Envelope<'n, 'a> {
    line: u32,
    metadata: Option<Metadata>,
    spec: Option<&'n Node<'a>>,
}

/// Reads one document; an empty one is nothing.
pub(super) fn read(root: &Node, file: &str, config: &mut Config, problems: &mut Problems) {
    let mut cx = Cx::new(file, problems);
    if root.is_null() || matches!(root.value, NodeValue::Unusable) {
        return;
    }
    let Some(mut fields) = Fields::of(root, &mut cx) else {
        config.gaps.document = true;
        return;
    };
    if fields.node("api_version").is_none() && fields.node("kind").is_none() && fields.node("spec").is_none() {
        cx.problem(root.line, format!("this is no resource; one has the fields apiVersion ({API_VERSION}), kind, metadata and spec"));
        config.gaps.document = true;
        return;
    }
    api_version(&mut fields, &mut cx);
    let kind = kind(&mut fields, &mut cx);
    if let Some(kind) = kind {
        cx.enter_resource(kind.kind.to_owned());
    }
    let metadata = fields.take::<Metadata>("metadata", None, &mut cx);
    if let (Some(kind), Some(metadata)) = (kind, &metadata) {
        cx.enter_resource(format!("{}/{}", kind.kind, shown(&metadata.name.0)));
    }
    let envelope = Envelope { line: root.line, metadata, spec: fields.node("spec") };
    fields.finish(&mut cx);
    match kind {
        Some(kind) => (kind.read)(envelope, config, &mut cx),
        None => config.gaps.document = true,
    }
}

fn api_version(fields: &mut Fields, cx: &mut Cx) {
    let line = fields.line;
    match fields.node("api_version") {
        Some(Node { value: NodeValue::Scalar { text, .. }, .. }) if text == API_VERSION => (),
        Some(Node { value: NodeValue::Unusable, .. }) => (),
        Some(Node { value: NodeValue::Scalar { text, .. }, line, .. }) => {
            cx.field("api_version", |cx| cx.problem(*line, format!("{} is not known here; write {API_VERSION}", quote(text))));
        }
        Some(node) => {
            cx.field("api_version", |cx| cx.problem(node.line, format!("found {}; write apiVersion: {API_VERSION}", node.sort())))
        }
        None => cx.problem(line, format!("the field `apiVersion` is missing; write apiVersion: {API_VERSION}")),
    }
}

fn kind(fields: &mut Fields, cx: &mut Cx) -> Option<&'static KindOf> {
    let known = || KINDS.iter().map(|kind| kind.kind);
    let line = fields.line;
    match fields.node("kind") {
        Some(Node { value: NodeValue::Unusable, .. }) => None,
        Some(Node { value: NodeValue::Scalar { text, .. }, line, .. }) => {
            let found = KINDS.iter().find(|kind| kind.kind == text);
            if found.is_none() {
                let remedy = match nearest(text, known()) {
                    none if none.is_empty() => format!("; write one of {}", known().collect::<Vec<_>>().join(", ")),
                    near => near,
                };
                cx.field("kind", |cx| cx.problem(*line, format!("unknown kind {}{remedy}", quote(text))));
            }
            found
        }
        Some(node) => {
            cx.field("kind", |cx| cx.problem(node.line, format!("here must stand a kind; found {}", node.sort())));
            None
        }
        None => {
            cx.problem(line, format!("the field `kind` is missing; write one of {}", known().collect::<Vec<_>>().join(", ")));
            None
        }
    }
}

impl KindOf {
    const fn of<K: Kind>() -> Self {
        KindOf { kind: K::KIND, name_pattern: K::Name::PATTERN, name_says: K::Name::WHAT, spec: K::schema, read: read_kind::<K> }
    }
}

fn read_kind<K: Kind>(envelope: Envelope, config: &mut Config, cx: &mut Cx) {
    let name = envelope.metadata.as_ref().and_then(|metadata| {
        let parsed = K::Name::parse(&metadata.name.0);
        parsed.map_err(|message| cx.field("metadata", |cx| cx.field("name", |cx| cx.problem(envelope.line, message)))).ok()
    });
    let before = cx.problems.0.len();
    let spec = match envelope.spec {
        Some(node) => cx.field("spec", |cx| K::read(node, cx)),
        None => {
            cx.problem(envelope.line, "the field `spec` is missing; what the resource says stands there");
            None
        }
    };
    let shown = name.as_ref().map(|name| name.to_string());
    let (Some(name), Some(spec), Some(metadata)) = (name, spec, envelope.metadata) else {
        config.gaps.resources.insert((K::KIND.to_owned(), shown));
        return;
    };
    if cx.problems.0.len() > before {
        config.gaps.resources.insert((K::KIND.to_owned(), shown.clone()));
    }
    let resource = Resource { origin: cx.origin(envelope.line), description: metadata.description, spec };
    if let Err(first) = K::put(config, name, resource) {
        let message = match K::KIND {
            "System" => format!("a policy has one System, and one stands at {first} already; remove one of them"),
            kind => format!(
                "a {kind} named {} stands at {first} already; remove one of them or give it another name",
                shown.unwrap_or_default()
            ),
        };
        cx.problem(envelope.line, message);
    }
}

/// A name that may be anything, inside a path.
fn shown(name: &str) -> String {
    let plain = name.len() <= 60 && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
    if plain { name.to_owned() } else { quote(name) }
}
