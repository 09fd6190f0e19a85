//! What every form has in common: what was typed stays, what is wrong stands beside its field.

use super::page::Page;
use super::ui::{Field, Notice};
use crate::http::HeaderValue;
use crate::trouble::{FieldProblem, Trouble};

impl Page<'_> {
    /// Tells trouble in the form that caused it. Trouble that no form can tell ends the request.
    pub fn told(self, fields: &mut [Field], trouble: Option<Trouble>) -> Result<Self, Trouble> {
        match trouble {
            None => Ok(self),
            Some(Trouble::Fields(problems)) => {
                Ok(mark(fields, problems).into_iter().fold(self.status(422), |page, text| page.notice(Notice::bad(text))))
            }
            Some(trouble @ Trouble::TooMany { retry_after, .. }) => {
                let retry = HeaderValue::lossy(&retry_after.to_string());
                Ok(self.status(429).header("Retry-After", retry).notice(Notice::bad(super::error::sentence(&trouble))))
            }
            Some(
                trouble @ (Trouble::Conflict(_) | Trouble::SignIn(_) | Trouble::Refused(_) | Trouble::WentBack(_) | Trouble::NotFound(_)),
            ) => Ok(self.status(trouble.status()).notice(Notice::bad(super::error::sentence(&trouble)))),
            Some(trouble) => Err(trouble),
        }
    }
}

/// Puts each problem at its field; what belongs to none comes back as a sentence.
fn mark(fields: &mut [Field], problems: Vec<FieldProblem>) -> Vec<String> {
    let mut homeless = Vec::new();
    for problem in problems {
        match fields.iter_mut().find(|field| field.name == problem.field) {
            Some(field) => field.error = Some(format!("{} {}.", field.label, problem.message)),
            None => homeless.push(format!("{} {}.", problem.field, problem.message)),
        }
    }
    homeless
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_stands_at_its_field_and_no_problem_is_lost() {
        let mut fields = [Field::text("name", "User name", "x y")];
        let problem = |field: &str| FieldProblem { field: field.to_owned(), message: "is missing".to_owned() };
        let homeless = mark(&mut fields, vec![problem("name"), problem("elsewhere")]);
        assert_eq!(fields[0].error.as_deref(), Some("User name is missing."));
        assert_eq!(fields[0].value, "x y");
        assert_eq!(homeless, ["elsewhere is missing."]);
    }
}
