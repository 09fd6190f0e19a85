//! Pages for people.

use crate::http::{Response, Route, Visit};
use crate::trouble::Trouble;

pub const ROUTES: &[Route] = &[];

/// Draws trouble.
pub fn error_page(_visit: &Visit, trouble: &Trouble) -> Response {
    Response::text(trouble.status(), format!("{}\n\n{trouble}\n", trouble.title()))
}
