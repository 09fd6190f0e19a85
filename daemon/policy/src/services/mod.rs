//! The services that the box drives and does not write: for each its settings, and the files that follow from the policy.
//!
//! A template is strict: a name that nobody set is an error, and a value with a control character is refused, since it could end a line and
//! begin a directive of its own.

pub mod admin_front;
pub mod dhcp;

use std::collections::BTreeMap;

use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value};

use crate::check::Checked;
use crate::plan::{File, UnitState};

/// Every service's files, by path below the folder of files.
pub fn files(checked: &Checked) -> BTreeMap<String, File> {
    let front = admin_front::file(&admin_front::Settings::of(checked));
    std::iter::once(front).chain(dhcp::file(checked)).collect()
}

pub fn units(checked: &Checked) -> BTreeMap<String, UnitState> {
    let front = (admin_front::UNIT.to_owned(), UnitState::Running);
    let leases = dhcp::file(checked).map(|_| (dhcp::UNIT.to_owned(), UnitState::Running));
    std::iter::once(front).chain(leases).collect()
}

/// The template, filled in.
fn render(template: &str, settings: Value) -> Result<String, Error> {
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_formatter(|out, _, value| {
        // A formatter is asked for undefined values too, before strictness is.
        if value.is_undefined() {
            return Err(Error::new(ErrorKind::UndefinedError, "a setting that the template names is not there"));
        }
        let text = value.to_string();
        if text.chars().any(char::is_control) {
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                format!("{text:?} has a control character and could begin a directive of its own"),
            ));
        }
        out.write_str(&text).map_err(|_| Error::new(ErrorKind::WriteFailure, "writing to text"))
    });
    // The engine drops the last newline, which HAProxy asks for.
    environment.render_str(template, settings).map(|text| text + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use minijinja::context;

    #[test]
    fn a_value_cannot_begin_a_line_of_its_own() {
        assert_eq!(render("bind :{{ port }}\n", context! { port => 443 }).unwrap(), "bind :443\n");
        for bad in ["443\n    bind :80", "443\r", "443\0", "a\u{85}b"] {
            assert!(render("bind :{{ port }}", context! { port => bad }).is_err(), "{bad:?} passed");
        }
    }

    #[test]
    fn a_name_that_nobody_set_is_an_error() {
        for bad in ["{{ prot }}", "{{ settings.port }}", "{% if prot %}{% endif %}", "{{ port | default }}"] {
            assert!(render(bad, context! { port => 443 }).is_err(), "{bad:?} passed");
        }
    }
}
