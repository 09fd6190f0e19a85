//! `/api/v1`: everything that the pages do, for programs.

use crate::http::Route;

pub fn routes() -> impl Iterator<Item = Route> {
    std::iter::empty()
}
