//! Pages from templates that are part of the binary. An undefined name is an error, and HTML is escaped by default.

use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};

use crate::trouble::Trouble;

mod embedded {
    include!(concat!(env!("OUT_DIR"), "/embedded.rs"));
}
pub use embedded::ASSETS;

pub struct Templates {
    environment: Environment<'static>,
}

impl Templates {
    /// Every embedded template is parsed here, so that a broken one stops the start and not a page at night.
    pub fn new() -> Result<Self, minijinja::Error> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|name| if name.ends_with(".html") { AutoEscape::Html } else { AutoEscape::None });
        for (name, text) in embedded::TEMPLATES {
            environment.add_template(name, text)?;
        }
        Ok(Templates { environment })
    }

    pub fn render(&self, name: &str, context: impl Into<Value>) -> Result<String, Trouble> {
        let failed = |error: minijinja::Error| Trouble::Internal(format!("the page {name} could not be drawn: {error:#}"));
        self.environment.get_template(name).map_err(failed)?.render(context).map_err(failed)
    }

    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        embedded::TEMPLATES.iter().map(|(name, _)| *name)
    }
}
