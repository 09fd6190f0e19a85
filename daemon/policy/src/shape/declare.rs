//! The declaration: `shape! { … }` around a struct or enum of the model.

/// Declares a type of the model together with its [`crate::shape::Shape`].
///
/// * A struct: `pub field: Type` is required, `pub field: Type = default` is not. Names are camelCase in the text.
/// * An enum of bare variants: one word of the text for each.
/// * An enum marked `#[tag = "type"]`: the variant is chosen by that field, and its own fields stand beside it. Where such a field
///   has a default, that names the variant which is meant when the field is left out.
macro_rules! shape {
    (
        $(#[doc = $doc:literal])*
        #[derive($($derive:ident),* $(,)?)]
        $vis:vis struct $type:ident { $($(#[doc = $field_doc:literal])* $field_vis:vis $field:ident: $of:ty $(= $default:expr)?),* $(,)? }
    ) => {
        $(#[doc = $doc])*
        #[derive($($derive),*)]
        $vis struct $type { $($(#[doc = $field_doc])* $field_vis $field: $of),* }

        impl $crate::shape::Shape for $type {
            fn read(node: &$crate::read::node::Node, cx: &mut $crate::shape::Cx) -> Option<Self> {
                let mut fields = $crate::shape::Fields::of(node, cx)?;
                $(let $field = <$of as $crate::shape::Shape>::from_fields(
                    &mut fields, stringify!($field), $crate::shape::shape!(@default $($default)?), cx);)*
                fields.finish(cx);
                Some($type { $($field: $field?),* })
            }

            fn schema(definitions: &mut $crate::shape::Definitions) -> serde_json::Value {
                definitions.named(stringify!($type), |definitions| {
                    let mut object = $crate::shape::Object::new(&[$($doc),*]);
                    $(<$of as $crate::shape::Shape>::into_object(
                        &mut object, stringify!($field), &[$($field_doc),*], $crate::shape::shape!(@default $($default)?), definitions);)*
                    object.schema()
                })
            }
        }
    };

    (
        $(#[doc = $doc:literal])*
        #[derive($($derive:ident),* $(,)?)]
        $vis:vis enum $type:ident { $($(#[doc = $variant_doc:literal])* $variant:ident),* $(,)? }
    ) => {
        $(#[doc = $doc])*
        #[derive($($derive),*)]
        $vis enum $type { $($(#[doc = $variant_doc])* $variant),* }

        impl $crate::shape::Shape for $type {
            fn read(node: &$crate::read::node::Node, cx: &mut $crate::shape::Cx) -> Option<Self> {
                $crate::shape::choose(node, &[$((stringify!($variant), $type::$variant)),*], cx)
            }

            fn schema(definitions: &mut $crate::shape::Definitions) -> serde_json::Value {
                definitions.named(stringify!($type), |_| {
                    $crate::shape::choice(&[$($doc),*], &[$((stringify!($variant), &[$($variant_doc),*])),*])
                })
            }

            fn shown(&self) -> Option<serde_json::Value> {
                match self { $($type::$variant => Some($crate::shape::word_of(stringify!($variant)).into())),* }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&match self { $($type::$variant => $crate::shape::word_of(stringify!($variant))),* })
            }
        }
    };

    (
        #[tag = $tag:literal]
        $(#[doc = $doc:literal])*
        #[derive($($derive:ident),* $(,)?)]
        $vis:vis enum $type:ident { $(
            $(#[doc = $variant_doc:literal])*
            $variant:ident { $($(#[doc = $field_doc:literal])* $field:ident: $of:ty $(= $default:expr)?),* $(,)? }
        ),* $(,)? }
    ) => {
        $(#[doc = $doc])*
        #[derive($($derive),*)]
        $vis enum $type { $($(#[doc = $variant_doc])* $variant { $($(#[doc = $field_doc])* $field: $of),* }),* }

        impl $crate::shape::Shape for $type {
            fn read(node: &$crate::read::node::Node, cx: &mut $crate::shape::Cx) -> Option<Self> {
                let mut fields = $crate::shape::Fields::of(node, cx)?;
                let read = Self::from_fields(&mut fields, $tag, None, cx);
                fields.finish(cx);
                read
            }

            fn from_fields(
                fields: &mut $crate::shape::Fields, _name: &'static str, default: Option<fn() -> Self>, cx: &mut $crate::shape::Cx,
            ) -> Option<Self> {
                let known = [$(stringify!($variant)),*];
                let default = default.map(|default| match default() { $($type::$variant { .. } => stringify!($variant)),* });
                let chosen = fields.tag($tag, &known, default, cx);
                $($(
                    if chosen != Some(stringify!($variant)) {
                        fields.known_elsewhere(stringify!($field), $tag, stringify!($variant));
                    }
                )*)*
                match chosen? {
                    $(stringify!($variant) => {
                        $(let $field = <$of as $crate::shape::Shape>::from_fields(
                            fields, stringify!($field), $crate::shape::shape!(@default $($default)?), cx);)*
                        Some($type::$variant { $($field: $field?),* })
                    })*
                    _ => None,
                }
            }

            fn schema(definitions: &mut $crate::shape::Definitions) -> serde_json::Value {
                definitions.named(stringify!($type), |definitions| {
                    let mut object = $crate::shape::Object::new(&[$($doc),*]);
                    Self::into_object(&mut object, $tag, &[], None, definitions);
                    object.schema()
                })
            }

            fn into_object(
                object: &mut $crate::shape::Object, _name: &'static str, _docs: &[&str], default: Option<fn() -> Self>,
                definitions: &mut $crate::shape::Definitions,
            ) {
                let default = default.map(|default| match default() { $($type::$variant { .. } => stringify!($variant)),* });
                $({
                    #[allow(unused_mut)]
                    let mut variant = $crate::shape::Object::new(&[$($variant_doc),*]);
                    variant.tag($tag, stringify!($variant), default == Some(stringify!($variant)));
                    $(<$of as $crate::shape::Shape>::into_object(
                        &mut variant, stringify!($field), &[$($field_doc),*], $crate::shape::shape!(@default $($default)?), definitions);)*
                    object.variant(variant);
                })*
            }
        }
    };

    (@default) => { None };
    (@default $default:expr) => { Some(|| $default) };
}

pub(crate) use shape;
